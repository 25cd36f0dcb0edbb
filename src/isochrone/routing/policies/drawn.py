"""Drawn: draw a few nodes, uniformly or by capacity; take the least wait and service of them.

Reads: wait for a slot as corrected, learned speeds and slots; with `rtt_weight`, RTT. Source: power of d
choices (Mitzenmacher 2001) with the estimate in place of the queue, so that speeds may differ; the remedy for
stale state in the project's own table. Fewer draws the staler the state.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from isochrone.routing.choice import Choice
from isochrone.routing.luck import Luck
from isochrone.routing.parameters import within
from isochrone.routing.policies import least_delay


@dataclass(frozen=True, slots=True)
class Parameters(least_delay.Parameters):
    """How to draw and what to compare.

    Attributes:
        d: nodes drawn, 1 to 64.
        weighted: draw in proportion to capacity.
        corrected: for drain and own dispatches, instead of as last heard.
        others: and for what other gateways send, as the node's inflow tells.
        rtt_weight: of the round trip, beside wait and service; 0 leaves it out, as in the table.
    """

    d: int = 4
    weighted: bool = True

    def __post_init__(self) -> None:
        within("d", self.d, 1, 64)
        least_delay.Parameters.__post_init__(self)


def rank(choice: Choice, luck: Luck, parameters: Parameters) -> Sequence[int]:
    """The drawn nodes, least delay first; of equals the one drawn first."""
    if parameters.weighted:
        drawn = choice.draw_weighted(parameters.d, choice.service.capacity_per_s, luck)
    else:
        drawn = choice.draw(parameters.d, luck)
    delays_s = least_delay.delay_s(choice, parameters)
    return sorted(drawn, key=delays_s.__getitem__)[: choice.wanted]
