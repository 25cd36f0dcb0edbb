"""C3: latency as measured here, plus a cubic price on the queue as estimated.

    cost = R - 1/mu + qhat**3 / mu,    qhat = 1 + own_in_flight * clients_weight + queue

Reads: our response times, service times as the nodes told, queued and running, own requests in flight, RTT,
slots; learned speeds where nothing was measured. Source: Suresh, Canini, Schmid and Feldmann, "C3: Cutting
tail latency in cloud data stores via adaptive replica selection", NSDI 2015, section 3.1. Its rate control is
not here.

R is the average first token; 1/mu is the time that a request holds a slot, over the slots. A node
without a measurement has its round trip for R - 1/mu and the estimate's service time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isochrone.routing.choice import Choice
from isochrone.routing.luck import Luck
from isochrone.routing.parameters import within


@dataclass(frozen=True, slots=True)
class Parameters:
    """The shape of the cost.

    Attributes:
        clients_weight: what each own request in flight stands for: the paper takes the number of clients,
            here gateways, on the ground that the others do as we do.
        exponent: of the queue. The paper: 3.
        d: nodes drawn to be compared, up to 64, as a key has a few replicas; 0 for all nodes.
    """

    clients_weight: float = 1.0
    exponent: float = 3.0
    d: int = 0

    def __post_init__(self) -> None:
        within("clients_weight", self.clients_weight, 0)
        within("exponent", self.exponent, 0, 9)
        within("d", self.d, 0, 64)


def rank(choice: Choice, luck: Luck, parameters: Parameters) -> Sequence[int]:
    """Least cost first, ties by lot."""
    columns = choice.columns
    held_ms = columns.service_ms
    unknown = (held_ms <= 0) | (columns.response_ms <= 0)
    service_ms = np.where(unknown, choice.service.service_s * 1e3, held_ms) / columns.slots
    beside_ms = np.where(unknown, columns.rtt_ms, columns.response_ms - service_ms)
    queue = 1.0 + columns.own_in_flight * parameters.clients_weight + columns.queued + columns.running
    costs = beside_ms + queue**parameters.exponent * service_ms
    if parameters.d == 0:
        return choice.least(costs, luck)
    return sorted(choice.draw(parameters.d, luck), key=costs.__getitem__)[: choice.wanted]
