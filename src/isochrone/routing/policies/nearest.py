"""Nearest: the node with the least round-trip time, whatever its state. What "closer is faster" means.

Reads: RTT. Source: latency-based DNS and anycast routing.
"""

from collections.abc import Sequence

from isochrone.model import NodeView
from isochrone.routing.choice import Choice
from isochrone.routing.luck import Luck


def rank(choice: Choice, luck: Luck) -> Sequence[NodeView]:
    """Least RTT first."""
    del luck
    return sorted(choice.nodes, key=lambda node: (node.rtt_ms, node.node))
