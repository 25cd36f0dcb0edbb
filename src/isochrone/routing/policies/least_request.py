"""Least-request: the node with the fewest of our own requests in flight, ties by lot.

Reads: own requests in flight. Source: Envoy's LEAST_REQUEST with full scan, equal weights.
"""

from collections.abc import Sequence

from isochrone.routing.choice import Choice
from isochrone.routing.luck import Luck


def rank(choice: Choice, luck: Luck, parameters: object) -> Sequence[int]:
    """Fewest in flight first."""
    del parameters
    return choice.least(choice.columns.own_in_flight, luck)
