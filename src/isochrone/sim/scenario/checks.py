"""What the settings of a scenario must mean together; `settings_file` has checked each for itself.

Every function raises SettingError: `<file>: <dotted.key>: what; what to do`.
"""

from collections.abc import Iterable, Mapping

from isochrone.routing import find_policy
from isochrone.sim.scenario.decoder import Place, near_names
from isochrone.sim.scenario.geography import azure_regions
from isochrone.sim.scenario.hardware import class_for_models, hardware_classes, world_models
from isochrone.sim.scenario.node_mix import CONTEXT_SHARE, fits, node_name
from isochrone.sim.scenario.settings import Fault, NodeEntry, Scenario
from isochrone.sim.scenario.traffic_settings import SOURCES_WITH_TRACE, LengthSettings, TrafficSettings
from isochrone.sim.spec import REFERENCES, HardwareSpec

_SOME_NODES = ("node_loss", "slow_node", "sinkhole")


def check(scenario: Scenario, place: Place) -> None:
    """Raises SettingError for the first thing that is wrong."""
    if scenario.warmup_s >= scenario.duration_s:
        place.at("warmup_s").wrong(f"is {scenario.warmup_s:g}; it must be less than duration_s")
    _check_policies(scenario, place.at("policies"))
    _check_regions(scenario.gateways.regions, place.at("gateways.regions"))
    _check_traffic(scenario.traffic, place.at("traffic"))
    for name, hardware in scenario.hardware.items():
        _check_hardware(hardware, place.at("hardware").at(name))
    _check_nodes(scenario, place)
    names = _node_names(scenario)
    for number, fault in enumerate(scenario.faults):
        _check_fault(fault, scenario, names, place.at("faults").at(number))


def _check_policies(scenario: Scenario, place: Place) -> None:
    if not scenario.policies:
        place.wrong("is empty; name at least one")
    for number, text in enumerate(scenario.policies):
        try:
            if text not in REFERENCES:
                find_policy(text)
        except KeyError as error:
            place.at(number).wrong(str(error.args[0]))


def _check_regions(names: Iterable[str], place: Place) -> None:
    for name in names:
        if name not in azure_regions():
            place.wrong(f"there is no region '{name}'; {near_names(name, azure_regions())}")


# -- traffic -----------------------------------------------------------------------------------------


def _check_traffic(traffic: TrafficSettings, place: Place) -> None:
    if (traffic.rho is None) == (traffic.rate_per_s is None):
        both = traffic.rho is not None
        place.wrong(
            "has both rho and rate_per_s; give one of them" if both else "has no rate; give rho or rate_per_s"
        )
    if not traffic.trace and traffic.source in SOURCES_WITH_TRACE:
        place.at("trace").wrong(f"is missing; source '{traffic.source}' needs the path of a file")
    if traffic.trace and traffic.source == "generated":
        place.at("trace").wrong("is given, but source is 'generated'; set source to the kind of trace")
    if traffic.source == "servegen" and traffic.day.amplitude:
        place.at("day.amplitude").wrong(
            "must be 0 with source 'servegen', whose rates have days of their own"
        )
    if traffic.source in {"azure", "mooncake"} and traffic.prefix.follow_up_share:
        place.at("prefix.follow_up_share").wrong("must be 0 with a trace, whose lengths count everything")
    _check_length(traffic.prompt, place.at("prompt"))
    _check_length(traffic.output, place.at("output"))
    _check_regions(traffic.regions, place.at("regions"))
    for name, weight in traffic.regions.items():
        if weight < 0:
            place.at("regions").at(name).wrong(f"is {weight:g}; it must be at least 0")
    if traffic.regions and not sum(traffic.regions.values()):
        place.at("regions").wrong("has only weights of 0; give one more than 0")
    if not sum(traffic.priorities) or min(traffic.priorities) < 0:
        place.at("priorities").wrong("must be weights of at least 0, one of them more")
    for number, surge in enumerate(traffic.surges):
        if surge.region:
            _check_regions([surge.region], place.at("surges").at(number).at("region"))


def _check_length(length: LengthSettings, place: Place) -> None:
    key = "mean_tokens" if length.kind == "exponential" else "median_tokens"
    value = getattr(length, key)
    if value > length.max_tokens:
        place.at("max_tokens").wrong(f"is {length.max_tokens}; it must be at least {key}, {value:g}")


# -- nodes -------------------------------------------------------------------------------------------


def _check_hardware(hardware: HardwareSpec, place: Place) -> None:
    at_least = {"slots": 1, "queue_max": 0, "memory_bytes": 0, "chunk_tokens": 0, "prefix_block_tokens": 0}
    at_least["prefix_store_bytes"] = 0
    for key, least in at_least.items():
        if getattr(hardware, key) < least:
            place.at(key).wrong(f"is {getattr(hardware, key):g}; it must be at least {least}")
    for model, speed in hardware.speeds.items():
        for key in speed.__slots__:
            if getattr(speed, key) < 0:
                place.at("speeds").at(model).at(key).wrong(
                    f"is {getattr(speed, key):g}; it must be at least 0"
                )


