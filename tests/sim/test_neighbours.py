"""Users of a node's own, in the simulator."""

from isochrone.model import Load
from isochrone.sim.runner import Run, simulate, world_plan
from isochrone.sim.scenario.files import Scenario, arrivals, build_nodes, changed, load_scenario
from isochrone.sim.world.world import World


def laptop(**changes: object) -> Scenario:
    changes = {"duration_s": 40.0, "warmup_s": 0.0, "traffic.rate_per_s": 0.2} | changes
    return changed(load_scenario("laptop"), {key.replace("__", "."): value for key, value in changes.items()})


def run(scenario: Scenario) -> World:
    world = World(world_plan(Run(scenario, "soonest", 1), build_nodes(scenario, 1)))
    for _ in world.run(arrivals(scenario, build_nodes(scenario, 1), 1)):
        pass
    return world


def load_of(world: World, node: int) -> Load:
    return world.yard.load(node, world.agenda.now_s)


def test_three_neighbours_fill_two_slots_and_one_waits() -> None:
    load = load_of(run(laptop()), 0)
    assert (load.running, load.queued) == (2, 1)


def test_each_sends_the_next_request_when_the_last_has_ended() -> None:
    slow, fast = run(laptop()), run(laptop(node__0__neighbour_output_tokens=48))
    assert fast.yard.nodes[0].jobs_done > 1.3 * slow.yard.nodes[0].jobs_done > 13


def test_answers_that_end_early_make_them_ask_more_often() -> None:
    never, sometimes, always = (
        run(laptop(node__0__neighbour_early_share=share)).yard.nodes[0] for share in (0.0, 0.3, 1.0)
    )
    assert never.jobs_done < sometimes.jobs_done < always.jobs_done
    assert always.tokens_decoded / always.jobs_done < 0.75 * never.tokens_decoded / never.jobs_done


def test_they_are_no_requests() -> None:
    world = run(laptop())
    rows = world.recorder.columns(0.0)
    assert len(rows["at_s"]) == world.arrived == world.recorder.ended
    assert world.counters()["answered"] == world.arrived


def test_without_neighbours_nobody_is_there() -> None:
    world = run(laptop(node__0__neighbours=0))
    assert world.yard.nodes[0].jobs_done == 0 or load_of(world, 0).queued == 0


def test_who_is_refused_tries_again() -> None:
    busy = laptop(
        node__0__neighbours=5,
        hardware={"tiny": {
            "slots": 1, "queue_max": 1, "memory_bytes": 1e9, "chunk_tokens": 0, "prefix_block_tokens": 0,
            "speeds": {"smollm2-135m": {"prefill_base_ms": 10, "prefill_ms_per_token": 1, "tpot_ms": 5}},
        }},
        node__0__hardware="tiny",
    )  # fmt: skip
    world = run(busy)
    load = load_of(world, 0)
    assert load.running == 1
    assert world.yard.nodes[0].jobs_done > 30


def test_they_come_back_after_a_loss_of_power() -> None:
    fault = {"kind": "node_loss", "at_s": 10.0, "duration_s": 5.0, "nodes": ["near-busy"]}
    world = run(laptop(faults=[fault]))
    load = load_of(world, 0)
    assert (load.running, load.queued) == (2, 1)


def test_a_node_that_stays_dead_is_asked_in_vain() -> None:
    fault = {"kind": "node_loss", "at_s": 10.0, "nodes": ["near-busy"]}
    world = run(laptop(faults=[fault]))
    assert not world.yard.alive[0]
    assert world.counters()["answered"] > 0


def test_the_same_seed_gives_the_same_neighbours_and_another_gives_others() -> None:
    scenario = laptop()
    (first, again, other) = (simulate(Run(scenario, "nearest", seed))[1]["ttft_ms"] for seed in (1, 1, 2))
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()


def test_a_near_node_with_neighbours_is_slower_for_those_who_go_there() -> None:
    def mean_ttft_ms(scenario: Scenario) -> float:
        _, columns = simulate(Run(scenario, "nearest", 1))
        return float(columns["ttft_ms"].mean())

    assert mean_ttft_ms(laptop()) > 2 * mean_ttft_ms(laptop(node__0__neighbours=0))
