"""Peak EWMA: of two nodes drawn by lot, the one with the smaller latency times requests outstanding there.

Reads: the peak-sensitive average of our own first tokens, own requests in flight. Source: Finagle's
`PeakEwma` with power of two choices, also Linkerd's; an average that follows a peak at once and forgets it
slowly (the decay is the fleet's `peak_memory_s`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isochrone.routing.choice import Choice
from isochrone.routing.luck import Luck
from isochrone.routing.parameters import within


@dataclass(frozen=True, slots=True)
class Parameters:
    """How many to compare, and what a node without a measurement counts for.

    Attributes:
        d: nodes drawn, 1 to 64. Finagle: 2.
        prior_ms: latency of a node without a measurement; 0 for Finagle's rule, which tries such a node at
            once but not twice before it answered. Linkerd: 30.
        penalty_ms: what Finagle adds for a node without a measurement that has a request outstanding.
    """

    d: int = 2
    prior_ms: float = 0.0
    penalty_ms: float = 1.4e8

    def __post_init__(self) -> None:
        within("d", self.d, 1, 64)
        within("prior_ms", self.prior_ms, 0)
        within("penalty_ms", self.penalty_ms, 0)


def rank(choice: Choice, luck: Luck, parameters: Parameters) -> Sequence[int]:
    """The drawn nodes, least cost first; of equals the one drawn first."""
    drawn = choice.draw(parameters.d, luck)
    peak_ms = choice.columns.ttft_peak_ms[drawn]
    pending = choice.columns.own_in_flight[drawn]
    peak_ms = np.where(peak_ms > 0, peak_ms, parameters.prior_ms)
    unknown = (peak_ms <= 0) & (pending > 0)
    costs = np.where(unknown, parameters.penalty_ms + pending, peak_ms * (pending + 1.0))
    cost_of = dict(zip(drawn, costs, strict=True))
    return sorted(drawn, key=cost_of.__getitem__)[: choice.wanted]
