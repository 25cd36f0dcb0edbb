"""Least delay: the least wait and service over all nodes; as last heard, or corrected.

Reads: wait for a slot, learned speeds; with `rtt_weight`, RTT. Source: the greedy rules of the project's
table of stale state: uncorrected it herds, as Mitzenmacher, "How useful is old information?", IEEE TPDS 2000,
shows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from isochrone.model import Floats
from isochrone.routing.choice import Choice
from isochrone.routing.luck import Luck
from isochrone.routing.parameters import within


@dataclass(frozen=True, slots=True)
class Parameters:
    """Which wait.

    Attributes:
        corrected: for drain, own dispatches and others' flow, instead of as last heard.
        rtt_weight: of the round trip, beside wait and service; 0 leaves it out, as in the table.
    """

    corrected: bool = True
    rtt_weight: float = 0.0

    def __post_init__(self) -> None:
        within("rtt_weight", self.rtt_weight, 0)


def rank(choice: Choice, luck: Luck, parameters: Parameters) -> Sequence[int]:
    """Least delay first, ties by lot."""
    return choice.least(delay_s(choice, parameters.rtt_weight, corrected=parameters.corrected), luck)


def delay_s(choice: Choice, rtt_weight: float, *, corrected: bool) -> Floats:
    """Wait and service, and `rtt_weight` of the round trip, shape (nodes,)."""
    columns = choice.columns
    delays_s = choice.service.service_s + (columns.wait_s if corrected else columns.reported_wait_s)
    if rtt_weight:
        delays_s = delays_s + rtt_weight * columns.rtt_ms / 1e3
    return delays_s
