"""What a gateway says to the others: its traffic once a second, and what it sends as it sends it."""

from dataclasses import dataclass

from isochrone.model.listed import name_hash


@dataclass(frozen=True, slots=True)
class ModelFlow:
    """Requests for one model through one gateway, averaged over about ten seconds.

    Attributes:
        model: its name.
        requests_per_s: how many it sends to nodes.
        work_per_s: their expected time on slots, slot-seconds a second.
    """

    model: str
    requests_per_s: float
    work_per_s: float


@dataclass(frozen=True, slots=True)
class GatewayPulse:
    """The traffic of a gateway at one instant.

    Attributes:
        gateway: who.
        epoch: start of the gateway's process, milliseconds since 1970; orders its lives.
        seq: counts up within an epoch.
        region: its place in the region RTT table, or "".
        flows: each model that it lately sent requests for.
        tells: it tells others what it sends, and heeds what they tell.
    """

    gateway: str
    epoch: int
    seq: int
    region: str = ""
    flows: tuple[ModelFlow, ...] = ()
    tells: bool = False


@dataclass(frozen=True, slots=True)
class SentWork:
    """A request that a gateway sent to a node.

    Attributes:
        request: its id, no other of that gateway's.
        node: where it went.
        model: what it asks for.
        service_s: how long it will hold a slot, as estimated.
        prefill_s: of that, until its first token.
        age_s: how long before the message it was sent.
    """

    request: str
    node: str
    model: str
    service_s: float
    prefill_s: float
    age_s: float = 0.0


@dataclass(frozen=True, slots=True)
class EndedWork:
    """A request that is on a node no more, however it ended; `untaken` when the node took no work by it."""

    request: str
    node: str
    untaken: bool = False


@dataclass(frozen=True, slots=True)
class LedgerNews:
    """What a gateway sent, and what of that ended, since it last told those that it shares nodes with.

    Attributes:
        gateway: who.
        epoch: start of the gateway's process, as in its pulse.
        seq: counts up within an epoch.
        region: its place in the region RTT table, or "".
        sent: in order.
        ended: in order.
    """

    gateway: str
    epoch: int
    seq: int
    region: str = ""
    sent: tuple[SentWork, ...] = ()
    ended: tuple[EndedWork, ...] = ()


@dataclass(frozen=True, slots=True)
class Me:
    """The gateway that believes.

    Attributes:
        name: its name.
        region: its place in the region table, or "".
        name_hash: 64 well-mixed bits of the name.
        tells: it tells other gateways what it sends, and heeds what they tell.
    """

    name: str = "gateway"
    region: str = ""
    name_hash: int = 0
    tells: bool = False

    @classmethod
    def of(cls, name: str, region: str, *, tells: bool = False) -> "Me":
        """The gateway of that name."""
        return cls(name, region, name_hash(name), tells)


NOBODY = Me.of("gateway", "")


@dataclass(frozen=True, slots=True)
class Peer:
    """Another gateway that sends requests for one model.

    Attributes:
        name: its name.
        name_hash: 64 well-mixed bits of it.
        region: its place in the region RTT table, or "".
        work_per_s: slot-seconds a second that it sends for the model.
        requests_per_s: in so many requests.
        tells: it tells others what it sends.
    """

    name: str
    name_hash: int
    region: str
    work_per_s: float
    requests_per_s: float = 0.0
    tells: bool = False
