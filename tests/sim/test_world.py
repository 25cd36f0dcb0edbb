"""A world's books balance under every policy; its clocks agree with reckoning by hand and with theory."""

import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from world_nouns import QUEUE, REFERENCE_B1, Ran, job, run_world, scenario

from isochrone.routing import CATALOGUE
from isochrone.sim.results import write_run
from isochrone.sim.runner import Run, simulate
from isochrone.sim.scenario.files import geography
from isochrone.sim.world.recorder import KINDS
from isochrone.sim.world.world import World

POLICIES = (*CATALOGUE, REFERENCE_B1)
EVERY_FAULT: tuple[dict[str, Any], ...] = (
    {"kind": "node_loss", "at_s": 2, "duration_s": 6, "share": 0.2},
    {"kind": "slow_node", "at_s": 3, "duration_s": 6, "nodes": ["node-002"], "factor": 10},
    {"kind": "sinkhole", "at_s": 4, "duration_s": 6, "nodes": ["node-003"]},
    {"kind": "region_loss", "at_s": 9, "duration_s": 4, "region": "East US"},
    {"kind": "partition", "at_s": 12, "duration_s": 5, "region": "East US"},
    {"kind": "gateway_crash", "at_s": 6, "duration_s": 4, "gateways": [0]},
)


def count_ends(world: World) -> dict[int, int]:
    """How often each request is told to have ended, counted as it happens."""
    counts: dict[int, int] = {}
    end = world.recorder.end

    def counted(flight: Any, kind: str, *rest: Any) -> None:
        counts[flight.job.id] = counts.get(flight.job.id, 0) + 1
        end(flight, kind, *rest)

    world.recorder.end = counted  # type: ignore[method-assign]
    return counts


def let_it_drain(world: World, seconds: float) -> None:
    """Let what is still under way happen, such as giving up what nobody waits for."""
    until_s = world.agenda.now_s + seconds
    while world.agenda.next_s <= until_s:
        world.agenda.step()


def assert_books_balance(ran: Ran, ends: dict[int, int]) -> None:
    """Everything that came has ended once, and nothing is left anywhere."""
    world, rows, scenario = ran.world, ran.rows, ran.world.plan.scenario
    assert ends == {each.id: 1 for each in ran.jobs}
    assert len(rows["kind"]) == len(ran.jobs) == sum(world.recorder.by_kind.values())
    assert set(rows["kind"]) <= set(KINDS)
    for kind in KINDS:
        assert ran.kind(kind).sum() == world.recorder.by_kind[kind]
    asked = np.array([each.output_tokens for each in ran.jobs])
    np.testing.assert_array_equal(rows["tokens_out"], np.where(ran.kind("answered"), asked, 0))
    assert rows["attempts"].max() <= scenario.gateways.attempts_max
    balks = sum(gateway.balks for gateway in world.gateways)
    assert rows["attempts"].sum() + balks == sum(gateway.dispatched for gateway in world.gateways)
    for gateway in world.gateways:
        assert gateway.fleet.in_flight == gateway.open_flights == 0
        for belief in gateway.fleet.beliefs():
            assert belief.own_in_flight == 0
    assert sum(gateway.retries for gateway in world.gateways) <= 100 * len(world.gateways) + 0.2 * len(asked)
    assert world._flights == {}
    if world._oracle is not None:
        assert world._oracle._sent == {}
        np.testing.assert_allclose(world._oracle._on_the_wire_s, 0.0, atol=1e-9)
    assert_times_make_sense(ran)
    let_it_drain(world, 30.0)
    for gateway in world.gateways:
        for belief in gateway.fleet.beliefs():
            if gateway.alive and world.yard.alive[world.yard.index[belief.name]]:
                view = belief.view("toy", world.agenda.now_s, bus_up=True)
                assert (view.own_in_flight, view.own_unseen, view.own_unseen_s) == (0, 0, 0.0)
    assert all(node.idle for node, alive in zip(world.yard.nodes, world.yard.alive, strict=True) if alive)


