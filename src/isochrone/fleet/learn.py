"""Small learners that forget: an average, a flow, and a straight line."""

from dataclasses import dataclass, field
from math import exp

_CHANGE_MAX = 3.0
"""A sample that took more than four times what was usual had other reasons."""


@dataclass(slots=True)
class Average:
    """An exponentially weighted mean that starts as a plain mean.

    Attributes:
        memory: about so many of the last samples count.
        weight: how many samples stand behind `value`, at most `memory`.
        spread: how far samples usually were from the value before them, a mean deviation (Jacobson 1988).
    """

    memory: float
    value: float = 0.0
    weight: float = 0.0
    spread: float = 0.0

    def add(self, sample: float) -> None:
        """Take one more sample in."""
        off, weight = sample - self.value, self.weight
        if weight:
            self.spread += (abs(off) - self.spread) / (weight if weight > 1.0 else 1.0)
        weight += 1.0
        weight = min(weight, self.memory)
        self.weight = weight
        self.value += off / weight


@dataclass(slots=True)
class Flow:
    """Work a second, averaged with an exponential window.

    Attributes:
        memory_s: time constant of the window.
    """

    memory_s: float
    _value: float = 0.0
    _at_s: float = 0.0

    def add(self, work_s: float, now_s: float) -> float:
        """Count `work_s` seconds of work that came in now; returns the flow as of now, that included.

        Below 0 takes back what was counted a moment ago.
        """
        self._value *= exp(-(now_s - self._at_s) / self.memory_s)
        self._value = max(0.0, self._value + work_s / self.memory_s)
        self._at_s = now_s
        return self._value

    def at(self, now_s: float) -> float:
        """Seconds of work that came in a second, as of now."""
        return self._value * exp(-(now_s - self._at_s) / self.memory_s)


@dataclass(slots=True)
class Peak:
    """An average that jumps up to a larger sample at once and comes down slowly (Finagle's Peak EWMA).

    Attributes:
        memory_s: time constant of forgetting.
        value: as of `at_s`; it decays towards 0 from there.
        at_s: when the last sample came.
    """

    memory_s: float
    value: float = 0.0
    at_s: float = 0.0

    def add(self, sample: float, now_s: float) -> None:
        """Take one more sample in."""
        kept = exp(-(now_s - self.at_s) / self.memory_s)
        self.value = max(sample, self.value * kept + sample * (1.0 - kept))
        self.at_s = now_s

    def at(self, now_s: float) -> float:
        """The average, decayed to now."""
        return self.value * exp(-(now_s - self.at_s) / self.memory_s)


@dataclass(slots=True)
class Effect:
    """How much of an expected change comes true, 0 to 1: least squares through the origin, from a prior of 1.

    With errors in what is expected it comes out lower, as the best prediction does then.

    Attributes:
        memory: about so many of the last samples count.
        prior: what the prior counts as, in squares of the changes expected.
    """

    memory: float
    prior: float = 1.0
    expected: float = 0.0
    seen: float = 0.0

    def add(self, expected: float, seen: float) -> None:
        """Take one more sample in: a relative change that was expected, and the one that came."""
        fade = 1.0 - 1.0 / self.memory
        self.expected = self.expected * fade + expected * expected
        self.seen = self.seen * fade + expected * min(max(seen, -1.0), _CHANGE_MAX)

    @property
    def value(self) -> float:
        """As now believed."""
        return min(1.0, max(0.0, (self.prior + self.seen) / (self.prior + self.expected)))


@dataclass(slots=True)
class Line:
    """`y = base + slope * x` by least squares over about the last `memory` samples, neither below 0.

    Weighted least squares on five sums that all fade by `1 - 1/memory` with each sample. Samples at one `x`
    say nothing of the slope; then, and until enough is seen, the prior's slope stands.

    Attributes:
        memory: about so many of the last samples count.
    """

    memory: float
    prior_base: float = 0.0
    prior_slope: float = 0.0
    weight: float = 0.0
    x: float = 0.0
    y: float = 0.0
    xx: float = 0.0
    xy: float = 0.0
    count: int = 0
    _fit: tuple[float, float] | None = field(default=None, compare=False, repr=False)

    def expect(self, base: float, slope: float, xs: tuple[float, float], samples: float) -> None:
        """Begin from a claim: as if `samples` samples had lain on that line, half of them at each of `xs`."""
        self.prior_base, self.prior_slope = base, slope
        for x in xs:
            self._fold(x, base + slope * x, samples / 2)

    def scale(self, factor: float, samples: float) -> None:
        """What is measured became `factor` times as much: keep the shape, weighing `samples` at most."""
        keep = min(1.0, samples / self.weight) if self.weight > 0.0 else 0.0
        self.weight *= keep
        self.x *= keep
        self.y *= keep * factor
        self.xx *= keep
        self.xy *= keep * factor
        self._fit = None

    def add(self, x: float, y: float) -> None:
        """Take one more sample in."""
        fade = 1.0 - 1.0 / self.memory
        self.weight = self.weight * fade + 1.0
        self.x = self.x * fade + x
        self.y = self.y * fade + y
        self.xx = self.xx * fade + x * x
        self.xy = self.xy * fade + x * y
        self.count += 1
        self._fit = None

    def fit(self) -> tuple[float, float]:
        """(base, slope) as now believed; asked for far more often than it changes."""
        if self._fit is None:
            self._fit = self._fitted()
        return self._fit

    def _fitted(self) -> tuple[float, float]:
        if self.weight <= 0.0:
            return self.prior_base, self.prior_slope
        mean_x, mean_y = self.x / self.weight, self.y / self.weight
        spread = self.xx / self.weight - mean_x * mean_x
        slope = self.prior_slope
        if spread > 1e-6 * (1.0 + mean_x * mean_x):
            slope = max(0.0, (self.xy / self.weight - mean_x * mean_y) / spread)
        base = mean_y - slope * mean_x
        if base < 0.0:
            return 0.0, mean_y / mean_x if mean_x > 0.0 else slope
        return base, slope

    @property
    def mean_x(self) -> float:
        """Where samples lately lay; 0 before the first."""
        return self.x / self.weight if self.count else 0.0

    def at(self, x: float) -> float:
        """The line's value at `x`."""
        base, slope = self.fit()
        return base + slope * x

    def _fold(self, x: float, y: float, samples: float) -> None:
        self._fit = None
        self.weight += samples
        self.x += samples * x
        self.y += samples * y
        self.xx += samples * x * x
        self.xy += samples * x * y
