"""The scenarios that ship, and what the docs tell of them."""

import dataclasses
from itertools import islice
from pathlib import Path

import pytest

from isochrone.cli.places import DEMO_NODES, GATEWAY_REGION
from isochrone.sim.scenario.files import (
    arrivals,
    build_nodes,
    gateway_regions,
    load_scenario,
    shipped_scenarios,
)
from isochrone.sim.scenario.settings import (
    BusSettings,
    Fault,
    GatewaysSettings,
    ModelSettings,
    NetworkSettings,
    NodeEntry,
    NodesSettings,
    Scenario,
    SloSettings,
)
from isochrone.sim.scenario.traffic_settings import (
    DaySettings,
    LengthSettings,
    PrefixSettings,
    Surge,
    TrafficSettings,
)
from isochrone.sim.spec import HardwareSpec, SpeedSpec

DOCS = (Path(__file__).parents[2] / "docs/scenarios.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", shipped_scenarios())
def test_every_shipped_scenario_loads_and_brings_requests_in_order(name: str) -> None:
    scenario = load_scenario(name)
    nodes = build_nodes(scenario, seed=1)
    assert nodes == build_nodes(scenario, seed=1)
    jobs = list(islice(arrivals(scenario, nodes, seed=1), 200))
    assert len(jobs) > 100
    assert [job.at_s for job in jobs] == sorted(job.at_s for job in jobs)
    assert [job.id for job in jobs] == list(range(len(jobs)))
    assert all(any(job.model in node.models for node in nodes) for job in jobs[:20])
    assert len(gateway_regions(scenario)) == scenario.gateways.count


@pytest.mark.parametrize("name", shipped_scenarios())
def test_every_shipped_scenario_is_told_in_the_docs_and_has_its_texts(name: str) -> None:
    scenario = load_scenario(name)
    assert f"| `{name}` |" in DOCS
    assert scenario.title == shipped_scenarios()[name]
    assert scenario.title
    assert scenario.question.endswith("?")
    assert "\n" not in scenario.title


def test_the_experiments_ship() -> None:
    assert {name.split("-")[0] for name in shipped_scenarios()} >= {"e1", "e2", "e3", "e4", "e5", "e6"}
    assert {"laptop", "hour-10k", "smoke"} <= set(shipped_scenarios())


def test_the_laptop_is_the_demo_network() -> None:
    laptop = load_scenario("laptop")
    told = [(node.name, node.operator, node.region, bool(node.ready)) for node in laptop.node]
    assert told == [(node.name, node.operator, node.region, node.preload) for node in DEMO_NODES]
    assert gateway_regions(laptop) == (GATEWAY_REGION,)


@pytest.mark.parametrize(
    ("kind", "prefix"),
    [
        (Scenario, ""),
        (NodesSettings, "nodes."),
        (NodeEntry, "node."),
        (ModelSettings, "models.NAME."),
        (HardwareSpec, "hardware.NAME."),
        (SpeedSpec, "hardware.NAME.speeds.MODEL."),
        (GatewaysSettings, "gateways."),
        (BusSettings, "bus."),
        (NetworkSettings, "network."),
        (TrafficSettings, "traffic."),
        (LengthSettings, "traffic.prompt."),
        (PrefixSettings, "traffic.prefix."),
        (DaySettings, "traffic.day."),
        (Surge, "traffic.surges."),
        (Fault, "faults."),
        (SloSettings, "slo."),
    ],
)
def test_every_key_is_told_in_the_docs_with_its_default(kind: type, prefix: str) -> None:
    sections = {"speeds", "prompt", "output", "prefix", "day", "surges", "regions"}
    sections |= {"node", "nodes", "gateways", "bus", "network", "traffic", "faults", "slo", "models", "sweep"}
    for each in dataclasses.fields(kind):
        row = next(
            (line for line in DOCS.splitlines() if line.startswith(f"| `{prefix}{each.name}` |")), None
        )
        if row is None:
            assert f"[{prefix}{each.name}" in DOCS or each.name in sections | {"name", "hardware"}, each.name
        elif isinstance(each.default, int | float) and not isinstance(each.default, bool):
            default = row.split("|")[3].strip().strip("`").replace(",", "")
            assert float(default) == each.default, each.name
