"""Soonest: the node with the least estimated time, all terms counted. Ours, and the default.

Reads: the whole estimate; the plan; nodes that announced idle; who holds the prompt's prefix. Source:
`isochrone.routing.estimate`, `isochrone.routing.planning` and `isochrone.routing.homes`; shortest expected
delay, with the network, model loading, cached prefix and uncertainty in the delay.

Candidates are the best of the nodes that are ours by the plan, of which our own ledger knows most, and those
that hold a prefix of the prompt. Where nothing is ours, or all of it is crowded, nodes drawn by the plan's
weights (many gateways that all took the best would herd) and nodes that told us, and only us, that they
became idle. The least estimate of them wins.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from isochrone.model import Floats
from isochrone.routing.choice import Choice
from isochrone.routing.luck import Luck
from isochrone.routing.parameters import within

_DRAWS_PER_NODE = 3


@dataclass(frozen=True, slots=True)
class Parameters:
    """Where candidates come from.

    Attributes:
        draws: nodes drawn by the plan for each request; 0: as many as the plan says.
        front: of the nodes that few but we send to, so many of the best, at most 8.
        idle: of the nodes that announced idle, so many of the last.
        owners: of the nodes that hold a prefix of the prompt, so many that hold most.
        spill: when the best of them scores worse than this many times the level of the whole fleet, nodes
            that are not ours are looked at too.
        plan: draw by the plan; without it all nodes are compared.
    """

    draws: float = 0.0
    front: int = 4
    idle: int = 4
    owners: int = 8
    spill: float = 2.0
    plan: bool = True

    def __post_init__(self) -> None:
        within("draws", self.draws, 0, 64)
        within("front", self.front, 0, 8)
        within("idle", self.idle, 0, 64)
        within("owners", self.owners, 0, 64)


def rank(choice: Choice, luck: Luck, parameters: Parameters) -> Sequence[int]:
    """Least `score_ms` first; of equals the first in the view."""
    front = choice.view.front[: parameters.front] if parameters.plan else ()
    candidates = dict.fromkeys(filter(choice.may, front))
    if parameters.owners:
        candidates.update(dict.fromkeys(choice.owners_of_most(parameters.owners)))
    if not candidates or not parameters.plan or _crowded(choice, candidates, parameters):
        candidates.update(dict.fromkeys(_drawn(choice, luck, parameters)))
        if parameters.idle:
            candidates.update(dict.fromkeys(choice.idle(parameters.idle)))
    return choice.soonest(list(candidates))[: choice.wanted]


def _crowded(choice: Choice, candidates: Collection[int], parameters: Parameters) -> bool:
    """Whether our own nodes are worse than what the whole fleet would give us."""
    plan = choice.view.plan
    if plan is None or plan.homes is None:
        return not choice.view.front
    return min(choice.look(candidates))[0] > parameters.spill * 1e3 * plan.level_s


def _drawn(choice: Choice, luck: Luck, parameters: Parameters) -> list[int]:
    """A few nodes of the whole fleet by the plan's weights; the best of all where no plan can tell."""
    plan = choice.view.plan if parameters.plan else None
    if plan is not None:
        draws = parameters.draws or plan.draws
        count = int(draws) + (luck.random() < draws % 1.0)
        if count < len(plan.edges):
            drawn = [index for index in draw(plan.edges, count, luck) if choice.may(index)]
            if drawn:
                return drawn
    return choice.least(choice.service.score_ms)


def draw(edges: Floats, count: int, luck: Luck) -> list[int]:
    """Up to `count` distinct positions, each drawn in proportion to its step in `edges`, a running sum."""
    total, drawn = edges.item(-1), list[int]()
    if total <= 0.0:
        return drawn
    for _ in range(_DRAWS_PER_NODE * count):
        at = int(edges.searchsorted(luck.random() * total, side="right"))
        if at < len(edges) and at not in drawn:
            drawn.append(at)
            if len(drawn) == count:
                break
    return drawn
