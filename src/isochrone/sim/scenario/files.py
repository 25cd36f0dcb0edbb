"""Scenarios: TOML files that describe a world, what comes to it, and what is to be compared in it.

docs/scenarios.md tells every key. Those that ship are in `scenarios/`. What is wrong in one is told in one
line, `<file>: <dotted.key>: what; what to do`, by SettingError.
"""

import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from functools import cache
from importlib import resources
from itertools import product
from math import prod
from pathlib import Path

from isochrone.ports import SettingError
from isochrone.sim.scenario.checks import check
from isochrone.sim.scenario.decoder import Place, near_names, read_table
from isochrone.sim.scenario.geography import Geography, azure_rtts_ms, busiest_first
from isochrone.sim.scenario.hardware import hardware_classes, world_models
from isochrone.sim.scenario.node_mix import build_nodes
from isochrone.sim.scenario.settings import (
    BusSettings,
    Fault,
    GatewaysSettings,
    NodesSettings,
    Scenario,
    SloSettings,
)
from isochrone.sim.scenario.traffic_settings import TrafficSettings
from isochrone.sim.traffic.jobs import arrivals, client_regions

__all__ = [
    "BusSettings",
    "Fault",
    "GatewaysSettings",
    "NodesSettings",
    "Scenario",
    "SloSettings",
    "TrafficSettings",
    "arrivals",
    "build_nodes",
    "cells",
    "changed",
    "digest",
    "gateway_regions",
    "geography",
    "load_scenario",
    "read_scenario",
    "shipped_scenarios",
]

CELLS_MAX = 1000
_RATES = ("traffic.rho", "traffic.rate_per_s")
_TELLS_NOTHING = ("name", "title", "question", "policies", "sweep")
"""What shapes no result: for people, or which results are wanted."""


def load_scenario(path_or_name: str) -> Scenario:
    """A shipped scenario by its name, or one from a `.toml` file. Raises SettingError.

    A trace's relative path in a file is relative to that file.
    """
    if path_or_name in _shipped():
        return read_scenario(_shipped()[path_or_name], f"{path_or_name}.toml")
    path = Path(path_or_name)
    if path.suffix != ".toml" and not path.exists():
        raise SettingError(
            f"there is no scenario '{path_or_name}'; {near_names(path_or_name, tuple(_shipped()))} "
            "Or give the path of a .toml file."
        )
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(
            f"{path_or_name}: can't be read: {error}; give the path of a .toml file"
        ) from error
    return read_scenario(text, path_or_name)


def read_scenario(text: str, source: str) -> Scenario:
    """A scenario from the text of a file at `source`. Raises SettingError."""
    place = Place(source)
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingError(f"{source}: is no TOML: {error}; correct it") from error
    if "name" in raw:
        place.at("name").wrong("is not a key; the name of the file is the scenario's")
    raw["name"] = Path(source).stem
    traffic = raw.get("traffic")
    if isinstance(traffic, dict) and isinstance(traffic.get("trace"), str) and traffic["trace"]:
        traffic["trace"] = str(Path(source).parent / traffic["trace"])
    scenario = _read(raw, place)
    if prod(len(values) for values in scenario.sweep.values()) > CELLS_MAX:
        place.at("sweep").wrong(f"has more than {CELLS_MAX} cells; take out values")
    for key, values in scenario.sweep.items():
        for value in values:
            _change(scenario, {key: value}, place.at("sweep"))
    return scenario


def shipped_scenarios() -> dict[str, str]:
    """The titles of the scenarios that ship, by name."""
    return {name: str(tomllib.loads(text).get("title", "")) for name, text in _shipped().items()}


def changed(scenario: Scenario, changes: Mapping[str, object]) -> Scenario:
    """The scenario with other values at dotted keys, such as `nodes.count` or `faults.0.at_s`; checked again.

    `traffic.rho` takes the place of `traffic.rate_per_s`, and the other way round. Raises SettingError.
    """
    return _change(scenario, changes, Place(scenario.name)) if changes else scenario


