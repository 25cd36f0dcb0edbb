"""The nodes of a scenario: a mix dealt out from one seed, or each as it is listed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from isochrone.sim.scenario.geography import azure_regions
from isochrone.sim.scenario.hardware import class_for_models, hardware_classes, world_models
from isochrone.sim.scenario.settings import NodeEntry, NodesSettings, Scenario
from isochrone.sim.spec import HardwareSpec, ModelSpec, NodeSpec
from isochrone.sim.traffic.jobs import client_regions, model_shares
from isochrone.sim.traffic.streams import Floats, luck_for, pick, whole_shares

T = TypeVar("T")

CONTEXT_SHARE = 0.1
"""Of a node's memory, what a mix leaves free of weights, for context."""


def build_nodes(scenario: Scenario, seed: int) -> tuple[NodeSpec, ...]:
    """The nodes of a scenario that was checked. The same scenario and seed give the same nodes.

    Hardware, speeds, regions, models and operators each have luck of their own.
    """
    if scenario.node:
        return tuple(_listed(scenario))
    return tuple(_dealt(scenario, seed))


def node_name(number: int, count: int) -> str:
    """Of the node of that number, from 1, in a mix of `count`."""
    return f"node-{number:0{max(3, len(str(count)))}}"


def fits(models: Sequence[ModelSpec], hardware: HardwareSpec) -> bool:
    """Whether the weights of all `models` go into the memory at once."""
    return sum(model.weights_bytes for model in models) <= hardware.memory_bytes


def _listed(scenario: Scenario) -> list[NodeSpec]:
    models, classes = world_models(scenario), hardware_classes(scenario)
    specs = {name: model.spec for name, model in models.items()}
    able = {name: class_for_models(each, models) for name, each in classes.items()}
    return [_entry_spec(entry, able[entry.hardware], specs) for entry in scenario.node]


def _entry_spec(entry: NodeEntry, hardware: HardwareSpec, specs: Mapping[str, ModelSpec]) -> NodeSpec:
    served = entry.models or tuple(hardware.speeds)
    return NodeSpec(
        name=entry.name,
        region=entry.region,
        hardware=hardware,
        models={name: specs[name] for name in served},
        ready=entry.ready,
        on_disk=entry.on_disk,
        speed=entry.speed,
        operator=entry.operator,
        failure_domains=entry.failure_domains,
        neighbours=entry.neighbours,
        neighbour_prompt_tokens=entry.neighbour_prompt_tokens,
        neighbour_output_tokens=entry.neighbour_output_tokens,
        neighbour_early_share=entry.neighbour_early_share,
    )


def _dealt(scenario: Scenario, seed: int) -> list[NodeSpec]:
    settings, models = scenario.nodes, world_models(scenario)
    count = settings.count
    classes = hardware_classes(scenario)
    able = {name: class_for_models(classes[name], models) for name in sorted(settings.hardware)}
    weights = np.array([settings.hardware[name] for name in able])
    hardware = _even(tuple(able.values()), weights, count, luck_for(seed, "node hardware"))
    regions = _regions(scenario, seed)
    speeds = _speeds(settings, seed)
    operators = _lots(settings.operators, count, luck_for(seed, "node operators"))
    zones = _lots(settings.zones_per_region, count, luck_for(seed, "node zones"))
    dealt = _deal_models(scenario, hardware, {name: each.spec for name, each in models.items()}, seed)
    return [
        NodeSpec(
            name=node_name(index + 1, count),
            region=regions[index],
            hardware=hardware[index],
            models=dealt.models[index],
            ready=dealt.ready[index],
            on_disk=dealt.on_disk[index],
            speed=speeds[index],
            operator=f"operator-{operators[index]}" if operators else "",
            failure_domains=(f"{regions[index]}/zone-{zones[index]}",) if zones else (),
        )
        for index in range(count)
    ]


def _even(things: Sequence[T], weights: Floats, count: int, luck: np.random.Generator) -> list[T]:
    """`count` of `things` in the nearest whole numbers to their weights, in random order."""
    indices = np.repeat(np.arange(len(things)), whole_shares(weights, count))
    return [things[index] for index in luck.permutation(indices).tolist()]


def _lots(kinds: int, count: int, luck: np.random.Generator) -> list[int]:
    """`count` numbers from 1 to `kinds`; none without kinds."""
    return (luck.integers(0, kinds, count) + 1).tolist() if kinds else []


