"""What a gateway says of itself once a second."""

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
    """

    gateway: str
    epoch: int
    seq: int
    region: str = ""
    flows: tuple[ModelFlow, ...] = ()


@dataclass(frozen=True, slots=True)
class Me:
    """The gateway that believes: its name, its place in the region table, 64 well-mixed bits of the name."""

    name: str = "gateway"
    region: str = ""
    name_hash: int = 0

    @classmethod
    def of(cls, name: str, region: str) -> "Me":
        """The gateway of that name."""
        return cls(name, region, name_hash(name))


NOBODY = Me.of("gateway", "")


@dataclass(frozen=True, slots=True)
class Peer:
    """Another gateway that sends requests for one model.

    Attributes:
        name: its name.
        name_hash: 64 well-mixed bits of it.
        region: its place in the region RTT table, or "".
        work_per_s: slot-seconds a second that it sends for the model.
    """

    name: str
    name_hash: int
    region: str
    work_per_s: float
