"""Soonest: the node with the least estimated time, all terms counted. Ours, and the default.

Reads: the whole estimate. Source: `isochrone.routing.estimate`; shortest expected delay, with the network,
model loading, cached prefix and uncertainty in the delay.

All nodes are compared by the estimate's closed form; the best of them, and those that hold a prefix of the
prompt, are then worked out in full.
"""

from collections.abc import Sequence

from isochrone.routing.choice import Choice
from isochrone.routing.luck import Luck

_OWNERS_MAX = 8


def rank(choice: Choice, luck: Luck, parameters: object) -> Sequence[int]:
    """Least `score_ms` first; the order of the view decides between equals, so that a replay agrees."""
    del luck, parameters
    owners = sorted(choice.owners, key=lambda index: (-choice.owners[index], index))[:_OWNERS_MAX]
    best = choice.least(choice.service.score_ms)
    return choice.soonest([*best, *(index for index in owners if index not in best)])[: choice.wanted]