def _speeds(settings: NodesSettings, seed: int) -> list[float]:
    luck, weights = luck_for(seed, "node speeds"), np.ones(len(settings.speeds))
    if settings.speeds_by == "lot":
        return [settings.speeds[index] for index in pick(weights, luck.random(settings.count)).tolist()]
    return _even(settings.speeds, weights, settings.count, luck)


def _regions(scenario: Scenario, seed: int) -> list[str]:
    settings, clients = scenario.nodes, client_regions(scenario)
    if settings.regions_by == "traffic":
        names = settings.regions or tuple(clients)
        weights = np.array([clients.get(name, 0.0) for name in names])
    else:
        names = settings.regions or azure_regions()
        weights = np.ones(len(names))
    luck = luck_for(seed, "node regions")
    order = luck.permutation(len(names))
    return _even([names[index] for index in order.tolist()], weights[order], settings.count, luck)


# -- models ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Dealt:
    """Models of each node, by its index."""

    models: list[Mapping[str, ModelSpec]] = field(default_factory=list)
    ready: list[tuple[str, ...]] = field(default_factory=list)
    on_disk: list[tuple[str, ...]] = field(default_factory=list)


class _Deck:
    """Deals models so that each is given in proportion to its popularity, as far as nodes can take it."""

    def __init__(self, shares: Floats, cards: int) -> None:
        self._wanted = shares * cards

    def deal(self, able: Sequence[int], count: int, room_bytes: float, weights_bytes: Floats) -> list[int]:
        """At most `count` of `able`, those most behind their share first, whose weights fit into the room."""
        hand: list[int] = []
        for model in sorted(able, key=lambda each: -self._wanted[each]):
            if len(hand) == count:
                break
            if weights_bytes[model] <= room_bytes:
                room_bytes -= weights_bytes[model]
                self._wanted[model] -= 1
                hand.append(model)
        return hand


def _deal_models(
    scenario: Scenario, hardware: Sequence[HardwareSpec], specs: Mapping[str, ModelSpec], seed: int
) -> _Dealt:
    settings, names = scenario.nodes, tuple(specs)
    shares = np.array(list(model_shares(scenario).values()))
    weights = np.array([spec.weights_bytes for spec in specs.values()])
    able = {each.name: _able(each, names, weights) for each in hardware}
    ready_deck = _Deck(shares, settings.models_ready * len(hardware))
    disk_deck = _Deck(shares, settings.models_on_disk * len(hardware))
    more_deck = _Deck(shares, settings.models_per_node * len(hardware))
    served: list[list[int]] = []
    dealt = _Dealt()
    for each in hardware:
        room_bytes = each.memory_bytes * (1 - CONTEXT_SHARE)
        ready = ready_deck.deal(able[each.name], settings.models_ready, room_bytes, weights)
        rest = [model for model in able[each.name] if model not in ready]
        on_disk = disk_deck.deal(rest, settings.models_on_disk, np.inf, weights)
        rest = [model for model in rest if model not in on_disk]
        more = settings.models_per_node - len(ready) - len(on_disk)
        kept = more_deck.deal(rest, max(0, more), np.inf, weights) if settings.models_per_node else rest
        served.append(ready + on_disk + kept)
        dealt.ready.append(tuple(names[model] for model in ready))
        dealt.on_disk.append(tuple(names[model] for model in on_disk))
    _serve_all(served, [able[each.name] for each in hardware], len(names), luck_for(seed, "node models"))
    known: dict[tuple[int, ...], Mapping[str, ModelSpec]] = {}
    for hand in served:
        key = tuple(sorted(hand))
        dealt.models.append(known.setdefault(key, {names[model]: specs[names[model]] for model in key}))
    return dealt


def _able(hardware: HardwareSpec, names: Sequence[str], weights_bytes: Floats) -> list[int]:
    """Models that the class runs and that fit into its memory with room for context."""
    room_bytes = hardware.memory_bytes * (1 - CONTEXT_SHARE)
    return [
        index
        for index, name in enumerate(names)
        if name in hardware.speeds and weights_bytes[index] <= room_bytes
    ]


def _serve_all(
    served: Sequence[list[int]], able: Sequence[Sequence[int]], models: int, luck: np.random.Generator
) -> None:
    """A model that no node got may be served by one node, by lot, that is able to."""
    missing = set(range(models)).difference(*served)
    for model in sorted(missing):
        takers = [index for index, hand in enumerate(able) if model in hand]
        if takers:
            served[takers[int(luck.integers(len(takers)))]].append(model)
