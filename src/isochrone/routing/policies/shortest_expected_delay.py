"""Shortest expected delay: the fewest requests ahead, and this one, for each unit of capacity.

Reads: running, queued, own requests in flight, slots and learned speeds. Source: the SED scheduler of Linux
Virtual Server, (connections + 1) / weight over all servers, which counts its own connections only; with
`reported=0` this is the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isochrone.routing.choice import Choice
from isochrone.routing.luck import Luck


@dataclass(frozen=True, slots=True)
class Parameters:
    """Which requests are ahead.

    Attributes:
        reported: those that the node last told, running and queued.
        own: our own: those that the report can't know of yet, or without reports all in flight.
    """

    reported: bool = True
    own: bool = True


def rank(choice: Choice, luck: Luck, parameters: Parameters) -> Sequence[int]:
    """Least expected delay first, ties by lot."""
    columns = choice.columns
    ahead = np.ones(len(choice.view.nodes))
    if parameters.reported:
        ahead += columns.running + columns.queued
    if parameters.own:
        ahead += columns.own_unseen if parameters.reported else columns.own_in_flight
    return choice.least(ahead / choice.service.capacity_per_s, luck)
