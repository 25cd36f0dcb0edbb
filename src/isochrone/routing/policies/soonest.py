"""Soonest: the node with the least estimated time, all terms counted. Ours, and the default.

Reads: the whole estimate; the plan; who holds the prompt's prefix; for a request
with an SLO, inflow of work and use of memory. Source:
`isochrone.routing.estimate`, `isochrone.routing.planning` and `isochrone.routing.homes`; shortest expected
delay, with the network, model loading, cached prefix and uncertainty in the delay.

Candidates are the best of the nodes that are ours by the plan, of which our own ledger knows most, and those
that hold a prefix of the prompt. Where many gateways share few nodes, all of them send prompts that begin
alike to the same few. Where nothing is ours, or all of it is crowded, nodes drawn by the plan's weights: many
gateways that all took the best would herd. The least estimate of them wins.

A request with an SLO that several nodes keep has time to spare, which others may lack. It goes where it takes
least from them, among these candidates and some more nodes drawn by lot. Where no node keeps it, the soonest
is taken, and the decision tells by how much it misses.

The request tells the node how long it is to wait there; where the line is longer, it balks and is placed anew
(`isochrone.routing.patience`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isochrone.model import Floats, Origin
from isochrone.routing.choice import Choice
from isochrone.routing.gathering import GATHERED_MAX
from isochrone.routing.keys import prefix_key
from isochrone.routing.luck import Luck
from isochrone.routing.parameters import within

_DRAWS_PER_NODE = 3
_RHO_MAX = 0.98
_SCARCE = 0.5
_GATHER_BLOCKS = 8
_FEW = 12
"""Of so few nodes all that are ours are looked at."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """Where candidates come from.

    Attributes:
        draws: nodes drawn by the plan for each request; 0: as many as the plan says.
        front: of the nodes that few but we send to, so many of the best, at most 8; of few nodes all; 0:
            none.
        gather: where gateways share all nodes, to so many of them go the prompts that begin alike, at most 8.
        owners: of the nodes that hold a prefix of the prompt, so many that hold most.
        spill: when the best of them scores worse than this many times the level of the whole fleet, for this
            request and for a typical one, nodes that are not ours are looked at too.
        plan: draw by the plan; without it all nodes are compared.
        slo: a request with an SLO takes what it needs to keep it; without it such a request wants the soonest
            too.
        fill: of an SLO's limits, the share that a request with time to spare may use up.
        own: what a millisecond of its own is worth to such a request, against one of others.
        spares: nodes of our own, drawn by lot, that such a request looks at too.
        told: heed what the other gateways of our company tell that they send.
        balks: how often a request may turn from a node whose line is longer than it has patience for, at most
            8; 0: it waits wherever it was sent.
    """

    draws: float = 0.0
    front: int = 4
    gather: int = 3
    owners: int = 4
    spill: float = 2.0
    plan: bool = True
    slo: bool = True
    fill: float = 0.5
    own: float = 0.1
    spares: int = 8
    told: bool = True
    balks: int = 2

    def __post_init__(self) -> None:
        within("draws", self.draws, 0, 64)
        within("front", self.front, 0, 8)
        within("gather", self.gather, 0, GATHERED_MAX)
        within("owners", self.owners, 0, 64)
        within("fill", self.fill, 0, 1)
        within("own", self.own, 0, 100)
        within("spares", self.spares, 0, 64)
        within("balks", self.balks, 0, 8)


def rank(choice: Choice, luck: Luck, parameters: Parameters) -> Sequence[int]:
    """Least `score_ms` first; of equals the first in the view."""
    gathered = _gathered(choice, parameters)
    candidates = dict.fromkeys(_front(choice, luck, parameters), Origin.OWN)
    for index in gathered:
        candidates[index] = Origin.GATHERED
    for index in choice.owners_of_most(parameters.owners):
        candidates[index] = Origin.PREFIX
    order = choice.soonest(list(candidates))
    if not order or not parameters.plan or _crowded(choice, order[0], parameters, gathered=bool(gathered)):
        origin, drawn = _drawn(choice, luck, parameters)
        candidates = dict.fromkeys(drawn, origin) | candidates
        order = choice.soonest(list(candidates))
    if order and parameters.slo and choice.request.objective.has_slo:
        choice.heeds_slo = True
        spreads = _memory_to_spare(choice)
        spares = _spares(choice, luck, parameters) if spreads else []
        candidates = dict.fromkeys(spares, Origin.SPARE) | candidates
        order = _least_wanted_first(choice, list(candidates), parameters, spreads=spreads)
    if order:
        choice.origin = candidates[order[0]]
    return order[: choice.wanted]


def _front(choice: Choice, luck: Luck, parameters: Parameters) -> Sequence[int]:
    """The best of the nodes that are ours, or our company's; of few nodes all.

    Others of the company who choose at this moment see the same ones best. So each looks at some of them
    only, drawn by lot.
    """
    front, plan = choice.view.front, choice.view.plan
    if plan is None or not parameters.plan or not parameters.front:
        return ()
    if len(choice.view.nodes) <= _FEW:
        return front
    if plan.lots > 1:
        front = tuple([index for index in front if luck.randrange(plan.lots) == 0]) or front[:1]
    return front[: parameters.front]


def _spares(choice: Choice, luck: Luck, parameters: Parameters) -> list[int]:
    """Nodes drawn by lot of those that are ours, of all where none is."""
    plan = choice.view.plan if parameters.plan else None
    if plan is None or plan.homes is None:
        return choice.draw(parameters.spares, luck)
    own = plan.homes.own
    drawn = [int(own[luck.randrange(len(own))]) for _ in range(parameters.spares if len(own) else 0)]
    return [index for index in drawn if choice.may(index)]


def _memory_to_spare(choice: Choice) -> bool:
    """Whether most usable nodes have the model ready, by the last plan: looking at all of them is too long.

    Else models compete for memory, and a request that goes where others do not keeps another model out.
    """
    plan = choice.view.plan
    ready = plan.ready_share if plan is not None else np.mean(choice.columns.ready_in_s[choice.usable] <= 0.0)
    return float(ready) > 1.0 - _SCARCE


def _least_wanted_first(
    choice: Choice, indices: Sequence[int], parameters: Parameters, *, spreads: bool
) -> list[int]:
    """`indices` for a request with an SLO: those that keep it by least score, then the others likewise.

    Before them all goes, if it `spreads`, one of those that keep it with time to spare: the one that takes
    least from others. A node that must load the model first is none: others would lose the room.
    """
    order = choice.soonest(indices)
    rooms = {index: choice.slo_room(index) for index in order}
    order.sort(key=lambda index: not rooms[index].met)
    spare = 1.0 - parameters.fill
    easy = [
        index for index in order if rooms[index].leaves(spare) and choice.numbers(index).ready_in_s <= 0.0
    ]
    if spreads and easy:
        best = min(easy, key=_cost_ms(choice, easy, parameters.own).__getitem__)
        order.remove(best)
        order.insert(0, best)
    return order


def _cost_ms(choice: Choice, indices: Sequence[int], own: float) -> dict[int, float]:
    """By how much all who come to each node later are delayed by this prompt, and `own` times its own score.

    In a line that is busy for a share rho of the time a second more delays rho / (1 - rho) others by it
    (Kleinrock, "Queueing Systems", vol. 2, section 3.3: the busy period). Nothing where nobody else goes. A
    node is as busy as its slots or its memory, whichever is shorter.
    """
    costs_ms = dict[int, float]()
    for index in indices:
        rho = min(choice.view.nodes.in_use(index), _RHO_MAX)
        estimate = choice.estimate(index)
        costs_ms[index] = rho / (1.0 - rho) * estimate.prefill_ms + own * estimate.score_ms
    return costs_ms


def _gathered(choice: Choice, parameters: Parameters) -> list[int]:
    """Where gateways share few nodes, those to which prompts that begin like this one go from all of them."""
    plan = choice.view.plan if parameters.plan else None
    if plan is None or not plan.gathering.size or not choice.request.blocks.hashes:
        return []
    shelf = plan.gathering[prefix_key(choice.request, _GATHER_BLOCKS) % len(plan.gathering)]
    return [index for index in shelf.tolist()[: parameters.gather] if index >= 0]


def _crowded(choice: Choice, best: int, parameters: Parameters, *, gathered: bool) -> bool:
    """Whether the best of our own nodes, or of those gathered at, is worse than what the fleet would give us.

    The level is that of a typical request. One with a long prompt scores worse everywhere: that alone is no
    reason to leave for nodes which we know less of, whose queues we do not see, and which are others' homes.
    """
    plan = choice.view.plan
    if plan is None or (plan.homes is None and not gathered):
        return not choice.view.front
    most_ms = parameters.spill * 1e3 * plan.level_s
    return choice.score_ms(best) > most_ms and choice.typical_score_ms(best) > most_ms


def _drawn(choice: Choice, luck: Luck, parameters: Parameters) -> tuple[Origin, list[int]]:
    """A few nodes of the whole fleet by the plan's weights; the best of all where no plan can tell."""
    plan = choice.view.plan if parameters.plan else None
    if plan is not None:
        draws = parameters.draws or plan.draws
        count = int(draws) + (luck.random() < draws % 1.0)
        if count < len(plan.edges):
            drawn = [index for index in draw(plan.edges, count, luck) if choice.may(index)]
            if drawn:
                return Origin.DRAWN, drawn
    return Origin.ALL, choice.least(choice.service.score_ms)


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
