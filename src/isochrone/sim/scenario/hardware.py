"""Classes of hardware and models: the table that ships with the package, and a scenario's own.

The table is `data/hardware.toml`, which `bench/fit_hardware` makes; what was measured and what is assumed
stands in its head.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

from isochrone.sim.scenario.decoder import Place, near_names, read_table
from isochrone.sim.scenario.settings import Scenario
from isochrone.sim.spec import HardwareSpec, ModelSpec, SpeedSpec

_TABLE = "hardware.toml"


@dataclass(frozen=True, slots=True)
class HardwareTable:
    """What the package knows of hardware.

    Attributes:
        hardware: classes by name.
        models: by name.
    """

    hardware: Mapping[str, HardwareSpec]
    models: Mapping[str, ModelSpec]


@dataclass(frozen=True, slots=True)
class WorldModel:
    """One model of a world.

    Attributes:
        spec: its name and bytes.
        like: the model whose speeds it has.
        scale: of those times.
        rank: its place in its family, from 0 to 1: families take turns in popularity.
    """

    spec: ModelSpec
    like: str
    scale: float = 1.0
    rank: float = 0.0


@cache
def load_hardware() -> HardwareTable:
    """The table that ships with the package, read once."""
    text = resources.files("isochrone.data").joinpath(_TABLE).read_text(encoding="utf-8")
    return read_table(HardwareTable, tomllib.loads(text), Place(_TABLE))


def hardware_classes(scenario: Scenario) -> dict[str, HardwareSpec]:
    """All classes that the scenario may name; its own win."""
    return {**load_hardware().hardware, **scenario.hardware}


def world_models(scenario: Scenario, place: Place | None = None) -> dict[str, WorldModel]:
    """The models of the scenario by name, most wanted first.

    Those are what `traffic.models` names, family by family; without it all of `[models]`, where families take
    turns: the first of each, and so on, in the proportion of their sizes. A name that is only in the shipped
    table, or in the speeds of a class of the scenario's own, is a model too. Raises SettingError.
    """
    place = place or Place(scenario.name)
    families = {name: _family(name, scenario, place.at("models").at(name)) for name in scenario.models}
    if not scenario.traffic.models:
        merged = sorted((each for family in families.values() for each in family), key=lambda each: each.rank)
        return {each.spec.name: each for each in merged}
    chosen: dict[str, WorldModel] = {}
    members = {each.spec.name: each for family in families.values() for each in family}
    for number, name in enumerate(scenario.traffic.models):
        if name in families:
            chosen |= {each.spec.name: each for each in families[name]}
        elif name in members:
            chosen[name] = members[name]
        else:
            base = _base_model(name, scenario, place.at("traffic.models").at(number))
            chosen[name] = WorldModel(base, like=name)
    return chosen


def class_for_models(hardware: HardwareSpec, models: Mapping[str, WorldModel]) -> HardwareSpec:
    """`hardware` with speeds for just those of `models` that it can run."""
    speeds = {
        name: _scaled(hardware.speeds[key], model.scale if key == model.like else 1.0)
        for name, model in models.items()
        for key in (name if name in hardware.speeds else model.like,)
        if key in hardware.speeds
    }
    return replace(hardware, speeds=speeds)


def _scaled(speed: SpeedSpec, scale: float) -> SpeedSpec:
    if scale == 1.0:
        return speed
    return SpeedSpec(
        prefill_base_ms=speed.prefill_base_ms * scale,
        prefill_ms_per_token=speed.prefill_ms_per_token * scale,
        tpot_ms=speed.tpot_ms * scale,
        tpot_ms_per_sequence=speed.tpot_ms_per_sequence * scale,
        load_s=speed.load_s * scale,
        fetch_s=speed.fetch_s * scale,
    )


def _family(name: str, scenario: Scenario, place: Place) -> list[WorldModel]:
    settings = scenario.models[name]
    like = settings.like or name
    base = _base_model(like, scenario, place)
    weights, kv = settings.weights_bytes, settings.kv_bytes_per_token
    spec = ModelSpec(
        name=name,
        weights_bytes=base.weights_bytes * settings.scale if weights is None else weights,
        kv_bytes_per_token=base.kv_bytes_per_token * settings.scale if kv is None else kv,
    )
    if settings.count == 1:
        return [WorldModel(spec, like, settings.scale, rank=0.5)]
    digits = len(str(settings.count))
    return [
        WorldModel(
            replace(spec, name=f"{name}-{number + 1:0{digits}}"),
            like,
            settings.scale,
            rank=(number + 0.5) / settings.count,
        )
        for number in range(settings.count)
    ]


def _base_model(name: str, scenario: Scenario, place: Place) -> ModelSpec:
    shipped = load_hardware().models
    if name in shipped:
        return shipped[name]
    own = {model: None for hardware in scenario.hardware.values() for model in hardware.speeds}
    if name not in own:
        place.wrong(f"there is no model '{name}'; {near_names(name, (*shipped, *own, *scenario.models))}")
    return ModelSpec(name)
