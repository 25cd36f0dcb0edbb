"""Every setting of an inference node, with its bound."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model that the node may serve.

    Attributes:
        name: what clients call it.
        source: where its weights come from when they are not in the store; None for models that a running
            engine serves already.
        size_bytes: size of the weights when known beforehand, else 0.
    """

    name: str
    source: str | None = None
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """How one inference node runs.

    Attributes:
        name: the node's name in the network.
        host: address to listen on.
        port: port to listen on, 0 for any free one.
        advertise_url: where gateways reach it; "" for the address it listens on.
        operator: who runs it.
        region: its place in the region table, or "".
        failure_domains: what it may fail together with.
        hardware: its class of hardware, or "".
        models: what it may serve.
        preload: names of models to load at start.
        slots: requests worked on at once.
        queue_max: requests that may wait beyond those; the next one is refused.
        memory_bytes: budget for loaded models.
        idle_unload_s: a model unused for so long is unloaded; infinity keeps it.
        token: what gateways must present, or "" for none. Kept out of every log.
        pulse_s: seconds between pulses, at most.
        pulse_s_min: as few as that in a small fleet, by what gateways tell of its size.
        pulses_per_s: pulses of all nodes together that these may bring about; 0: always `pulse_s`.
        fleet_told_s: what a gateway told of the fleet's size counts for so long, and up to twice that.
        card_refresh_s: seconds between writes of an unchanged card.
        engine_silence_s_max: an engine that sends nothing for so long is given up.
        engine_metrics_s: seconds between two readings of a foreign engine's metrics.
        connections_max: clients connected at once.
    """

    name: str
    host: str = "127.0.0.1"
    port: int = 0
    advertise_url: str = ""
    operator: str = ""
    region: str = ""
    failure_domains: tuple[str, ...] = ()
    hardware: str = ""
    models: tuple[ModelSpec, ...] = ()
    preload: tuple[str, ...] = ()
    slots: int = 2
    queue_max: int = 16
    memory_bytes: int = 2 * 1024**3
    idle_unload_s: float = float("inf")
    token: str = field(default="", repr=False)
    pulse_s: float = 1.0
    pulse_s_min: float = 0.2
    pulses_per_s: float = 50.0
    fleet_told_s: float = 15.0
    card_refresh_s: float = 60.0
    engine_silence_s_max: float = 120.0
    engine_metrics_s: float = 5.0
    connections_max: int = 1024