def _check_nodes(scenario: Scenario, place: Place) -> None:
    models = world_models(scenario, place)
    if not models:
        place.at("traffic.models").wrong("is empty, and there is no [models]; name at least one model")
    classes = hardware_classes(scenario)
    able = {name: class_for_models(each, models) for name, each in classes.items()}
    if bool(scenario.node) == bool(scenario.nodes.count):
        both = bool(scenario.node)
        place.at("nodes.count").wrong(
            "is given beside [[node]] entries; leave one of them out"
            if both
            else "is missing; give it, or list each node under [[node]]"
        )
    seen: set[str] = set()
    for number, entry in enumerate(scenario.node):
        if entry.name in seen:
            place.at("node").at(number).at("name").wrong(f"'{entry.name}' is there twice; rename one")
        seen.add(entry.name)
        _check_entry(entry, able, scenario, place.at("node").at(number))
    if scenario.nodes.count:
        _check_mix(scenario, able, place.at("nodes"))
    used = [entry.hardware for entry in scenario.node] or [
        name for name, weight in scenario.nodes.hardware.items() if weight
    ]
    for model in models:
        if not any(model in able[name].speeds for name in used):
            place.at("traffic.models").wrong(
                f"no node can run '{model}'; give its hardware speeds for it, or other hardware"
            )


def _known_class(name: str, able: Mapping[str, HardwareSpec], place: Place) -> None:
    if name not in able:
        place.wrong(f"there is no hardware '{name}'; {near_names(name, tuple(able))}")


def _check_mix(scenario: Scenario, able: Mapping[str, HardwareSpec], place: Place) -> None:
    nodes, models = scenario.nodes, world_models(scenario)
    if not sum(nodes.hardware.values()):
        place.at("hardware").wrong("is empty; give weights of classes, such as {'h100-80gb-x2' = 1}")
    for name, weight in nodes.hardware.items():
        at = place.at("hardware").at(name)
        _known_class(name, able, at)
        if weight < 0:
            at.wrong(f"is {weight:g}; it must be at least 0")
        room_bytes = able[name].memory_bytes * (1 - CONTEXT_SHARE)
        if weight and not any(models[model].spec.weights_bytes <= room_bytes for model in able[name].speeds):
            at.wrong("can hold none of the models; give more memory, speeds for them, or smaller models")
    if not nodes.speeds or min(nodes.speeds) <= 0:
        place.at("speeds").wrong("must be numbers of more than 0, one at least")
    _check_regions(nodes.regions, place.at("regions"))
    by_traffic = nodes.regions and nodes.regions_by == "traffic" and scenario.traffic.regions
    if by_traffic and not any(scenario.traffic.regions.get(name) for name in nodes.regions):
        place.at("regions").wrong("has no region with clients; set nodes.regions_by = 'even'")
    if nodes.models_per_node and nodes.models_per_node < nodes.models_ready + nodes.models_on_disk:
        place.at("models_per_node").wrong("is less than models_ready and models_on_disk together; raise it")


def _check_entry(
    entry: NodeEntry, able: Mapping[str, HardwareSpec], scenario: Scenario, place: Place
) -> None:
    models = world_models(scenario)
    _check_regions([entry.region], place.at("region"))
    _known_class(entry.hardware, able, place.at("hardware"))
    hardware = able[entry.hardware]
    for name in entry.models:
        if name not in hardware.speeds:
            there = near_names(name, tuple(hardware.speeds))
            place.at("models").wrong(f"'{name}' is no model that {entry.hardware} runs here; {there}")
    served = entry.models or tuple(hardware.speeds)
    for key in ("ready", "on_disk"):
        for name in getattr(entry, key):
            if name not in served:
                place.at(key).wrong(f"'{name}' is no model of this node; {near_names(name, served)}")
    if not fits([models[name].spec for name in entry.ready], hardware):
        gb = sum(models[name].spec.weights_bytes for name in entry.ready) / 1e9
        place.at("ready").wrong(
            f"weighs {gb:g} GB, more than the {hardware.memory_bytes / 1e9:g} GB of {entry.hardware}; "
            "load fewer, the rest can be on_disk"
        )


# -- faults ------------------------------------------------------------------------------------------


def _node_names(scenario: Scenario) -> frozenset[str]:
    if scenario.node:
        return frozenset(entry.name for entry in scenario.node)
    count = scenario.nodes.count
    return frozenset(node_name(number, count) for number in range(1, count + 1))


def _check_fault(fault: Fault, scenario: Scenario, names: frozenset[str], place: Place) -> None:
    if fault.at_s >= scenario.duration_s:
        place.at("at_s").wrong(f"is {fault.at_s:g}; it must be less than the scenario's duration_s")
    _check_regions(fault.all_regions, place.at("regions"))
    given = {
        "share": bool(fault.share),
        "nodes": bool(fault.nodes),
        "regions": bool(fault.all_regions),
        "gateways": bool(fault.gateways),
    }
    allowed = _whom(fault)
    for key, is_given in given.items():
        if is_given and key not in allowed:
            place.at(key).wrong(f"means nothing for a {fault.kind}; give {' or '.join(allowed)}")
    if sum(given[key] for key in allowed) != 1:
        place.wrong(f"is a {fault.kind}; give one of {', '.join(allowed)}, to say whom it hits")
    for name in fault.nodes:
        if name not in names:
            place.at("nodes").wrong(f"there is no node '{name}'; the first of them is '{min(names)}'")
    for number in fault.gateways:
        if not 0 <= number < scenario.gateways.count:
            place.at("gateways").wrong(
                f"there is no gateway {number}; they are 0 to {scenario.gateways.count - 1}"
            )


def _whom(fault: Fault) -> tuple[str, ...]:
    """The keys of which one says whom a fault of this kind hits."""
    if fault.kind in _SOME_NODES:
        return ("share", "nodes", "regions")
    if fault.kind == "gateway_crash":
        return ("gateways",)
    return ("regions",)
