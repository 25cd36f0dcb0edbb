"""Our own work on one node that it could not report yet.

A dispatch counts from the moment it is made. A report that left the node before the dispatch arrived does not
know of it: what was sent less than one round trip before a report came in is still unseen by it (`assumed`
pods in the Kubernetes scheduler are the same idea).
"""

from dataclasses import dataclass, field

from isochrone.fleet.learn import Flow
from isochrone.fleet.prefix import Sent
from isochrone.model import Estimate, fleeting


@fleeting(frozen=True, slots=True)
class Flight:
    """A dispatched request.

    Attributes:
        node: where it went.
        estimate: what was predicted.
        sent: what cache it was to find.
        load_ms: how long the node then claimed to need for loading the model; None when nothing was to load,
            or was loading already.
    """

    node: str
    estimate: Estimate
    sent: Sent | None = None
    load_ms: float | None = None


@dataclass(slots=True)
class Reservation:
    """One request of ours on the node.

    Attributes:
        at_s: when it was dispatched.
        service_s: how long it will hold a slot, as estimated.
        prefill_s: of that, until its first token.
    """

    at_s: float
    service_s: float
    prefill_s: float


@dataclass(slots=True)
class Ledger:
    """Reservations by request id, and the flow of our own work."""

    flow: Flow
    open: dict[str, Reservation] = field(default_factory=dict)

    def reserve(self, request_id: str, reservation: Reservation) -> float:
        """Count one dispatch; returns the flow with it."""
        self.open[request_id] = reservation
        return self.flow.add(reservation.service_s, reservation.at_s)

    def release(self, request_id: str) -> bool:
        """End one dispatch; False when it was not open (released already, or never made)."""
        return self.open.pop(request_id, None) is not None

    def unseen(self, reported_at_s: float, rtt_s: float) -> tuple[Reservation, ...]:
        """The open dispatches that a report heard at `reported_at_s` could not know of, in order."""
        return tuple(open_ for open_ in self.open.values() if open_.at_s > reported_at_s - rtt_s)
