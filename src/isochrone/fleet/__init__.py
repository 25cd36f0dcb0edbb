"""What a gateway believes of the nodes: events in, effects out.

Here live the beliefs of each node (card, load, round trip, speeds, health), the ledger of our own dispatches,
and what is learned from outcomes. `Fleet.step(event, now_s)` folds one event in and returns what the shell is
to do; `Fleet.view(model, now_s)` is the snapshot that routing reads. Nothing here may read a clock or touch
the outside: the receiver's time is an argument, and nodes' clocks are never compared with it.
"""

from isochrone.fleet.effects import (
    CardWanted,
    Effect,
    NodeEjected,
    NodeForgotten,
    NodeJoined,
    NodeReturned,
    NodeSilent,
)
from isochrone.fleet.events import (
    Blamed,
    BusChanged,
    CardReceived,
    Dispatched,
    Event,
    Finished,
    GatewayHeard,
    IdleAnnounced,
    LedgerHeard,
    LoadReported,
    LoadsReceived,
    Planned,
    ProbeAnswered,
    PulseReceived,
    RttMeasured,
    Tick,
)
from isochrone.fleet.fleet import Fleet
from isochrone.fleet.settings import FleetSettings
from isochrone.fleet.teller import Teller, sent_work

__all__ = [
    "Blamed",
    "BusChanged",
    "CardReceived",
    "CardWanted",
    "Dispatched",
    "Effect",
    "Event",
    "Finished",
    "Fleet",
    "FleetSettings",
    "GatewayHeard",
    "IdleAnnounced",
    "LedgerHeard",
    "LoadReported",
    "LoadsReceived",
    "NodeEjected",
    "NodeForgotten",
    "NodeJoined",
    "NodeReturned",
    "NodeSilent",
    "Planned",
    "ProbeAnswered",
    "PulseReceived",
    "RttMeasured",
    "Teller",
    "Tick",
    "sent_work",
]
