"""Work on one node that it could not report yet: our own, and what other gateways told of theirs.

A dispatch counts from the moment it is made. A report that left the node before the dispatch arrived does not
know of it: what was sent less than one round trip before a report came in is still unseen by it (`assumed`
pods in the Kubernetes scheduler are the same idea). What another gateway sent counts likewise, from when we
would have had to send it to arrive there at the same time; once a report knows of it, it is forgotten here.
"""

from dataclasses import dataclass, field
from operator import attrgetter

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


TOLD_MAX = 1024
"""Of other gateways' requests that a node did not report yet so many are remembered; the oldest give way."""


@dataclass(slots=True)
class Reservation:
    """One request on the node.

    Attributes:
        at_s: when it was dispatched, or would have been from here.
        service_s: how long it will hold a slot, as estimated.
        prefill_s: of that, until its first token.
    """

    at_s: float
    service_s: float
    prefill_s: float


@dataclass(slots=True)
class Ledger:
    """Reservations by request id, and the flow of the work in them.

    Attributes:
        flow: slot-seconds a second, of our own work and of what we were told of.
        open: our own requests.
        told: those of other gateways that the last report may not know of, by gateway and id.
        newest_s: the latest `at_s` of all.
    """

    flow: Flow
    open: dict[str, Reservation] = field(default_factory=dict)
    told: dict[tuple[str, str], Reservation] = field(default_factory=dict)
    newest_s: float = float("-inf")

    def newest(self, reservation: Reservation) -> bool:
        """Whether none was made for a later time; from now on it is among them."""
        newest = reservation.at_s >= self.newest_s
        self.newest_s = max(self.newest_s, reservation.at_s)
        return newest

    def reserve(self, request_id: str, reservation: Reservation) -> float:
        """Count one dispatch; returns the flow with it."""
        self.open[request_id] = reservation
        return self.flow.add(reservation.service_s, reservation.at_s)

    def reserve_told(self, key: tuple[str, str], reservation: Reservation) -> bool:
        """Count a dispatch of another gateway's; whether it only adds to those that were there."""
        adds = key not in self.told
        self.told[key] = reservation
        if len(self.told) > TOLD_MAX:
            del self.told[next(iter(self.told))]
            return False
        return adds

    def release_told(self, key: tuple[str, str]) -> Reservation | None:
        """End one of another gateway's; None when it was not open, or a report knows of it by now."""
        return self.told.pop(key, None)

    def release(self, request_id: str) -> Reservation | None:
        """End one dispatch; None when it was not open (released already, or never made)."""
        return self.open.pop(request_id, None)

    def unseen(self, reported_at_s: float, rtt_s: float) -> tuple[Reservation, ...]:
        """The open dispatches that a report heard at `reported_at_s` could not know of, in order.

        Those of other gateways that it knows of are forgotten.
        """
        since_s = reported_at_s - rtt_s
        unseen = tuple(open_ for open_ in self.open.values() if open_.at_s > since_s)
        if not self.told:
            return unseen
        self.told = {key: told for key, told in self.told.items() if told.at_s > since_s}
        return tuple(sorted((*unseen, *self.told.values()), key=attrgetter("at_s")))
