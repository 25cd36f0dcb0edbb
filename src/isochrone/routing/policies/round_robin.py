"""Round-robin: one after the other, in order of name.

Reads: the number of decisions made so far. Source: nginx's and HAProxy's default, unweighted.
"""

from collections.abc import Sequence

from isochrone.model import NodeView
from isochrone.routing.choice import Choice
from isochrone.routing.luck import Luck


def rank(choice: Choice, luck: Luck) -> Sequence[NodeView]:
    """The node whose turn it is, then those after it."""
    del luck
    start = choice.view.turn % len(choice.nodes)
    return choice.nodes[start:] + choice.nodes[:start]
