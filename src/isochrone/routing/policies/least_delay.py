"""Least delay: the least wait and service over all nodes; as last heard, or corrected.

Reads: wait for a slot, learned speeds; with `rtt_weight`, RTT. Source: the greedy rules of the project's
table of stale state: uncorrected it herds, as Mitzenmacher, "How useful is old information?", IEEE TPDS 2000,
shows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isochrone.model import Floats
from isochrone.routing.choice import Choice
from isochrone.routing.luck import Luck
from isochrone.routing.parameters import within


@dataclass(frozen=True, slots=True)
class Parameters:
    """Which wait.

    Attributes:
        corrected: for drain and own dispatches, instead of as last heard.
        others: and for what other gateways send, as the node's inflow tells.
        rtt_weight: of the round trip, beside wait and service; 0 leaves it out, as in the table.
    """

    corrected: bool = True
    others: bool = True
    rtt_weight: float = 0.0

    def __post_init__(self) -> None:
        within("rtt_weight", self.rtt_weight, 0)


def rank(choice: Choice, luck: Luck, parameters: Parameters) -> Sequence[int]:
    """Least delay first, ties by lot."""
    return choice.least(delay_s(choice, parameters), luck)


def delay_s(choice: Choice, parameters: Parameters) -> Floats:
    """Wait and service, and `rtt_weight` of the round trip, shape (nodes,)."""
    columns = choice.columns
    delays_s = choice.service.service_s + _wait_s(choice, parameters)
    if parameters.rtt_weight:
        delays_s = delays_s + parameters.rtt_weight * columns.rtt_ms / 1e3
    return delays_s


def _wait_s(choice: Choice, parameters: Parameters) -> Floats:
    columns = choice.columns
    if not parameters.corrected:
        return columns.reported_wait_s
    if parameters.others:
        return columns.wait_s
    drained_s = np.maximum(0.0, columns.reported_wait_s - columns.age_s)
    return np.asarray(drained_s + columns.own_unseen_s / columns.slots)
