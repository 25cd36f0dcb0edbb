"""What a node says of itself that changes slowly."""

from dataclasses import dataclass
from enum import StrEnum


class ModelState(StrEnum):
    """How far a model is from answering on one node."""

    ABSENT = "absent"
    ON_DISK = "on_disk"
    LOADING = "loading"
    READY = "ready"


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A model that a node can serve.

    Attributes:
        name: the name clients use in the `model` field.
        size_bytes: size of the weights; also the memory counted against the node's budget. 0 if unknown.
        sha256: digest of the weights, lower-case hex, or None when the engine does not tell.
        context_tokens: longest prompt plus answer of one request; 0 if unknown.
    """

    name: str
    size_bytes: int = 0
    sha256: str | None = None
    context_tokens: int = 0


@dataclass(frozen=True, slots=True)
class NodeCard:
    """The slowly changing facts of a node, kept in the JetStream key-value bucket.

    Attributes:
        node: name of the node, unique in the network.
        url: where gateways reach it, `http://host:port`.
        operator: who runs it.
        region: name of its place in the region RTT table, or "" when unknown.
        engine: kind of engine behind it, such as `llama.cpp` or `openai`.
        slots: requests that it works on at once.
        queue_max: requests that may wait beyond the slots before it refuses.
        memory_bytes: memory budget for models; 0 when the engine keeps its own.
        models: what it can serve.
        failure_domains: what it shares with others and may fail with, such as `power:ams-3`.
        hardware: its class of hardware, such as `h100-80gb-x4`, or "" when not told. Nodes of one class are
            expected to be alike until they have shown otherwise.
    """

    node: str
    url: str
    operator: str = ""
    region: str = ""
    engine: str = ""
    slots: int = 1
    queue_max: int = 0
    memory_bytes: int = 0
    models: tuple[ModelCard, ...] = ()
    failure_domains: tuple[str, ...] = ()
    hardware: str = ""
