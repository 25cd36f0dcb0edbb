"""Least-request: the node with the fewest of our own requests in flight, ties by lot.

Reads: own requests in flight. Source: Envoy's LEAST_REQUEST with full scan, equal weights.
"""

from collections.abc import Sequence

from isochrone.model import NodeView
from isochrone.routing.choice import Choice, shuffled
from isochrone.routing.luck import Luck


def rank(choice: Choice, luck: Luck) -> Sequence[NodeView]:
    """Fewest in flight first."""
    return sorted(shuffled(choice.nodes, luck), key=lambda node: node.own_in_flight)
