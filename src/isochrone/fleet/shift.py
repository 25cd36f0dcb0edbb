"""Whether samples still lie where a line says, or the thing that is measured has changed."""

from dataclasses import dataclass, field
from math import exp, log

from isochrone.fleet.learn import Average, Line

_SLACK = 0.75
"""Usual spreads that each residual may lie off for nothing: half of the least change worth noticing."""
_LIMIT = 6.0
"""Spreads beyond the slack, summed, at which a change is believed."""
_CUT = 3.0
"""One residual counts as so many spreads at most, so no fewer than three in a row make a change."""
_SPREAD_PRIOR, _SPREAD_PRIOR_SAMPLES = 0.2, 3.0
_SPREAD_LEAST = 0.05
"""Below this share of the value nothing is a change: clocks and token counts are not finer."""
_SIGMA = 1.2533
"""Standard deviation of a normal variable over its mean deviation, sqrt(pi / 2)."""
_LOG_MOST = 7.0


@dataclass(slots=True)
class _Run:
    """What is summed on one side since it was last 0; of its residuals, as far as they speak for a change."""

    sum: float = 0.0
    residuals: float = 0.0
    weight: float = 0.0

    def add(self, score: float, residual: float) -> None:
        self.sum += score - _SLACK
        if (weight := score - _SLACK) > 0.0:
            self.residuals += weight * residual
            self.weight += weight
        if self.sum <= 0.0:
            self.clear()

    def clear(self) -> None:
        self.sum = self.residuals = self.weight = 0.0


class Shift:
    """A two-sided cumulative sum of residuals (Page, "Continuous inspection schemes", 1954).

    Residuals are logarithms of sample over expectation, so that twice and half weigh the same, in units of
    their own usual spread, which is a mean deviation as TCP keeps of its round trips (Jacobson, "Congestion
    avoidance and control", 1988). Like the sum, it takes each residual in only up to a cut, so what is
    rare stays news.
    """

    __slots__ = ("_down", "_spread", "_up")

    def __init__(self, memory: float) -> None:
        self._up, self._down = _Run(), _Run()
        self._spread = Average(memory, _SPREAD_PRIOR, _SPREAD_PRIOR_SAMPLES)

    @property
    def spread(self) -> float:
        """Mean absolute residual, as a share of the value."""
        return self._spread.value

    def seen(self, sample: float, expected: float) -> float | None:
        """Take in one sample and what was expected of it.

        Returns how many times the expectation what is measured has become, once that is beyond doubt; None
        otherwise.
        """
        if sample <= 0.0 or expected <= 0.0:
            return None
        residual = max(-_LOG_MOST, min(_LOG_MOST, log(sample) - log(expected)))
        sigma = _SIGMA * max(_SPREAD_LEAST, self._spread.value)
        score = max(-_CUT, min(_CUT, residual / sigma))
        self._spread.add(abs(score) * sigma)
        up, down = self._up, self._down
        if score > _SLACK or up.sum:  # else a sum of 0 stays 0
            up.add(score, residual)
        if score < -_SLACK or down.sum:
            down.add(-score, residual)
        run = up if up.sum > down.sum else down
        if run.sum <= _LIMIT:
            return None
        factor = exp(run.residuals / run.weight)
        up.clear()
        down.clear()
        return factor


@dataclass(slots=True)
class SpeedLine(Line):
    """A line that is believed anew, in a few samples, when what it measures changes.

    Attributes:
        changed_samples: what was learned before a change counts as so many samples at most.
        changes: how many were believed.
    """

    changed_samples: float = 3.0
    changes: int = 0
    shift: Shift = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        self.shift = Shift(self.memory)

    @property
    def spread(self) -> float:
        """How far samples usually lie from the line, as a share of its value; 0 before the first."""
        return self.shift.spread if self.count else 0.0

    def add(self, x: float, y: float) -> None:
        """Take one more sample in."""
        factor = self.shift.seen(y, self.at(x))
        if factor is not None:
            self.scale(factor, self.changed_samples)
            self.changes += 1
        Line.add(self, x, y)
