"""Predicted latency with headroom: a node that is predicted to meet the objectives, packed or spread.

Reads: the estimate's first token and time per token over all nodes, cached prefixes. Source: llm-d's
predicted latency scheduling and its `latency-scorer`: headroom is objective minus prediction; nodes with
headroom in both come first, the one with the least of it by default (packing); without any, the one that
misses by least. Weights 0.8 and 0.2 of the two terms, each scaled to 0..1 over the nodes compared; now and
then a node without headroom is tried, and nodes that hold most of the prompt go before others, as in the
source. Its learned trees are our estimate.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isochrone.model import Floats, Indices
from isochrone.routing.choice import Choice
from isochrone.routing.estimate import PRIOR_TPOT_MS
from isochrone.routing.luck import Luck
from isochrone.routing.parameters import within


@dataclass(frozen=True, slots=True)
class Parameters:
    """The objectives, and what to do with headroom.

    Attributes:
        slo_ttft_ms: objective for the first token. The source takes it from the request; 0 makes the soonest
            win.
        slo_tpot_ms: objective for each later token.
        ttft_weight: of the first token against later ones. The source: 0.8.
        most: of nodes with headroom take the one with the most (spreading), not the least (packing). The
            source: least.
        lot: draw one of them, likelier the better it stands in that order, instead of taking the first. The
            source has had both.
        hit_min: nodes with at least this share of the prompt cached go first; above 1 for none. The source:
            0.8.
        explore: how often to pass over each of these two preferences. The source: 0.01.
        told: heed what other gateways tell that they send, as `soonest` does. Ours.
    """

    slo_ttft_ms: float = 1000.0
    slo_tpot_ms: float = 100.0
    ttft_weight: float = 0.8
    most: bool = False
    lot: bool = False
    hit_min: float = 0.8
    explore: float = 0.01
    told: bool = False

    def __post_init__(self) -> None:
        within("slo_ttft_ms", self.slo_ttft_ms, 0)
        within("slo_tpot_ms", self.slo_tpot_ms, 0)
        within("ttft_weight", self.ttft_weight, 0, 1)
        within("hit_min", self.hit_min, 0)
        within("explore", self.explore, 0, 1)


def rank(choice: Choice, luck: Luck, parameters: Parameters) -> Sequence[int]:
    """Nodes with headroom, least or most of it first; then the others, least miss first; ties by lot."""
    hit, tpot_ms = choice.hit_share(), choice.columns.tpot_ms
    ttft_room_ms = parameters.slo_ttft_ms - choice.service.ttft_ms + hit * choice.service.prefill_ms
    tpot_room_ms = parameters.slo_tpot_ms - np.where(tpot_ms > 0, tpot_ms, PRIOR_TPOT_MS)
    meets = (ttft_room_ms >= 0) & (tpot_room_ms >= 0)
    fits, misses = choice.usable[meets[choice.usable]], choice.usable[~meets[choice.usable]]
    weight, costs = parameters.ttft_weight, np.zeros(len(hit))
    for among in (fits, misses):
        if len(among):
            room = weight * _scaled(ttft_room_ms, among) + (1.0 - weight) * _scaled(tpot_room_ms, among)
            costs[among] = _order(room, parameters, luck) if among is fits else 1.0 - room
    passed_over = len(fits) and len(misses) and luck.random() < parameters.explore
    costs[fits if passed_over else misses] += 2.0
    held = hit >= parameters.hit_min
    if held.any() and luck.random() >= parameters.explore:
        costs -= 8.0 * held
    return choice.least(costs, luck)


def _scaled(values: Floats, among: Indices) -> Floats:
    """`values[among]`, from 0 for the least to 1 for the greatest; all 0 when they are equal."""
    few = values[among]
    span = few.max() - few.min()
    return (few - few.min()) / span if span > 0 else np.zeros(len(few))


def _order(room: Floats, parameters: Parameters, luck: Luck) -> Floats:
    """Costs from 0 to 1 of nodes with this much scaled headroom."""
    costs = 1.0 - room if parameters.most else room
    if not parameters.lot:
        return costs
    edges = np.cumsum(1.01 - costs)  # the last in order has a hundredth of the first's chance, not none
    drawn = int(np.searchsorted(edges, luck.random() * edges[-1], side="right"))
    return np.where(np.arange(len(room)) == drawn, 0.0, 1.0)
