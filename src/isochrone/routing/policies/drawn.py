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
from isochrone.routing.policies.least_delay import delay_s


@dataclass(frozen=True, slots=True)
class Parameters:
    """How to draw and what to compare.

    Attributes:
        d: nodes drawn, 1 to 64.
        weighted: draw in proportion to capacity.
        corrected: compare the wait as corrected, not as last heard.
        rtt_weight: of the round trip, beside wait and service; 0 leaves it out, as in the table.
    """

    d: int = 4
    weighted: bool = True
    corrected: bool = True
    rtt_weight: float = 0.0

    def __post_init__(self) -> None:
        within("d", self.d, 1, 64)
        within("rtt_weight", self.rtt_weight, 0)


def rank(choice: Choice, luck: Luck, parameters: Parameters) -> Sequence[int]:
    """The drawn nodes, least delay first; of equals the one drawn first."""
    if parameters.weighted:
        drawn = choice.draw_weighted(parameters.d, choice.service.capacity_per_s, luck)
    else:
        drawn = choice.draw(parameters.d, luck)
    delays_s = delay_s(choice, parameters.rtt_weight, corrected=parameters.corrected)
    return sorted(drawn, key=delays_s.__getitem__)[: choice.wanted]
