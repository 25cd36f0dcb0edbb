"""Scenarios: read strictly, and changed by dotted keys."""

import dataclasses
from pathlib import Path

import pytest
from scenario_nouns import SMALL, small

from isochrone.ports import SettingError
from isochrone.sim.scenario.files import cells, changed, digest, load_scenario, read_scenario

# -- reading -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "duration_s = 10",
            "duration = 10",
            "duration: is not a key; did you mean 'duration_s', in seconds?",
        ),
        (
            "[traffic]",
            "[bus]\npulse_ms = 5\n[traffic]",
            "bus.pulse_ms: is not a key; did you mean 'pulse_s', in s",
        ),
        ("count = 4", "cuont = 4", "nodes.cuont: is not a key; did you mean 'count'?"),
        ("count = 4", 'count = "4"', "nodes.count: is '4'; give a whole number"),
        ("count = 4", "count = 4.5", "nodes.count: is 4.5; give a whole number"),
        ("count = 4", "count = true", "nodes.count: is true; give a whole number"),
        ("count = 4", "count = -1", "nodes.count: is -1; it must be at least 0"),
        ("rho = 0.5", "rho = 0", "traffic.rho: is 0; it must be more than 0"),
        ("rho = 0.5", "rho = inf", "traffic.rho: is inf; give a finite number"),
        ("rho = 0.5", "rho = 0.5\nrate_per_s = 1", "traffic: has both rho and rate_per_s; give one"),
        ("rho = 0.5", "", "traffic: has no rate; give rho or rate_per_s"),
        ("rho = 0.5", "rho = 0.5\ncv = 11", "traffic.cv: is 11; it must be at most 10"),
        ("rho = 0.5", 'rho = 0.5\nsource = "azur"', "traffic.source: is 'azur'; it must be one of generated"),
        ("rho = 0.5", 'rho = 0.5\nsource = "azure"', "traffic.trace: is missing; source 'azure' needs"),
        (
            "rho = 0.5",
            'rho = 0.5\nregions = {"west europ" = 1}',
            "there is no region 'west europ'; did you mean",
        ),
        (
            "rho = 0.5",
            "rho = 0.5\noutput = {max_tokens = 3}",
            "traffic.output.max_tokens: is 3; it must be at",
        ),
        ('["llama2-70b"]', '["llama2-7b"]', "traffic.models.0: there is no model 'llama2-7b'; did you mean"),
        (
            '["llama2-70b"]',
            '["llama2-70b", "llama1-30b"]',
            "no node can run 'llama1-30b'; give its hardware speeds",
        ),
        ('["llama2-70b"]', "[]", "traffic.models: is empty"),
        (
            "h100-80gb-x4",
            "h100-80gb-x3",
            "hardware.h100-80gb-x3: there is no hardware 'h100-80gb-x3'; did you",
        ),
        ("duration_s = 10", 'duration_s = 10\npolicies = ["soon"]', "policies.0: no policy is called 'soon'"),
        ("duration_s = 10", 'duration_s = 10\npolicies = "soonest"', "policies: is 'soonest'; give a list"),
        (
            "duration_s = 10",
            "duration_s = 10\nwarmup_s = 10",
            "warmup_s: is 10; it must be less than duration_s",
        ),
        ("duration_s = 10", 'duration_s = 10\nname = "x"', "name: is not a key"),
        ("duration_s = 10", "duration_s = ", "is no TOML"),
        ("count = 4", "", "nodes.count: is missing; give it, or list each node"),
        (
            "count = 4",
            'count = 4\nregions = ["Mars"]',
            "nodes.regions: there is no region 'Mars'; there are: ",
        ),
        ("count = 4", "count = 4\nspeeds = [0]", "nodes.speeds: must be numbers of more than 0"),
        (
            "duration_s = 10",
            '[[faults]]\nkind = "fire"',
            "faults.0.kind: is 'fire'; it must be one of node_loss",
        ),
        (
            "duration_s = 10",
            '[[faults]]\nkind = "slow_node"',
            "faults.0: is a slow_node; give one of share, nodes",
        ),
        (
            "duration_s = 10",
            '[[faults]]\nkind = "partition"\nshare = 0.1',
            "faults.0.share: means nothing for a pa",
        ),
        (
            "duration_s = 10",
            '[[faults]]\nkind = "gateway_crash"\ngateways = [1]',
            "there is no gateway 1; they are",
        ),
        (
            "duration_s = 10",
            '[[faults]]\nkind = "sinkhole"\nnodes = ["x"]',
            "there is no node 'x'; the first of",
        ),
        ('["llama2-70b"]', '["llama2-70b"]\n[sweep]\n"nodes.cuont" = [1]', "sweep.nodes.cuont: is not a key"),
        (
            '["llama2-70b"]',
            '["llama2-70b"]\n[sweep]\n"nodes.count" = [1, "x"]',
            "sweep.nodes.count: is 'x'; giv",
        ),
    ],
)
def test_what_is_wrong_is_told_with_file_and_key(old: str, new: str, told: str) -> None:
    assert old in SMALL
    with pytest.raises(SettingError) as raised:
        read_scenario(SMALL.replace(old, new, 1), "my/small.toml")
    assert str(raised.value).startswith("my/small.toml: ")
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


