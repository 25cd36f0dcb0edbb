"""Random, weighted: each node as likely as it is fast.

Reads: slots and learned speeds. Source: weighted random routing with weights in proportion to service rate,
as in every text on heterogeneous queues; Envoy's and nginx's weighted random with the weights kept by hand.
"""

from collections.abc import Sequence

from isochrone.routing.choice import Choice
from isochrone.routing.luck import Luck


def rank(choice: Choice, luck: Luck, parameters: object) -> Sequence[int]:
    """Nodes drawn one after the other by `capacity_per_s`."""
    del parameters
    return choice.draw_weighted(choice.wanted, choice.service.capacity_per_s, luck)
