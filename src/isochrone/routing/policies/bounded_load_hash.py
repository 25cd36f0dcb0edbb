"""Consistent hashing with bounded loads: the node that owns the prompt's prefix, or the next with room.

Reads: the leading blocks of the prompt, names, own requests in flight; with `reported`, running and queued;
with `weighted`, slots and learned speeds. Source: Mirrokni, Thorup and Zadimoghaddam, "Consistent hashing
with bounded loads", SODA 2018; for LLMs KubeAI's `PrefixHash`. By rendezvous instead of a ring: the overflow
of a node then goes to many, not to one neighbour.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isochrone.routing.choice import Choice
from isochrone.routing.keys import affinity, prefix_key
from isochrone.routing.luck import Luck
from isochrone.routing.parameters import within


@dataclass(frozen=True, slots=True)
class Parameters:
    """How full a node may be, and what belongs together.

    Attributes:
        eps: a node takes up to `ceil((1 + eps) * mean)` requests, this one counted. KubeAI: 0.25.
        prefix_blocks: prompts with the same first blocks belong together. KubeAI: 100 characters, two blocks.
        reported: count what nodes last told, running and queued, too; else our own in flight alone.
        weighted: a node's share of the load is its share of capacity; the source's nodes are alike.
    """

    eps: float = 0.25
    prefix_blocks: int = 2
    reported: bool = False
    weighted: bool = False

    def __post_init__(self) -> None:
        within("eps", self.eps, 0)
        within("prefix_blocks", self.prefix_blocks, 1)


def rank(choice: Choice, luck: Luck, parameters: Parameters) -> Sequence[int]:
    """Nodes with room in the order of the hash, then the others in the same order."""
    del luck
    columns, usable = choice.columns, choice.usable
    load = columns.own_in_flight
    if parameters.reported:
        load = load + columns.running + columns.queued
    in_all = float(load[usable].sum()) + 1.0
    if parameters.weighted:
        capacity_per_s = choice.service.capacity_per_s
        share = capacity_per_s / capacity_per_s[usable].sum()
    else:
        share = np.full(len(load), 1.0 / len(usable))
    full = load + 1.0 > np.ceil((1.0 + parameters.eps) * in_all * share)
    drawn = affinity(columns.name_hash, prefix_key(choice.request, parameters.prefix_blocks))
    return choice.least(full - drawn)
