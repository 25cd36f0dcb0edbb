"""Random: each node as likely as any.

Reads: nothing. Source: the random split that every queueing text begins with.
"""

from collections.abc import Sequence

from isochrone.routing.choice import Choice
from isochrone.routing.luck import Luck


def rank(choice: Choice, luck: Luck, parameters: object) -> Sequence[int]:
    """Nodes in random order."""
    del parameters
    return choice.draw(choice.wanted, luck)
