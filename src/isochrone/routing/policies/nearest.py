"""Nearest: the node with the least round-trip time, whatever its state. What "closer is faster" means.

Reads: RTT. Source: latency-based DNS and anycast routing.
"""

from collections.abc import Sequence

from isochrone.routing.choice import Choice
from isochrone.routing.luck import Luck


def rank(choice: Choice, luck: Luck, parameters: object) -> Sequence[int]:
    """Least RTT first."""
    del luck, parameters
    return choice.least(choice.columns.rtt_ms)
