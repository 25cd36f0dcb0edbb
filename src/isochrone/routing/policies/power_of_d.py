"""Power of d choices: draw a few nodes by lot, take the least loaded of them.

Reads: running and queued as last heard; with `own`, own requests sent since; with `weighted`, slots and
learned speeds. Source: Mitzenmacher, "The power of two choices in randomized load balancing", IEEE TPDS 2001;
d = 2 in Envoy, nginx and HAProxy. Weighted draws: Mukhopadhyay and Mazumdar, "Analysis of randomized
join-the-shortest-queue schemes in large heterogeneous processor-sharing systems", 2016. `own` adds our
own requests that the report can't know of yet; each counts once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from isochrone.routing.choice import Choice
from isochrone.routing.luck import Luck
from isochrone.routing.parameters import within


@dataclass(frozen=True, slots=True)
class Parameters:
    """How to draw and what to compare.

    Attributes:
        d: nodes drawn, 1 to 64.
        weighted: draw in proportion to capacity, and compare load for each unit of it.
        own: add our own requests that the report can't know of yet.
    """

    d: int = 2
    weighted: bool = False
    own: bool = False

    def __post_init__(self) -> None:
        within("d", self.d, 1, 64)


def rank(choice: Choice, luck: Luck, parameters: Parameters) -> Sequence[int]:
    """The drawn nodes, least loaded first; of equals the one drawn first."""
    columns = choice.columns
    if parameters.weighted:
        drawn = choice.draw_weighted(parameters.d, choice.service.capacity_per_s, luck)
    else:
        drawn = choice.draw(parameters.d, luck)
    load = columns.running[drawn] + columns.queued[drawn]
    if parameters.own:
        load += columns.own_unseen[drawn]
    if parameters.weighted:
        load = (load + 1.0) / choice.service.capacity_per_s[drawn]
    loads = dict(zip(drawn, load, strict=True))
    return sorted(drawn, key=loads.__getitem__)[: choice.wanted]