def assert_times_make_sense(ran: Ran) -> None:
    """Every answer has all its times, in order, and none came after the deadline."""
    ttft_ms, total_ms = ran.answered("ttft_ms"), ran.answered("total_ms")
    timeout_ms = ran.world.plan.scenario.gateways.timeout_s * 1e3
    assert np.isfinite(ttft_ms).all()
    assert (total_ms >= ttft_ms - 1e-6).all()
    assert (ttft_ms > 0).all()
    assert (total_ms <= timeout_ms + 500).all()
    assert (ran.answered("queue_ms") >= -1e-6).all()
    assert (ran.answered("load_ms") >= -1e-6).all()
    assert np.isnan(ran.rows["total_ms"][~ran.kind("answered")]).all()


def run_and_balance(changes: dict[str, Any], policy: str = "soonest", seed: int = 1) -> Ran:
    """Run a world and look into its books."""
    ends: list[dict[int, int]] = []
    ran = run_world(scenario(changes), policy, seed, prepare=lambda world: ends.append(count_ends(world)))
    assert_books_balance(ran, ends[0])
    return ran


# -- books -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
def test_all_is_answered_when_nothing_goes_wrong(policy: str) -> None:
    ran = run_and_balance({"duration_s": 8, "nodes.speeds": [2]}, policy)
    assert ran.kinds() == {"answered": len(ran.jobs)}
    assert len(ran.jobs) > 30


@pytest.mark.parametrize("policy", POLICIES)
def test_books_balance_when_everything_goes_wrong(policy: str) -> None:
    ran = run_and_balance({"faults": EVERY_FAULT, "gateways.timeout_s": 12, "bus.loss": 0.05}, policy)
    assert ran.kinds()["answered"] > 0.4 * len(ran.jobs)
    assert sum(ran.kinds().values()) > ran.kinds()["answered"]


@pytest.mark.parametrize("policy", ["soonest", "random", REFERENCE_B1])
@pytest.mark.parametrize("fault", EVERY_FAULT, ids=lambda fault: fault["kind"])
def test_books_balance_with_each_fault_alone(fault: dict[str, Any], policy: str) -> None:
    run_and_balance({"faults": [fault], "duration_s": 14}, policy)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"traffic.rate_per_s": 60, "hardware.box.queue_max": 1, "duration_s": 6}, id="overload"),
        pytest.param({"gateways.timeout_s": 1.0, "traffic.rate_per_s": 20}, id="short deadline"),
        pytest.param({"traffic.stream": False, "faults": EVERY_FAULT}, id="nobody reads along"),
        pytest.param({"bus.load_in_responses": False, "bus.loss": 0.3, "bus.late": 0.5}, id="bad bus"),
        pytest.param({"bus.exact_loads": True, "faults": EVERY_FAULT}, id="exact loads"),
        pytest.param({"nodes.models_ready": 0, "nodes.models_on_disk": 1}, id="cold models"),
        pytest.param({"gateways.attempts_max": 1, "faults": EVERY_FAULT}, id="one attempt"),
    ],
)
@pytest.mark.parametrize("policy", ["soonest", REFERENCE_B1])
def test_books_balance_in_odd_worlds(changes: dict[str, Any], policy: str) -> None:
    run_and_balance(changes, policy)


def test_a_world_without_any_usable_node_refuses_all() -> None:
    ran = run_and_balance({"faults": [{"kind": "region_loss", "regions": ["West Europe", "East US"]}]})
    late = ran.rows["at_s"] > 5.0
    assert set(ran.rows["kind"][late]) == {"refused"}
    assert (ran.rows["attempts"][late] == 0).all()


def test_retries_end_when_the_budget_is_spent() -> None:
    sick = [{"kind": "sinkhole", "share": 1.0}]
    ran = run_and_balance({"faults": sick, "traffic.rate_per_s": 40, "gateways.count": 1}, "random")
    assert set(ran.kinds()) == {"failed"}
    assert ran.world.gateways[0].retries <= 100 + 0.2 * len(ran.jobs)
    assert ran.rows["attempts"].sum() <= 1.2 * len(ran.jobs) + 100


