"""Random: each node as likely as any.

Reads: nothing. Source: the random split that every queueing text begins with.
"""

from collections.abc import Sequence

from isochrone.model import NodeView
from isochrone.routing.choice import Choice, shuffled
from isochrone.routing.luck import Luck


def rank(choice: Choice, luck: Luck) -> Sequence[NodeView]:
    """All nodes in random order."""
    return shuffled(choice.nodes, luck)
