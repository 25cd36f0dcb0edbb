"""Soonest: the node with the least estimated time, all terms counted. Ours, and the default.

Reads: the whole estimate. Source: `isochrone.routing.estimate`; shortest expected delay, with the network,
model loading, cached prefix and uncertainty in the delay.
"""

from collections.abc import Sequence

from isochrone.model import NodeView
from isochrone.routing.choice import Choice
from isochrone.routing.luck import Luck


def rank(choice: Choice, luck: Luck) -> Sequence[NodeView]:
    """Least `score_ms` first; the name decides between equals, so that a replay agrees."""
    del luck
    return sorted(choice.nodes, key=lambda node: (choice.estimate(node).score_ms, node.node))