def cells(scenario: Scenario) -> Iterator[tuple[dict[str, object], Scenario]]:
    """Each cell of the sweep, the last key running fastest: its changes, and the scenario with them.

    One cell without changes when there is no sweep. The scenarios have no sweep left. Raises SettingError for
    values that make no sense together.
    """
    single = replace(scenario, sweep={})
    for values in product(*scenario.sweep.values()):
        changes = dict(zip(scenario.sweep, values, strict=True))
        yield changes, changed(single, changes)


def digest(scenario: Scenario) -> str:
    """Hex digest of everything that shapes a result, the bytes of tables and of a trace included.

    Titles, the policies to compare and the sweep are left out: a cell of a sweep has the digest of the same
    scenario written out. The version of the code and the seed are not in it.
    """
    told = {key: value for key, value in asdict(scenario).items() if key not in _TELLS_NOTHING}
    if not scenario.traffic.slo_share:
        del told["traffic"]["slo_share"]  # nothing has changed for those who ask for nothing
    if not scenario.traffic.output_client_sigma:
        del told["traffic"]["output_client_sigma"]
    classes = hardware_classes(scenario)
    used = {entry.hardware for entry in scenario.node} | set(scenario.nodes.hardware)
    told["hardware"] = {name: asdict(classes[name]) for name in sorted(used)}
    for told_class in told["hardware"].values():
        if told_class["prefix_cache"] == "blocks":
            del told_class["prefix_cache"], told_class["prefix_store_bytes"]
        if told_class["loads_known"]:
            del told_class["loads_known"]
    for told_node in told["node"]:
        if not told_node["neighbour_early_share"]:
            del told_node["neighbour_early_share"]
    told["models"] = [asdict(model) for model in world_models(scenario).values()]
    told["table"] = sorted((*pair, rtt_ms) for pair, rtt_ms in azure_rtts_ms().items())
    if scenario.traffic.trace:
        told["traffic"]["trace"] = _file_digest(scenario.traffic.trace)
    text = json.dumps(told, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def geography(scenario: Scenario) -> Geography:
    """The distances of the scenario."""
    return Geography(azure_rtts_ms(), scenario.network.same_region_rtt_ms)


def gateway_regions(scenario: Scenario) -> tuple[str, ...]:
    """The region of each gateway, by its number.

    `gateways.regions` in turn; without them the busiest client regions first, of equally busy ones that which
    is farthest from those before it, and from the start again when there are more gateways than regions.
    """
    names = scenario.gateways.regions or busiest_first(client_regions(scenario), geography(scenario))
    return tuple(names[number % len(names)] for number in range(scenario.gateways.count))


@cache
def _shipped() -> dict[str, str]:
    """Texts of the scenarios that ship, by name."""
    folder = resources.files("isochrone.sim").joinpath("scenarios")
    files = sorted(
        (each for each in folder.iterdir() if each.name.endswith(".toml")), key=lambda each: each.name
    )
    return {each.name.removesuffix(".toml"): each.read_text(encoding="utf-8") for each in files}


def _read(raw: object, place: Place) -> Scenario:
    scenario = read_table(Scenario, raw, place)
    check(scenario, place)
    return scenario


def _change(scenario: Scenario, changes: Mapping[str, object], place: Place) -> Scenario:
    raw = asdict(scenario)
    for key in _RATES:
        if key in changes:
            for other in _RATES:
                raw["traffic"][other.rpartition(".")[2]] = None
    for key, value in changes.items():
        _put(raw, key, value, place)
    return _read(raw, place)


def _put(raw: dict[str, object], key: str, value: object, place: Place) -> None:
    """Set what stands at a dotted key; a number is a place in a list. New names may be put into tables."""
    *path, last = key.split(".")
    inside: object = raw
    for depth, part in enumerate(path):
        if isinstance(inside, tuple | list) and part.isdigit() and int(part) < len(inside):
            inside = inside[int(part)]
        elif isinstance(inside, dict) and part in inside:
            inside = inside[part]
        else:
            names = tuple(inside) if isinstance(inside, dict) else ()
            here = ".".join(path[: depth + 1])
            place.at(key).wrong(f"there is no '{here}' to change; {near_names(part, names)}")
    if not isinstance(inside, dict):
        place.at(key).wrong("is not a key; give the key of a single value")
    inside[last] = value


def _file_digest(path: str) -> str:
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise SettingError(f"{path}: can't be read: {error.strerror}; give the trace's path") from error
