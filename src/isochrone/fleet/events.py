"""All that can change a belief."""

from dataclasses import dataclass

from isochrone.model import (
    Estimate,
    Floats,
    GatewayPulse,
    Indices,
    LedgerNews,
    Load,
    NodeCard,
    Outcome,
    Plan,
    Pulse,
    Request,
    fleeting,
)


@fleeting(frozen=True, slots=True)
class PulseReceived:
    """A node spoke on the bus."""

    pulse: Pulse


@dataclass(frozen=True, slots=True)
class LoadsReceived:
    """Pulses of many nodes at once, as columns of shape (pulses,), for a bus that delivers in batches.

    The same as one PulseReceived for each, from nodes that are known, whose epoch, card and models are as
    they told before. What is not newer by `seq`, or came in before what is known, is dropped.

    Attributes:
        rows: which nodes, as `Fleet.row_of` told; no node twice.
        seq: of each pulse.
        heard_at_s: when each came in; a batch may be folded in a little later than that.
        slots, running, queued, wait_s, backlog_s, inflow, kv_used, prefill_s: as in `Load`.
    """

    rows: Indices
    seq: Indices
    heard_at_s: Floats
    slots: Floats
    running: Floats
    queued: Floats
    wait_s: Floats
    backlog_s: Floats
    inflow: Floats
    kv_used: Floats
    prefill_s: Floats


@dataclass(frozen=True, slots=True)
class CardReceived:
    """A node's card came from the key-value bucket. `digest` is that of the bytes received."""

    card: NodeCard
    digest: str


@fleeting(frozen=True, slots=True)
class LoadReported:
    """A node told its load in the head or the trailer of a response."""

    node: str
    load: Load


@fleeting(frozen=True, slots=True)
class Dispatched:
    """We sent a request to a node: reserve the work at once."""

    request: Request
    node: str
    estimate: Estimate


@fleeting(frozen=True, slots=True)
class Finished:
    """A dispatched request ended, one way or another: release the work and learn."""

    request: Request
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Blamed:
    """A node failed what another node then answered, or kept us waiting past all reason."""

    node: str
    why: str


@fleeting(frozen=True, slots=True)
class RttMeasured:
    """A probe went to a node and back, on a warm connection: the node is alive, and this far."""

    node: str
    rtt_ms: float


@dataclass(frozen=True, slots=True)
class IdleAnnounced:
    """A node that has room again told one gateway, drawn by lot: this one (Join-Idle-Queue).

    Attributes:
        node: who.
        load: its load as it said so.
    """

    node: str
    load: Load


@dataclass(frozen=True, slots=True)
class ProbeAnswered:
    """A node answered a probe of ours with its load (Prequal).

    Attributes:
        node: who.
        model: the model that the probe was for.
        load: its load as it answered.
        rtt_ms: the probe's way there and back.
    """

    node: str
    model: str
    load: Load
    rtt_ms: float


@dataclass(frozen=True, slots=True)
class GatewayHeard:
    """Another gateway told its traffic."""

    pulse: GatewayPulse


@fleeting(frozen=True, slots=True)
class LedgerHeard:
    """Another gateway told what it sent to nodes that we share, and what of that ended."""

    news: LedgerNews


@dataclass(frozen=True, slots=True, eq=False)
class Planned:
    """A new plan for a model, made from the view of just now, or from one whose nodes had this `roster`.

    Nodes that came since are not in it; after one went it is void.
    """

    model: str
    plan: Plan
    roster: int | None = None


@dataclass(frozen=True, slots=True)
class BusChanged:
    """The message bus was lost or came back."""

    connected: bool


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed. Send one about every second: silence is an event too."""


NodeEvent = LoadReported | RttMeasured | Blamed | IdleAnnounced | ProbeAnswered
"""What is news only of a node that is known."""

NewsOfNodes = PulseReceived | LoadsReceived | CardReceived | NodeEvent
Event = NewsOfNodes | Dispatched | Finished | GatewayHeard | LedgerHeard | Planned | BusChanged | Tick