def test_more_ready_models_than_memory_are_refused() -> None:
    entry = """
    [[node]]
    name = "one"
    region = "West Europe"
    hardware = "a100-40gb-x4"
    ready = ["llama2-70b", "llama1-30b"]
    """
    text = SMALL.replace("count = 4\nhardware = { h100-80gb-x4 = 1 }", "").replace(
        '-70b"', '-70b", "llama1-30b"'
    )
    with pytest.raises(
        SettingError, match=r"small: node\.0\.ready: weighs 203 GB, more than the 160 GB of a100"
    ):
        read_scenario(text + entry, "small")


def test_a_mix_whose_hardware_holds_no_model_is_refused() -> None:
    with pytest.raises(SettingError, match="can hold none of the models"):
        small(hardware={"tiny": tiny_hardware(1e9)}, nodes__hardware={"tiny": 1})


def tiny_hardware(memory_bytes: float) -> dict[str, object]:
    speed = {"prefill_base_ms": 1, "prefill_ms_per_token": 1, "tpot_ms": 1}
    return {
        "slots": 1,
        "queue_max": 1,
        "memory_bytes": memory_bytes,
        "chunk_tokens": 0,
        "prefix_block_tokens": 0,
        "speeds": {"llama2-70b": speed},
    }


def test_an_unknown_scenario_is_told_with_its_neighbours(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="no scenario 'e1-stalenes'; did you mean 'e1-staleness'"):
        load_scenario("e1-stalenes")
    with pytest.raises(SettingError, match=r"none\.toml: can't be read"):
        load_scenario(str(tmp_path / "none.toml"))


def test_a_file_is_read_and_its_trace_is_beside_it(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(SMALL + 'source = "azure"\ntrace = "trace.csv"\n')
    scenario = load_scenario(str(tmp_path / "mine.toml"))
    assert scenario.name == "mine"
    assert scenario.traffic.trace == str(tmp_path / "trace.csv")


# -- changing ----------------------------------------------------------------------------------------


def test_changes_are_made_by_dotted_keys_and_checked_again() -> None:
    scenario = changed(
        load_scenario("e5-failure"), {"nodes.count": 7, "faults.1.factor": 3, "traffic.rho": 0.1}
    )
    assert (scenario.nodes.count, scenario.faults[1].factor, scenario.traffic.rho) == (7, 3.0, 0.1)
    assert changed(scenario, {}) == scenario
    with pytest.raises(SettingError, match=r"e5-failure: nodes\.cuont: is not a key; did you mean 'count'"):
        changed(scenario, {"nodes.cuont": 7})
    with pytest.raises(SettingError, match=r"e5-failure: faults\.9\.at_s: there is no 'faults\.9' to change"):
        changed(scenario, {"faults.9.at_s": 7})


def test_rho_replaces_a_rate_and_the_other_way_round() -> None:
    by_rate = small(traffic__rate_per_s=3.0)
    assert (by_rate.traffic.rho, by_rate.traffic.rate_per_s) == (None, 3.0)
    assert changed(by_rate, {"traffic.rho": 0.7}).traffic.rate_per_s is None
    with pytest.raises(SettingError, match="has both"):
        small(traffic__rate_per_s=3.0, traffic__rho=0.7)


def test_cells_are_the_cross_product_with_their_changes() -> None:
    scenario = load_scenario("e1-staleness")
    found = list(cells(scenario))
    assert len(found) == 2 * 3 * 4
    assert len({digest(cell) for _, cell in found}) == len(found)
    for changes, cell in found:
        assert cell == changed(dataclasses.replace(scenario, sweep={}), changes)
        assert cell.nodes.count == changes["nodes.count"]
    assert list(cells(small())) == [({}, small())]


def test_a_digest_is_of_what_shapes_results() -> None:
    scenario = small()
    assert digest(scenario) == digest(changed(scenario, {"title": "x", "policies": ["random"]}))
    others = [
        {"nodes.count": 5},
        {"bus.pulse_s": 2},
        {"network.same_region_rtt_ms": 2},
        {"traffic.prefix.block_tokens": 32},
        {"slo.ttft_ms": 5},
        {"faults": [{"kind": "node_loss", "share": 0.1}]},
    ]
    digests = {digest(changed(scenario, other)) for other in others} | {digest(scenario)}
    assert len(digests) == len(others) + 1


def test_a_digest_is_of_a_traces_bytes_not_of_its_path(tmp_path: Path) -> None:
    for name, text in (("a", "x"), ("b", "x"), ("c", "y")):
        (tmp_path / name).write_text(text)
    one, same, other = (
        digest(small(traffic__source="azure", traffic__trace=str(tmp_path / name))) for name in "abc"
    )
    assert one == same != other
