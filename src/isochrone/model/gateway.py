"""What a gateway says of itself once a second."""

from dataclasses import dataclass


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
    """

    gateway: str
    epoch: int
    seq: int
    region: str = ""
    flows: tuple[ModelFlow, ...] = ()


@dataclass(frozen=True, slots=True)
class Peer:
    """A gateway that sends requests for one model, ourselves included.

    Attributes:
        name: its name.
        name_hash: 64 well-mixed bits of it.
        region: its place in the region RTT table, or "".
        work_per_s: slot-seconds a second that it sends for the model.
        ourselves: whether it is this gateway.
    """

    name: str
    name_hash: int
    region: str
    work_per_s: float
    ourselves: bool = False
