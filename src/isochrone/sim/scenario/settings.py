"""Scenarios as data: what world there is, what comes to it and what goes wrong in it.

Ranges stand with each field, as `metadata`; `settings_file` checks them and `scenario_checks` what several
fields mean together. docs/scenarios.md tells each key to users.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from isochrone.sim.scenario.traffic_settings import TrafficSettings, number
from isochrone.sim.spec import HardwareSpec

FaultKind = Literal["node_loss", "slow_node", "sinkhole", "region_loss", "partition", "gateway_crash"]


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """Distances that the region table does not have.

    Attributes:
        same_region_rtt_ms: round trip inside one region.
    """

    same_region_rtt_ms: float = number(1.0, least=0)


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """A model, or a family of them that differ in name only.

    Attributes:
        like: the model whose speeds and bytes it has; "" for its own name.
        scale: of its times and its bytes.
        count: 1 for a model of this name; more for name-01, name-02, ...
        weights_bytes: instead of those of `like`, not scaled.
        kv_bytes_per_token: instead of those of `like`, not scaled.
    """

    like: str = ""
    scale: float = number(1.0, above=0, most=100)
    count: int = number(1, least=1, most=10_000)
    weights_bytes: float | None = number(None, least=0)
    kv_bytes_per_token: float | None = number(None, least=0)


@dataclass(frozen=True, slots=True)
class NodesSettings:
    """A mix of nodes, or none when each is listed.

    Attributes:
        count: how many.
        hardware: weights of the classes; counts are the nearest whole numbers.
        speeds: each divides the times of its share of the nodes.
        speeds_by: even: as many nodes for each speed, in random order; lot: each node by lot.
        regions: where they stand; () for wherever clients are.
        regions_by: traffic: by the weights of the clients' regions; even: as many in each.
        models_per_node: models that a node may serve; 0 for all that its hardware runs.
        models_ready: of these, loaded at the start, as far as memory goes.
        models_on_disk: further ones on disk at the start.
        operators: how many operators run them, each node's by lot; 0 for none.
        zones_per_region: failure domains in each region, each node's by lot; 0 for none.
    """

    count: int = number(0, least=0, most=1_000_000)
    hardware: Mapping[str, float] = field(default_factory=dict)
    speeds: tuple[float, ...] = (1.0,)
    speeds_by: Literal["even", "lot"] = "even"
    regions: tuple[str, ...] = ()
    regions_by: Literal["traffic", "even"] = "traffic"
    models_per_node: int = number(0, least=0)
    models_ready: int = number(1, least=0)
    models_on_disk: int = number(0, least=0)
    operators: int = number(0, least=0)
    zones_per_region: int = number(0, least=0)


@dataclass(frozen=True, slots=True)
class NodeEntry:
    """One node that is listed.

    Attributes:
        name: unique.
        region: where it stands.
        hardware: its class.
        speed: divides every time of its class.
        models: what it may serve; () for all that its hardware runs.
        ready: of these, loaded at the start.
        on_disk: of these, on disk at the start.
        operator: who runs it.
        failure_domains: what it may fail together with.
        neighbours: users of its own, who ask it directly, each one request after the other.
        neighbour_prompt_tokens: median length of their prompts.
        neighbour_output_tokens: length of each of their answers.
        neighbour_early_share: share of these answers that end sooner, of their own accord, anywhere alike.
    """

    name: str
    region: str
    hardware: str
    speed: float = number(1.0, above=0)
    models: tuple[str, ...] = ()
    ready: tuple[str, ...] = ()
    on_disk: tuple[str, ...] = ()
    operator: str = ""
    failure_domains: tuple[str, ...] = ()
    neighbours: int = number(0, least=0, most=1000)
    neighbour_prompt_tokens: int = number(40, least=1)
    neighbour_output_tokens: int = number(96, least=1)
    neighbour_early_share: float = number(0.0, least=0, most=1)


@dataclass(frozen=True, slots=True)
class GatewaysSettings:
    """The gateways.

    Attributes:
        count: how many.
        regions: where, in turn; () for the busiest client regions first, and those far from all others next.
        attempts_max: nodes tried for one request.
        timeout_s: deadline of a request.
    """

    count: int = number(1, least=1, most=10_000)
    regions: tuple[str, ...] = ()
    attempts_max: int = number(3, least=1, most=100)
    timeout_s: float = number(120.0, above=0)


@dataclass(frozen=True, slots=True)
class BusSettings:
    """How gateways learn of nodes.

    Attributes:
        pulse_s: time between two pulses of a node, at most.
        pulse_s_min: as little as that where there are few nodes.
        pulses_per_s: pulses of all nodes together that these may bring about; 0: always `pulse_s`.
        loss: share of pulses that is lost.
        late: share of pulses that is delayed.
        late_s: mean of that delay, exponential.
        jitter: relative jitter of one-way delays.
        tick_s: deliveries wait for the next multiple of this; pulses come in whole ticks.
        in_step: all nodes speak at one instant, instead of each at its own phase; the bulletin board of
            queueing theory, and worse than a network.
        load_in_responses: answers carry the node's load.
        exact_loads: gateways see every node as it is; a reference, not a network.
    """

    pulse_s: float = number(1.0, above=0)
    pulse_s_min: float = number(0.2, above=0)
    pulses_per_s: float = number(50.0, least=0)
    loss: float = number(0.0, least=0, most=1)
    late: float = number(0.0, least=0, most=1)
    late_s: float = number(1.0, least=0)
    jitter: float = number(0.05, least=0, most=1)
    tick_s: float = number(0.05, above=0)
    in_step: bool = False
    load_in_responses: bool = True
    exact_loads: bool = False


@dataclass(frozen=True, slots=True)
class SloSettings:
    """What counts as served well.

    Attributes:
        ttft_ms: longest time to first token.
        tpot_ms: longest mean time between tokens.
    """

    ttft_ms: float = number(1000.0, above=0)
    tpot_ms: float = number(100.0, above=0)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong for a while.

    Attributes:
        kind: what.
        at_s: from when.
        duration_s: for how long; inf to the end.
        share: share of all nodes, by lot.
        nodes: or these.
        region: or all of this region; for region_loss and partition the region itself.
        regions: several of them.
        gateways: for gateway_crash, their numbers, from 0.
        factor: slow_node: how many times slower.
        error_ms: sinkhole: how soon it answers its error.
    """

    kind: FaultKind
    at_s: float = number(0.0, least=0)
    duration_s: float = number(float("inf"), above=0)
    share: float = number(0.0, least=0, most=1)
    nodes: tuple[str, ...] = ()
    region: str = ""
    regions: tuple[str, ...] = ()
    gateways: tuple[int, ...] = ()
    factor: float = number(10.0, above=0)
    error_ms: float = number(5.0, least=0)

    @property
    def all_regions(self) -> tuple[str, ...]:
        """`region` and `regions` together."""
        return ((self.region,) if self.region else ()) + self.regions


