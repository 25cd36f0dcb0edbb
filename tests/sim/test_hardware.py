import pytest

from isochrone.sim.scenario.capacity import Demand, mean_capacity_per_s
from isochrone.sim.scenario.files import build_nodes, changed, load_scenario
from isochrone.sim.scenario.hardware import load_hardware, world_models
from isochrone.sim.spec import HardwareSpec, ModelSpec, NodeSpec, SpeedSpec


def node(slots: int, speed: float = 1.0, memory_bytes: float = float("inf"), **speeds: SpeedSpec) -> NodeSpec:
    hardware = HardwareSpec("class", slots, 10, memory_bytes, 0, 0, speeds)
    models = {name: ModelSpec(name, weights_bytes=10.0, kv_bytes_per_token=1.0) for name in speeds}
    return NodeSpec(f"{slots}-{speed}-{memory_bytes}", "UK South", hardware, models, speed=speed)


SPEED = SpeedSpec(prefill_base_ms=10, prefill_ms_per_token=1, tpot_ms=2, tpot_ms_per_sequence=0.5)


def test_the_shipped_table_has_plausible_speeds() -> None:
    table = load_hardware()
    assert {"h100-80gb-x2", "a100-80gb-x8", "l4-24gb-x8", "t4-16gb-x12", "v100-16gb-x12"} <= set(
        table.hardware
    )
    for name, hardware in table.hardware.items():
        assert hardware.name == name
        assert hardware.speeds
        for model, speed in hardware.speeds.items():
            assert table.models[model].weights_bytes < hardware.memory_bytes
            assert 0 < speed.prefill_ms_per_token < speed.tpot_ms
            assert speed.load_s > 0
    h100, a100 = (table.hardware[f"{gpu}-80gb-x4"].speeds["llama2-70b"] for gpu in ("h100", "a100"))
    assert h100.prefill_ms_per_token < a100.prefill_ms_per_token
    assert h100.tpot_ms < a100.tpot_ms


def test_one_slot_serves_one_request_after_the_other() -> None:
    demand = Demand({"m": 1.0}, prompt_tokens=100, output_tokens=11)
    assert mean_capacity_per_s([node(1, m=SPEED)], demand) == pytest.approx(1000 / (10 + 100 + 10 * 2))
    assert mean_capacity_per_s([node(1, speed=2, m=SPEED)] * 3, demand) == pytest.approx(6000 / 130)


def test_a_batch_shares_its_decode_steps_but_not_its_prompts() -> None:
    demand = Demand({"m": 1.0}, prompt_tokens=100, output_tokens=11)
    in_batches_ms = 10 + 100 + 10 * (2 + 3 * 0.5) / 4
    assert mean_capacity_per_s([node(4, m=SPEED)], demand) == pytest.approx(1000 / in_batches_ms)


def test_memory_for_context_bounds_the_batch() -> None:
    demand = Demand({"m": 1.0}, prompt_tokens=100, output_tokens=100)
    tight = node(4, memory_bytes=10 + 2 * 200, m=SPEED)
    assert mean_capacity_per_s([tight], demand) == pytest.approx(
        mean_capacity_per_s([node(2, m=SPEED)], demand)
    )


def test_models_are_weighted_by_popularity_among_those_that_a_node_serves() -> None:
    slow = SpeedSpec(prefill_base_ms=300, prefill_ms_per_token=0, tpot_ms=0)
    fast = SpeedSpec(prefill_base_ms=100, prefill_ms_per_token=0, tpot_ms=0)
    demand = Demand({"a": 0.75, "b": 0.25}, prompt_tokens=1, output_tokens=1)
    assert mean_capacity_per_s([node(1, a=fast, b=slow)], demand) == pytest.approx(1000 / 150)
    assert mean_capacity_per_s([node(1, b=slow)], demand) == pytest.approx(1000 / 300)
    assert mean_capacity_per_s([node(1, c=slow)], demand) == 0.0


def test_families_take_turns_in_popularity_and_scale() -> None:
    models = world_models(load_scenario("e3-mixed-gpus"))
    assert len(models) == 40
    assert list(models)[:3] == ["small-01", "medium-01", "small-02"]
    assert models["small-01"].spec.weights_bytes == models["medium-01"].spec.weights_bytes / 4
    nodes = build_nodes(load_scenario("e3-mixed-gpus"), 1)
    l4 = next(each.hardware for each in nodes if each.hardware.name == "l4-24gb-x8")
    assert l4.speeds["small-01"].tpot_ms == l4.speeds["medium-12"].tpot_ms / 4
    assert (
        "small-01" not in next(each.hardware for each in nodes if each.hardware.name == "h100-80gb-x4").speeds
    )


def test_the_order_of_models_can_be_given_by_family() -> None:
    scenario = changed(load_scenario("e3-mixed-gpus"), {"traffic.models": ["large", "medium-03"]})
    assert list(world_models(scenario)) == ["large-1", "large-2", "large-3", "large-4", "medium-03"]
