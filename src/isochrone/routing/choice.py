"""What a policy is given, and what shape it has."""

from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from isochrone.model import (
    Candidate,
    Candidates,
    Columns,
    Estimate,
    FleetView,
    Floats,
    Indices,
    NodeView,
    Numbers,
    Origin,
    Request,
    SloRoom,
)
from isochrone.routing.estimate import EstimateWeights, ServiceColumns, Terms, typical
from isochrone.routing.luck import Luck

RANKED_MAX = 9
"""The choice and its runners-up: more were never tried before a deadline."""

_DRAWS_MAX = 16
_LOOKS = 4

Looked = tuple[float, int, float, Numbers]
"""A node that was looked at: score in milliseconds, index, cached tokens, and what they come from."""


class Choice:
    """One choice to make: the fleet as believed now, and the request to be placed.

    Nodes are named by their index in `view.nodes`. Nothing here is worked out before it is asked for: a
    policy that draws two nodes pays for two, one that reads columns pays for a few passes over all.

    Attributes:
        view: the fleet as believed now.
        request: what is to be placed.
        wanted: how many nodes of the ranking somebody will look at: the choice and its runners-up.
        origin: where the policy found the first of its ranking, if it tells.
        heeds_slo: the policy looks for a node that keeps the request's SLO.
    """

    def __init__(
        self, view: FleetView, request: Request, weights: EstimateWeights, wanted: int = RANKED_MAX
    ) -> None:
        self.view, self.request, self._weights = view, request, weights
        self.wanted = min(wanted, RANKED_MAX)
        self._terms = Terms.of(view, request, weights)
        self._meeting = view.plan.meeting if view.plan is not None else None
        self.origin: Origin | None = None
        self.heeds_slo = False
        self._looked: dict[int, Looked] = {}
        self._loads: dict[int, Looked] = {}  # those that must load, as they were looked at
        self._nodes: dict[int, NodeView] = {}
        self._estimates: dict[int, Estimate] = {}

    # -- one node ------------------------------------------------------------------------------------

    def node(self, index: int) -> NodeView:
        """All that is believed of one node."""
        known = self._nodes.get(index)
        if known is None:
            known = self._nodes[index] = self.view.nodes[index]
        return known

    def numbers(self, index: int) -> Numbers:
        """What a score needs of one node."""
        return self._look(index)[3]

    def score_ms(self, index: int) -> float:
        """The score of that node's estimate, without the estimate."""
        return self._look(index)[0]

    def doubted_ms(self, indices: Collection[int]) -> float:
        """The least score among these nodes, the usual error of each on top of its own."""
        growth_ms_per_s = self._weights.uncertainty_ms_per_s
        return min(
            [
                score_ms + (numbers.error_ms + growth_ms_per_s * numbers.age_s)
                for score_ms, _, _, numbers in self.look(indices)
            ]
        )

    def typical_score_ms(self, index: int) -> float:
        """That node's score for a request of the length that prompts lately had, nothing of it cached.

        That is what a plan's level is told for; a long prompt scores worse everywhere.
        """
        terms = Terms.of(self.view, typical(self.view, self.request), self._weights)
        return terms.score(self.numbers(index)._replace(held_bytes=0, cached_tokens_base=0.0))[0]

    def look(self, indices: Collection[int]) -> list[Looked]:
        """Score these nodes, each at most once; together that costs less than one by one."""
        looked = self._looked
        unknown = [index for index in indices if index not in looked] if looked else indices
        if unknown:
            nodes = self.view.nodes.look(unknown, self.request.blocks)
            scores = self._terms.scores(nodes)
            if self._meeting is not None:
                scores = self._terms.meet(self._meeting, unknown, nodes, scores)
            for index, numbers, (score_ms, cached_tokens) in zip(unknown, nodes, scores, strict=True):
                looked[index] = (score_ms, index, cached_tokens, numbers)
        return [looked[index] for index in indices]

    def _look(self, index: int) -> Looked:
        return self._looked.get(index) or self.look((index,))[0]

    def estimate(self, index: int) -> Estimate:
        """When that node would answer."""
        known = self._estimates.get(index)
        if known is None:
            score_ms, _, cached_tokens, numbers = self._look(index)
            known = self._estimates[index] = self._terms.estimate(numbers, (score_ms, cached_tokens))
        return known

    def tell(self, ranked: Sequence[int]) -> Candidates:
        """These nodes as candidates by what is believed now; their estimates are made when looked at."""
        estimate, looked, names = self._terms.estimate, self.look(ranked), self.view.nodes.names(ranked)

        def told(at: int) -> Candidate:
            score_ms, _, cached_tokens, numbers = looked[at]
            return Candidate(names[at], estimate(numbers, (score_ms, cached_tokens)))

        return Candidates(len(looked), told)

    def slo_room(self, index: int) -> SloRoom:
        """How that node stands to the request's SLO."""
        return self._terms.slo_room(self.estimate(index), heeded=self.heeds_slo)

    def may(self, index: int) -> bool:
        """Whether that node may be chosen."""
        return self.view.nodes.available(index) and index not in self.view.left_out

    # -- all nodes -----------------------------------------------------------------------------------

    @property
    def columns(self) -> Columns:
        """All nodes at once, usable or not."""
        return self.view.nodes.columns

    @property
    def any_usable(self) -> bool:
        """Whether any node may be chosen; most often known from a first look."""
        for index in range(min(len(self.view.nodes), _LOOKS)):
            if self.may(index):
                return True
        return len(self.usable) > 0

    @cached_property
    def usable(self) -> Indices:
        """The nodes that may be chosen, in the order of the view."""
        usable = np.flatnonzero(self.columns.available)
        if self.view.left_out:
            usable = usable[~np.isin(usable, list(self.view.left_out))]
        return usable

    @cached_property
    def service(self) -> ServiceColumns:
        """What this request would take on each node, nothing cached."""
        return ServiceColumns(self.view, self.request, self._weights)

    @cached_property
    def owners(self) -> dict[int, int]:
        """Leading bytes of the prompt in a node's prefix cache, for the usable nodes that hold any."""
        owners = self.view.nodes.owners(self.request.blocks)
        return {index: held for index, held in owners.items() if self.may(index)}

    def owners_of_most(self, count: int) -> list[int]:
        """Up to `count` nodes that hold most of the prompt, of equals the first; usable or not, unordered."""
        owners = self.view.nodes.owners(self.request.blocks)
        if len(owners) <= count:
            return list(owners)
        return [index for _, index in sorted([(-held, index) for index, held in owners.items()])[:count]]

    def hit_share(self) -> Floats:
        """Share of the prompt, 0 to 1, that each node of the view holds in its prefix cache."""
        share = np.zeros(len(self.view.nodes))
        for index, held_bytes in self.owners.items():
            share[index] = min(1.0, held_bytes / max(1, self.request.prompt_bytes))
        return share

    # -- choosing ------------------------------------------------------------------------------------

    def draw(self, count: int, luck: Luck) -> list[int]:
        """Up to `count` distinct usable nodes, each set as likely as any."""
        drawn: list[int] = []
        nodes = len(self.view.nodes)
        # Trying at random beats looking at all only while few of many are wanted.
        for _ in range(_DRAWS_MAX * count if nodes > 2 * count else 0):
            if len(drawn) == count:
                return drawn
            index = luck.randrange(nodes)
            if index not in drawn and self.may(index):
                drawn.append(index)
        left = [int(index) for index in self.usable if index not in drawn]
        while left and len(drawn) < count:
            drawn.append(left.pop(luck.randrange(len(left))))
        return drawn

    def draw_weighted(self, count: int, weights: Floats, luck: Luck) -> list[int]:
        """Up to `count` distinct usable nodes, drawn in turn with probability in proportion to `weights`.

        `weights`: shape (nodes,), none below 0. All zero counts as all equal.
        """
        left = np.where(self.columns.available, weights, 0.0)
        left[list(self.view.left_out)] = 0.0
        edges, drawn = np.cumsum(left), list[int]()
        while len(drawn) < count and edges[-1] > 0.0:
            index = int(np.searchsorted(edges, luck.random() * edges[-1], side="right"))
            if index in drawn:
                # To draw again without those drawn so far is to draw from the rest.
                left[drawn] = 0.0
                edges = np.cumsum(left)
            else:
                drawn.append(index)
        return drawn or self.draw(count, luck)

    def least(self, costs: Floats, luck: Luck | None = None) -> list[int]:
        """The usable nodes of least cost, best first, at most `wanted`.

        `costs`: shape (nodes,). Between equals `luck` decides, or without it the order of the view.
        """
        few = self.usable
        if len(few) > self.wanted:
            among = costs[few]
            edge = np.partition(among, self.wanted - 1)[self.wanted - 1]
            less, equal = few[among < edge], few[among == edge]
            missing = self.wanted - len(less)
            few = np.concatenate((less, _some(equal, missing, luck) if luck else equal[:missing]))
        ordered = [int(index) for index in few]
        return sorted(shuffled(ordered, luck) if luck else ordered, key=costs.__getitem__)

    def _unshared(self, looked: Sequence[Looked]) -> list[Looked]:
        """The same, none sooner by having to load its model than it would be if no node were shared.

        A load evicts what others will ask for, and makes one more model share that node. So who else is at
        work decides between nodes that are ready, and is no reason to load: where the best of these suffers
        from it, those that would have to load are as much later.
        """
        terms, ready = self._terms, [one for one in looked if one[3].ready_in_s <= 0.0]
        usual_ms = [score_ms - terms.sharing_ms(numbers, cached) for score_ms, _, cached, numbers in ready]
        later_ms = max(0.0, min(ready)[0] - min(usual_ms)) if ready else 0.0
        for index in [index for _, index, _, numbers in looked if numbers.ready_in_s > 0.0]:
            score_ms, _, cached, numbers = self._loads.setdefault(index, self._looked[index])
            faster_ms = max(0.0, -terms.sharing_ms(numbers, cached))
            self._looked[index] = (score_ms + faster_ms + later_ms, index, cached, numbers)
        return [self._looked[index] for _, index, _, _ in looked]

    def soonest(self, indices: Sequence[int]) -> list[int]:
        """Those of `indices` that may be chosen, by the whole estimate, least score first."""
        looked, left_out = self.look(indices), self.view.left_out
        if any(numbers.ready_in_s > 0.0 for _, _, _, numbers in looked):
            looked = self._unshared(looked)
        order = sorted(looked)
        return [index for _, index, _, numbers in order if numbers.usable and index not in left_out]


Rank = Callable[[Choice, Luck, Any], Sequence[int]]
"""A policy, from (choice, luck, parameters): distinct usable nodes in the order to try them.

At least one and at most `RANKED_MAX`; it is asked only while there is a usable node.
"""


def shuffled(items: Sequence[int], luck: Luck) -> list[int]:
    """`items` in random order, each order as likely as any (Fisher-Yates)."""
    order = list(items)
    for last in range(len(order) - 1, 0, -1):
        other = luck.randrange(last + 1)
        order[last], order[other] = order[other], order[last]
    return order


def _some(items: Indices, count: int, luck: Luck) -> Indices:
    """`count` distinct ones of `items`, each set as likely as any (Floyd)."""
    chosen: dict[int, None] = {}
    for last in range(len(items) - count, len(items)):
        drawn = luck.randrange(last + 1)
        chosen[last if drawn in chosen else drawn] = None
    return items[list(chosen)]
