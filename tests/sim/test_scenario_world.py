"""The places and the nodes that a scenario makes."""

from scenario_nouns import small

from isochrone.adapters.regions import load_regions
from isochrone.sim.scenario.files import build_nodes, changed, gateway_regions, geography, load_scenario
from isochrone.sim.scenario.geography import UTC_OFFSET_HOURS, Geography, azure_regions, azure_rtts_ms

# -- places ------------------------------------------------------------------------------------------


def test_the_table_is_that_of_the_gateways_and_has_all_time_zones() -> None:
    table = load_regions()
    assert dict(azure_rtts_ms()) == dict(table.rtts_ms)
    assert azure_regions() == table.names
    assert set(UTC_OFFSET_HOURS) == set(azure_regions())


def test_ways_there_and_back_differ_as_the_table_does() -> None:
    world = Geography({("a", "b"): 10.0, ("b", "a"): 14.0}, same_region_rtt_ms=2.0)
    assert world.regions == ("a", "b")
    assert (world.rtt_ms("a", "b"), world.rtt_ms("a", "a")) == (10.0, 2.0)
    assert world.one_way_ms("a", "b") + world.one_way_ms("b", "a") == 12.0
    assert geography(small(network__same_region_rtt_ms=0)).one_way_ms("UK South", "UK South") == 0.0


def test_gateways_stand_where_most_clients_are_and_then_spread() -> None:
    weights = {"East US": 1.0, "West Europe": 5.0, "East US 2": 1.0, "Southeast Asia": 1.0}
    scenario = small(traffic__regions=weights, gateways__count=5)
    regions = gateway_regions(scenario)
    assert regions[0] == regions[4] == "West Europe"
    assert set(regions) == set(weights)
    assert {regions[1], regions[2]} >= {"Southeast Asia"}
    listed = changed(scenario, {"gateways.regions": ["UK South", "UK West"], "gateways.count": 3})
    assert gateway_regions(listed) == ("UK South", "UK West", "UK South")
    everywhere = gateway_regions(small(gateways__count=54))
    assert sorted(everywhere) == list(azure_regions())


# -- nodes -------------------------------------------------------------------------------------------


def test_a_mix_has_the_shares_that_were_asked_for() -> None:
    nodes = build_nodes(
        small(
            nodes__count=100,
            nodes__hardware={"h100-80gb-x4": 3, "a100-80gb-x4": 1},
            nodes__speeds=[0.5, 1, 2, 4],
            traffic__regions={"West Europe": 3, "East US": 1},
            nodes__operators=4,
            nodes__zones_per_region=2,
        ),
        seed=3,
    )
    assert sum(node.hardware.name == "h100-80gb-x4" for node in nodes) == 75
    assert sum(node.region == "West Europe" for node in nodes) == 75
    assert sum(node.speed == 4.0 for node in nodes) == 25
    assert len({node.name for node in nodes}) == 100
    assert {node.operator for node in nodes} == {f"operator-{number}" for number in range(1, 5)}
    assert {zone for node in nodes for zone in node.failure_domains} == {
        f"{region}/zone-{number}" for region in ("West Europe", "East US") for number in (1, 2)
    }


def test_another_seed_deals_another_world_and_one_change_leaves_the_rest() -> None:
    scenario = small(nodes__count=50, nodes__speeds=[1, 2])
    one, other = build_nodes(scenario, 1), build_nodes(scenario, 2)
    assert [node.region for node in one] != [node.region for node in other]
    faster = build_nodes(changed(scenario, {"nodes.speeds": [1, 2, 3]}), 1)
    assert [node.region for node in one] == [node.region for node in faster]
    by_lot = build_nodes(changed(scenario, {"nodes.speeds_by": "lot"}), 1)
    assert {node.speed for node in by_lot} == {1.0, 2.0}
    even = build_nodes(changed(scenario, {"nodes.regions_by": "even", "nodes.regions": ["UK South"]}), 1)
    assert {node.region for node in even} == {"UK South"}


def test_models_are_dealt_by_popularity_and_fit_into_memory() -> None:
    scenario = load_scenario("e3-mixed-gpus")
    nodes = build_nodes(scenario, seed=1)
    ready = [name for node in nodes for name in node.ready]
    assert len({name for node in nodes for name in node.models}) == 40
    assert len(set(ready)) > 30
    assert max(ready.count(name) for name in set(ready)) == ready.count("small-01")
    for node in nodes:
        weights_bytes = sum(node.models[name].weights_bytes for name in node.ready)
        assert 0 < weights_bytes <= 0.9 * node.hardware.memory_bytes
        assert not set(node.ready) & set(node.on_disk)
        assert {*node.ready, *node.on_disk} <= set(node.models) <= set(node.hardware.speeds)


def test_every_model_can_be_served_by_some_node() -> None:
    scenario = changed(
        load_scenario("e3-mixed-gpus"),
        {"nodes.count": 5, "nodes.models_per_node": 4, "nodes.models_ready": 1, "nodes.models_on_disk": 1},
    )
    nodes = build_nodes(scenario, seed=1)
    assert len({name for node in nodes for name in node.models}) == 40
