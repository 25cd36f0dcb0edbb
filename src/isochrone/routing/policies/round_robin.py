"""Round-robin: one after the other, in the order of the view.

Reads: the number of dispatches so far. Source: nginx's and HAProxy's default, unweighted.
"""

from collections.abc import Sequence

from isochrone.routing.choice import Choice
from isochrone.routing.luck import Luck


def rank(choice: Choice, luck: Luck, parameters: object) -> Sequence[int]:
    """The node whose turn it is, then those after it."""
    del luck, parameters
    usable = choice.usable
    start = choice.view.turn % len(usable)
    return [int(usable[(start + step) % len(usable)]) for step in range(min(choice.wanted, len(usable)))]
