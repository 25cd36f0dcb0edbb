"""Nearest with spill: the nearest node that is not too busy; when all are, the one with the shortest wait.

Reads: RTT, wait for a slot. Source: the fill-the-nearest-first waterfall of global load balancers, such as
Envoy's locality weights with overprovisioning and Google Cloud's "waterfall by region".
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isochrone.routing.choice import Choice
from isochrone.routing.luck import Luck
from isochrone.routing.parameters import within


@dataclass(frozen=True, slots=True)
class Parameters:
    """When to go on to the next.

    Attributes:
        wait_max_s: a node with a longer wait is passed over. Ours; the sources spill by utilisation.
        corrected: take the wait as corrected for drain and own dispatches, not as last heard.
        told: heed what other gateways tell that they send, as `soonest` does. Ours.
    """

    wait_max_s: float = 0.5
    corrected: bool = True
    told: bool = False

    def __post_init__(self) -> None:
        within("wait_max_s", self.wait_max_s, 0)


def rank(choice: Choice, luck: Luck, parameters: Parameters) -> Sequence[int]:
    """Those under the bound by RTT, then the others by wait."""
    del luck
    columns = choice.columns
    wait_s = columns.wait_s if parameters.corrected else columns.reported_wait_s
    rtt_ms = columns.rtt_ms
    return choice.least(np.where(wait_s <= parameters.wait_max_s, rtt_ms, rtt_ms.max() + 1.0 + wait_s))
