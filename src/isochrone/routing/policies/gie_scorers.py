"""Weighted scorers: the greatest sum of prefix hit, short queue and free KV cache.

Reads: cached prefixes, queued, KV cache use; with `own`, own requests in flight. Source: the scorers of the
Kubernetes Gateway API Inference Extension and of llm-d's router: the prefix scorer's matched share; the queue
scorer's (max - q) / (max - min), 1 when all are equal; the KV cache scorer's 1 - use; the max-score picker
with ties by lot. Weights (1, 1, 1) are the extension's, (3, 2, 2) llm-d's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isochrone.model import Floats, Indices
from isochrone.routing.choice import Choice
from isochrone.routing.luck import Luck
from isochrone.routing.parameters import within


@dataclass(frozen=True, slots=True)
class Parameters:
    """The weights.

    Attributes:
        prefix: of the share of the prompt in the node's cache.
        queue: of how short the queue is among all.
        kv: of the share of the KV cache that is free.
        own: count our own requests sent since the report as queued; the original does not.
    """

    prefix: float = 1.0
    queue: float = 1.0
    kv: float = 1.0
    own: bool = False

    def __post_init__(self) -> None:
        within("prefix", self.prefix, 0)
        within("queue", self.queue, 0)
        within("kv", self.kv, 0)


def rank(choice: Choice, luck: Luck, parameters: Parameters) -> Sequence[int]:
    """Greatest score first, ties by lot."""
    columns = choice.columns
    queued = columns.queued + columns.own_unseen if parameters.own else columns.queued
    score = parameters.queue * _shortness(queued, choice.usable) + parameters.kv * (1.0 - columns.kv_used)
    if parameters.prefix:
        score += parameters.prefix * choice.hit_share()
    return choice.least(-score, luck)


def _shortness(queued: Floats, usable: Indices) -> Floats:
    """1 for the shortest queue of the usable nodes, 0 for the longest; all 1 when they are equal."""
    among = queued[usable]
    least, most = among.min(), among.max()
    return (most - queued) / (most - least) if most > least else np.ones(len(queued))
