"""How long the answers to one client are, beside those to all."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from isochrone.fleet.learn import Average

_MEMORY = 40.0
_VARIANCE_MEMORY = 1000.0
_PRIOR_SAMPLES = 40.0
_PRIOR_WITHIN = 1.0
_PRIOR_BETWEEN = 1 / 8
"""Until more is seen: answers to one client spread as exponential lengths do, clients by about a third."""
_RATIO_MAX = 32.0
"""One answer counts for no more than this many expected ones: a node may lie about it."""
_SAMPLES_MIN, _SAMPLES_MAX = 1.0, 1000.0


@dataclass(slots=True)
class _Seen:
    """Sums over one client's answers, each a fading mean."""

    expected: Average = field(default_factory=lambda: Average(_MEMORY))
    tokens: Average = field(default_factory=lambda: Average(_MEMORY))

    @property
    def ratio(self) -> float:
        """Tokens over expected ones: one long answer weighs as much as it was expected to be."""
        return self.tokens.value / self.expected.value


class ClientShares:
    """A bounded memory of clients for one model; the one not heard of for longest gives way.

    What is believed of a client is shrunk to 1, what is expected of anybody: `1 + z * (ratio - 1)` with
    `z = n / (n + k)` for n answers. The right k is the variance of answers within a client over that between
    clients (Bühlmann, "Experience rating and credibility", ASTIN Bulletin 4, 1967), and both are measured
    over all clients: a new ratio and the mean of the ones before it have only the client in common, so the
    mean product of their distances from 1 is the variance between clients.

    Attributes:
        believed: the factor of each client remembered; read it, write nothing to it.
    """

    def __init__(self, clients_max: int) -> None:
        self._most = clients_max
        self._seen: dict[str, _Seen] = {}
        self._believed: dict[str, float] = {}
        self._total = Average(_VARIANCE_MEMORY, _PRIOR_WITHIN + _PRIOR_BETWEEN, _PRIOR_SAMPLES)
        self._between = Average(_VARIANCE_MEMORY, _PRIOR_BETWEEN, _PRIOR_SAMPLES)

    def __len__(self) -> int:
        return len(self._seen)

    @property
    def believed(self) -> Mapping[str, float]:
        """Factor by client; a window on what is believed, not a copy."""
        return self._believed

    @property
    def samples_to_half(self) -> float:
        """How many answers weigh as much as what is expected of anybody: k above."""
        between, within = self._between.value, self._total.value - self._between.value
        if between <= 0.0 or within >= _SAMPLES_MAX * between:
            return _SAMPLES_MAX
        return max(_SAMPLES_MIN, within / between)

    def learn(self, client: str, tokens: float, expected: float) -> None:
        """Fold in an answer of so many tokens to `client`, where so many were expected of anybody.

        `expected` must be above 0. Nothing is learned of a client without a name.
        """
        if not client or self._most <= 0:
            return
        tokens = min(tokens, _RATIO_MAX * expected)
        seen = self._seen.pop(client, None)
        if seen is None:
            seen = _Seen()
            while len(self._seen) >= self._most:
                oldest = next(iter(self._seen))
                del self._seen[oldest], self._believed[oldest]
        else:
            ratio = tokens / expected
            self._total.add((ratio - 1.0) ** 2)
            self._between.add((ratio - 1.0) * (seen.ratio - 1.0))
        seen.tokens.add(tokens)
        seen.expected.add(expected)
        self._seen[client] = seen
        self._believed[client] = 1.0 + self._weight(seen) * (seen.ratio - 1.0)

    def _weight(self, seen: _Seen) -> float:
        samples = seen.tokens.weight
        return samples / (samples + self.samples_to_half)
