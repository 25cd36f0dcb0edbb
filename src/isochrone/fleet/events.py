"""All that can change a belief."""

from dataclasses import dataclass

from isochrone.model import Estimate, Load, NodeCard, Outcome, Pulse, Request


@dataclass(frozen=True, slots=True)
class PulseReceived:
    """A node spoke on the bus."""

    pulse: Pulse


@dataclass(frozen=True, slots=True)
class CardReceived:
    """A node's card came from the key-value bucket. `digest` is that of the bytes received."""

    card: NodeCard
    digest: str


@dataclass(frozen=True, slots=True)
class LoadReported:
    """A node told its load in the head or the trailer of a response."""

    node: str
    load: Load


@dataclass(frozen=True, slots=True)
class Dispatched:
    """We sent a request to a node: reserve the work at once."""

    request: Request
    node: str
    estimate: Estimate


@dataclass(frozen=True, slots=True)
class Finished:
    """A dispatched request ended, one way or another: release the work and learn."""

    request: Request
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Blamed:
    """A node failed what another node then answered, or kept us waiting past all reason."""

    node: str
    why: str


@dataclass(frozen=True, slots=True)
class RttMeasured:
    """A probe went to a node and back, on a warm connection: the node is alive, and this far."""

    node: str
    rtt_ms: float


@dataclass(frozen=True, slots=True)
class BusChanged:
    """The message bus was lost or came back."""

    connected: bool


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed. Send one about every second: silence is an event too."""


Event = (
    PulseReceived
    | CardReceived
    | LoadReported
    | Dispatched
    | Finished
    | Blamed
    | RttMeasured
    | BusChanged
    | Tick
)