@dataclass(frozen=True, slots=True)
class Scenario:
    """A world, what comes to it, and what is to be compared in it.

    Attributes:
        name: the shipped name, or the file's name without its suffix.
        title: one line for people.
        question: what it is to answer.
        duration_s: requests come for so long.
        warmup_s: those of the first so many seconds are run but not counted.
        nodes: a mix of nodes.
        node: or each of them.
        gateways: where requests come in.
        bus: how gateways learn of nodes.
        network: distances.
        traffic: what requests come.
        faults: what goes wrong.
        slo: what counts as served well.
        models: of this world, beside those of the shipped table.
        hardware: classes of this world, beside those of the shipped table.
        policies: what to compare, each as `find_policy` takes it.
        sweep: values to try, by dotted key.
    """

    name: str = ""
    title: str = ""
    question: str = ""
    duration_s: float = number(60.0, above=0, most=1e8)
    warmup_s: float = number(0.0, least=0)
    nodes: NodesSettings = NodesSettings()
    node: tuple[NodeEntry, ...] = ()
    gateways: GatewaysSettings = GatewaysSettings()
    bus: BusSettings = BusSettings()
    network: NetworkSettings = NetworkSettings()
    traffic: TrafficSettings = field(default_factory=TrafficSettings)
    faults: tuple[Fault, ...] = ()
    slo: SloSettings = SloSettings()
    models: Mapping[str, ModelSettings] = field(default_factory=dict)
    hardware: Mapping[str, HardwareSpec] = field(default_factory=dict)
    policies: tuple[str, ...] = ("soonest", "least-request", "random")
    sweep: Mapping[str, tuple[object, ...]] = field(default_factory=dict)
