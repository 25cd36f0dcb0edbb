"""Selective pushing: only to a node without pending work, of this region first, then of the nearest.

Reads: queued and running as last heard, RTT, cached prefixes; with `own`, own requests in flight and slots.
Source: "SkyLB: a locality-aware cross-region load balancer for LLM inference" (later SkyWalker, EuroSys
2026), arXiv 2505.24095: requests are pushed only to replicas with no pending request, kept in the region as
long as one has room, and forwarded to another region else; the longest prefix hit decides between replicas.
Its balancers hold a request back when no replica has room; here it waits at the node of this region with the
shortest queue. A region is a band of round-trip times, as no gateway knows another region's balancer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isochrone.routing.choice import Choice
from isochrone.routing.luck import Luck
from isochrone.routing.parameters import within

_LOAD_WEIGHT = 1e-3
_PENDING_COST = 1e12
_ELSEWHERE_COST = 1e9


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a region is, and which hits count.

    Attributes:
        region_rtt_ms: width of the bands of RTT, from the nearest node's on, that stand for regions. Ours.
        hit_min: share of the prompt from which a cached prefix counts. SGLang's router, the source's base:
            0.5.
        own: a node with as many of our own requests in flight as it has slots is taken to have pending work.
    """

    region_rtt_ms: float = 10.0
    hit_min: float = 0.5
    own: bool = False

    def __post_init__(self) -> None:
        within("region_rtt_ms", self.region_rtt_ms, 0.001)
        within("hit_min", self.hit_min, 0, 1)


def rank(choice: Choice, luck: Luck, parameters: Parameters) -> Sequence[int]:
    """Nodes with room by region, hit and load; then the others, this region first, by queue; ties by lot."""
    columns = choice.columns
    rtt_ms, queued, busy = columns.rtt_ms, columns.queued, columns.running
    band = np.floor((rtt_ms - rtt_ms[choice.usable].min()) / parameters.region_rtt_ms)
    pending = queued > 0
    if parameters.own:
        busy = busy + columns.own_unseen
        pending = pending | (columns.own_in_flight >= columns.slots)
    hit = choice.hit_share()
    hit[hit < parameters.hit_min] = 0.0
    with_room = 2.0 * band - hit + _LOAD_WEIGHT * busy / (busy + 1.0)
    without = _PENDING_COST + _ELSEWHERE_COST * (band > 0) + queued
    return choice.least(np.where(pending, without, with_room), luck)