# -- the same again --------------------------------------------------------------------------------------

_IN_ANOTHER_PROCESS = """
import sys
from pathlib import Path
from isochrone.sim.results import write_run
from isochrone.sim.runner import Run, simulate
sys.path.insert(0, sys.argv[1])
from test_world import EVERY_FAULT
from world_nouns import scenario
what = scenario({"faults": EVERY_FAULT, "bus.loss": 0.1, "bus.late": 0.2})
print(write_run(Path(sys.argv[2]), *simulate(Run(what, sys.argv[3], 5))))
"""


@pytest.mark.parametrize("policy", ["soonest", "prequal", "jiq", REFERENCE_B1])
def test_the_same_seed_gives_the_same_bytes_and_another_does_not(policy: str, tmp_path: Path) -> None:
    what = scenario({"faults": EVERY_FAULT, "bus.loss": 0.1, "bus.late": 0.2})
    files = [
        write_run(tmp_path / name, *simulate(Run(what, policy, seed)))
        for name, seed in (("a", 5), ("b", 5), ("c", 6))
    ]
    first, again, other = (file.read_bytes() for file in files)
    assert first == again
    assert first != other


def test_the_same_seed_gives_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    what = scenario({"faults": EVERY_FAULT, "bus.loss": 0.1, "bus.late": 0.2})
    here = write_run(tmp_path / "here", *simulate(Run(what, "prequal", 5)))
    code = [sys.executable, "-c", _IN_ANOTHER_PROCESS, str(Path(__file__).parent), str(tmp_path / "there")]
    told = subprocess.run(
        [*code, "prequal"],
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(told.stdout.strip()).read_bytes() == here.read_bytes()


def test_arrivals_do_not_depend_on_the_policy() -> None:
    came = [run_world(scenario({"duration_s": 5}), policy) for policy in ("soonest", "random", REFERENCE_B1)]
    for one, other in pairwise(came):
        assert one.jobs == other.jobs
        for name in ("at_s", "client", "region", "prompt_tokens", "output_tokens", "gateway"):
            np.testing.assert_array_equal(one.rows[name], other.rows[name])


# -- clocks ----------------------------------------------------------------------------------------------


def test_one_request_takes_what_reckoning_by_hand_says() -> None:
    what = scenario(
        {
            "nodes.count": 1,
            "nodes.speeds": [2],
            "nodes.regions": ["East US"],
            "nodes.regions_by": "even",
            "gateways.count": 1,
            "gateways.regions": ["West Europe"],
            "bus.jitter": 0,
            "traffic.regions": {"Japan East": 1},
        }
    )
    places = geography(what)
    there_ms = places.one_way_ms("Japan East", "West Europe") + places.one_way_ms("West Europe", "East US")
    back_ms = places.one_way_ms("East US", "West Europe") + places.one_way_ms("West Europe", "Japan East")
    assert there_ms != back_ms
    ran = run_world(what, jobs=[job(0, 1.5, region="Japan East", prompt_tokens=100, output_tokens=21)])
    prefill_ms, decode_ms = (20 + 0.5 * 100) / 2, 20 * 10 / 2
    assert ran.rows["ttft_ms"][0] == pytest.approx(there_ms + prefill_ms + back_ms, abs=1e-6)
    assert ran.rows["total_ms"][0] == pytest.approx(there_ms + prefill_ms + decode_ms + back_ms, abs=1e-6)
    assert ran.rows["queue_ms"][0] == pytest.approx(0.0, abs=1e-6)
    assert ran.rows["rtt_ms"][0] == pytest.approx(
        places.one_way_ms("West Europe", "East US") + places.one_way_ms("East US", "West Europe")
    )


def test_a_model_on_disk_is_loaded_first_and_a_second_request_waits_as_long() -> None:
    what = scenario(QUEUE | {"nodes.models_ready": 0, "nodes.models_on_disk": 1, "hardware.box.slots": 2})
    what = replace(what, duration_s=20.0)
    ran = run_world(what, jobs=[job(0, 1.0), job(1, 1.25)])
    load_s = what.hardware["box"].speeds["toy"].load_s
    np.testing.assert_allclose(ran.rows["load_ms"], np.maximum(0, [load_s * 1e3, load_s * 1e3 - 250]))


def test_times_are_never_shorter_than_the_way_and_the_work() -> None:
    ran = run_world(scenario())
    world = ran.world
    for row in np.flatnonzero(ran.kind("answered")):
        each, gateway = ran.jobs[row], int(ran.rows["gateway"][row])
        node = world.yard.index[ran.rows["node"][row]]
        spec = world.plan.nodes[node]
        speed = spec.hardware.speeds["toy"]
        way_ms = 1e3 * (
            world.network.client_s(each.region, gateway)
            + world.network.to_client_s(gateway, each.region)
            + world.network.out_s[gateway, node]
            + world.network.back_s[gateway, node]
        )
        uncached = each.prompt_tokens - ran.rows["cached_tokens"][row]
        prefill_ms = (speed.prefill_base_ms + speed.prefill_ms_per_token * uncached) / spec.speed
        decode_ms = (each.output_tokens - 1) * speed.tpot_ms / spec.speed
        waited_ms = ran.rows["queue_ms"][row] + ran.rows["load_ms"][row]
        if ran.rows["attempts"][row] == 1:
            assert ran.rows["ttft_ms"][row] >= way_ms + waited_ms + prefill_ms - 1e-6
            assert ran.rows["total_ms"][row] >= way_ms + waited_ms + prefill_ms + decode_ms - 1e-6


def test_clients_who_do_not_read_along_see_all_at_the_end() -> None:
    ran = run_world(scenario({"traffic.stream": False, "duration_s": 5}))
    assert ran.kinds() == {"answered": len(ran.jobs)}
    np.testing.assert_allclose(ran.rows["ttft_ms"], ran.rows["total_ms"])


def test_no_answer_comes_after_the_deadline() -> None:
    ran = run_and_balance({"gateways.timeout_s": 0.7, "traffic.rate_per_s": 20, "bus.jitter": 0}, "random")
    leg_ms = [ran.world.network.client_s(region, 0) * 1e3 for region in ("West Europe", "East US")]
    assert ran.kinds()["timed_out"] > 0
    assert ran.answered("total_ms").max() <= 700 + 2 * max(leg_ms)


# -- queues ----------------------------------------------------------------------------------------------


def time_average(starts_s: Any, ends_s: Any, begin_s: float, end_s: float) -> float:
    """Mean number of intervals that are open, by sweeping over their ends."""
    edges = [(at, 1) for at in starts_s] + [(at, -1) for at in ends_s]
    area, open_now, last_s = 0.0, 0, begin_s
    for edge_s, change in sorted(edges):
        at_s = min(max(edge_s, begin_s), end_s)
        area += open_now * (at_s - last_s)
        open_now, last_s = open_now + change, at_s
    return area / (end_s - begin_s)


def test_littles_law_holds() -> None:
    ran = run_world(scenario({"duration_s": 60}))
    assert ran.kinds() == {"answered": len(ran.jobs)}
    starts_s, total_s = ran.rows["at_s"], ran.rows["total_ms"] / 1e3
    end_s = float((starts_s + total_s).max())
    in_system = time_average(starts_s, starts_s + total_s, 0.0, end_s)
    assert in_system == pytest.approx(len(ran.jobs) / end_s * total_s.mean(), rel=1e-9)
    # Counted by the nodes and by the gateways, not by the recorder.
    busy = time_average(
        starts_s + (ran.rows["ttft_ms"] - ran.rows["queue_ms"]) / 1e3, starts_s + total_s, 0, end_s
    )
    assert 0 < busy < in_system


def lindley_s(at_s: Any, service_s: Any) -> list[float]:
    """Times in the system of a queue with one server, first come, first served (Lindley's recursion)."""
    free_s, times_s = 0.0, []
    for arrival_s, work_s in zip(at_s, service_s, strict=True):
        free_s = max(free_s, arrival_s) + work_s
        times_s.append(free_s - arrival_s)
    return times_s


def queue_run(
    policy: str, nodes: int, rho: float, *, seconds: float = 300, seed: int = 1, **more: Any
) -> Ran:
    changes = {"nodes.count": nodes, "traffic.rate_per_s": rho * nodes * 10, "duration_s": seconds}
    return run_world(scenario(QUEUE | changes | {"bus.tick_s": 0.25} | more), policy, seed)


def test_one_node_is_the_queue_m_m_1() -> None:
    ran = queue_run("soonest", 1, 0.5, seconds=600)
    service_s = (ran.rows["output_tokens"] - 1) * 1e-3
    np.testing.assert_allclose(ran.rows["total_ms"] / 1e3, lindley_s(ran.rows["at_s"], service_s), atol=1e-6)
    assert ran.rows["total_ms"].mean() == pytest.approx(100 / (1 - 0.5), rel=0.1)


def test_random_over_alike_nodes_is_as_many_queues() -> None:
    ran = queue_run("random", 4, 0.7, seconds=60)
    service_s = (ran.rows["output_tokens"] - 1) * 1e-3
    for node in set(ran.rows["node"]):
        here = ran.rows["node"] == node
        told_s = lindley_s(ran.rows["at_s"][here], service_s[here])
        np.testing.assert_allclose(ran.rows["total_ms"][here] / 1e3, told_s, atol=1e-6)
    assert np.ptp([np.mean(ran.rows["node"] == node) for node in set(ran.rows["node"])]) < 0.07


RANKED = ("random", "round-robin", "p2c", "least-request", "soonest", REFERENCE_B1)


def test_policies_rank_as_theory_says_and_for_every_seed() -> None:
    means = {
        seed: {
            policy: queue_run(policy, 5, 0.85, seconds=20, seed=seed).rows["total_ms"].mean()
            for policy in RANKED
        }
        for seed in (1, 2)
    }
    for found in means.values():
        assert found["random"] > found["round-robin"] > found["least-request"]
        assert found["least-request"] > found[REFERENCE_B1]
        assert found["soonest"] > found[REFERENCE_B1]
    first, second = (sorted(RANKED, key=found.__getitem__) for found in means.values())
    assert first == second


def test_jobs_that_come_at_one_instant_are_all_served() -> None:
    ran = run_world(scenario(), jobs=[job(number, 1.0) for number in range(12)])
    assert ran.kinds() == {"answered": 12}
    assert len(set(ran.rows["node"])) > 1


def test_those_who_ask_for_the_slo_are_told_of_and_decided_for() -> None:
    """The same requests come; who asks, and what was predicted for them, stands in their rows."""
    asked = {"traffic.slo_share": 0.5, "slo.ttft_ms": 400.0, "slo.tpot_ms": 30.0}
    ran, plain = run_world(scenario(asked)), run_world(scenario())
    assert ran.rows["slo"].tolist() == [job.slo for job in ran.jobs]
    assert 0 < ran.rows["slo"].sum() < len(ran.jobs)
    assert not ran.rows["est_slo_met"][~ran.rows["slo"]].any()
    assert ran.rows["est_slo_met"].any()
    assert not plain.rows["slo"].any()
    assert not plain.rows["est_slo_met"].any()
    assert (ran.rows["at_s"] == plain.rows["at_s"]).all()
    assert (ran.rows["prompt_tokens"] == plain.rows["prompt_tokens"]).all()


def test_a_policy_that_ignores_objectives_does_as_if_there_were_none() -> None:
    asked = scenario({"traffic.slo_share": 0.5})
    ignoring, plain = run_world(asked, "soonest:slo=0"), run_world(scenario(), "soonest:slo=0")
    assert ignoring.rows["node"].tolist() == plain.rows["node"].tolist()
