"""What goes wrong in a world goes wrong as it would in a network, and is over when it is over."""

from typing import Any

import numpy as np
import pytest
from world_nouns import REFERENCE_B1, Ran, built, job, run_world, scenario

from isochrone.ports import SettingError
from isochrone.sim.scenario.settings import Fault
from isochrone.sim.world.faults import Faults
from isochrone.sim.world.world import World

NODES = [f"node-{number:03}" for number in range(1, 7)]
BUSY = {"traffic.rate_per_s": 15, "duration_s": 30}
SILENT_S = 3.5


def broken(*faults: dict[str, Any], policy: str = "soonest", seed: int = 1, **changes: Any) -> Ran:
    return run_world(scenario(BUSY | {"faults": faults} | changes), policy, seed)


def share_of(ran: Ran, node: str, begin_s: float, end_s: float) -> float:
    """Share of the requests that came in this time whose last try was at the node."""
    then = (ran.rows["at_s"] >= begin_s) & (ran.rows["at_s"] < end_s)
    return float(np.mean(ran.rows["node"][then] == node))


def dispatches(world: World) -> list[tuple[float, str, int]]:
    """Every dispatch as it happens: (when, node, job)."""
    seen: list[tuple[float, str, int]] = []
    send = world._send

    def noted(flight: Any, now_s: float) -> None:
        seen.append((now_s, flight.node_name, flight.job.id))
        send(flight, now_s)

    for gateway in world.gateways:
        object.__setattr__(gateway._outside, "send", noted)
    return seen


# -- lost nodes ------------------------------------------------------------------------------------------


def test_a_lost_node_gets_nothing_once_it_is_silent_and_work_again_when_it_is_back() -> None:
    seen: list[list[tuple[float, str, int]]] = []
    fault = {"kind": "node_loss", "at_s": 8, "duration_s": 10, "nodes": ["node-002"]}
    run_world(
        scenario(BUSY | {"faults": [fault]}), "random", prepare=lambda world: seen.append(dispatches(world))
    )
    to_lost = [at_s for at_s, node, _ in seen[0] if node == "node-002"]
    assert any(at_s < 8 for at_s in to_lost)
    assert any(8 < at_s < 8 + SILENT_S for at_s in to_lost), "nobody knows at once"
    pulse_and_way_s = 1.5
    assert not [at_s for at_s in to_lost if 8 + SILENT_S + 0.5 < at_s < 18]
    assert any(18 < at_s < 18 + pulse_and_way_s + 2 for at_s in to_lost)


def test_requests_without_a_token_are_tried_elsewhere_and_others_are_lost() -> None:
    changes = {"nodes.count": 2, "gateways.count": 1, "bus.jitter": 0, "nodes.speeds": [1]}
    fault = {"kind": "node_loss", "at_s": 3, "nodes": ["node-001", "node-002"], "duration_s": 100}
    one = {"kind": "node_loss", "at_s": 3, "nodes": ["node-001"]}
    # A hundred tokens take a second and more: the first two have tokens when power goes, the others none.
    jobs = [job(number, 2.0, output_tokens=100) for number in range(2)]
    jobs += [job(number, 2.93, output_tokens=100) for number in range(2, 8)]
    ran = run_world(scenario({**changes, "faults": [one]}), "round-robin", jobs=jobs)
    there = ran.rows["node"] == "node-001"
    assert ran.rows["kind"][0] != ran.rows["kind"][1]
    lost = np.flatnonzero(ran.kind("lost"))
    assert len(lost) == 1
    assert np.isfinite(ran.rows["ttft_ms"][lost]).all(), "its client had seen a token"
    assert there[lost].all()
    again = ran.rows["attempts"] == 2
    assert again.sum() == 3
    assert set(ran.rows["node"][again]) == {"node-002"}
    assert set(ran.rows["kind"][again]) == {"answered"}
    assert (ran.rows["ttft_ms"][again] > SILENT_S * 1e3 - 1000).all()
    both = run_world(scenario({**changes, "faults": [fault]}), "round-robin", jobs=jobs)
    assert both.kinds() == {"lost": 2, "failed": 6}


def test_overlapping_outages_end_with_the_last_of_them() -> None:
    world, _ = built(scenario())
    faults = [
        Fault("node_loss", at_s=1, duration_s=9, nodes=("node-001",)),
        Fault("node_loss", at_s=2, duration_s=2, nodes=("node-001", "node-002")),
    ]
    Faults(world, world._luck).schedule(faults)
    alive = {}
    for at_s in (0.5, 1.5, 3.0, 5.0, 11.0):
        while world.agenda.next_s <= at_s:
            world.agenda.step()
        alive[at_s] = world.yard.alive[:2].tolist()
    assert alive == {
        0.5: [True, True], 1.5: [False, True], 3.0: [False, False], 5.0: [False, True], 11.0: [True, True],
    }  # fmt: skip


def test_a_short_outage_is_told_by_the_deadline_only() -> None:
    """A node that is back before it is missed has lost its work, and as in a network nobody is told."""
    fault = {"kind": "node_loss", "at_s": 3, "duration_s": 1, "nodes": NODES}
    jobs = [job(0, 2.5, output_tokens=100), job(1, 6.0)]
    ran = run_world(scenario({"faults": [fault], "gateways.timeout_s": 9}), jobs=jobs)
    assert ran.rows["kind"].tolist() == ["timed_out", "answered"]


def test_a_region_is_lost_and_comes_back() -> None:
    fault = {"kind": "region_loss", "at_s": 8, "duration_s": 10, "region": "East US"}
    ran = broken(fault, policy="random")
    east = {spec.name for spec in ran.world.plan.nodes if spec.region == "East US"}
    assert 0 < len(east) < 6
    in_east = np.isin(ran.rows["node"], list(east))
    at_s = ran.rows["at_s"]
    answered = ran.kind("answered")
    assert in_east[at_s < 7].any()
    assert not (in_east & answered)[(at_s > 8.5) & (at_s < 17)].any()
    assert (in_east & answered)[at_s > 20].any()
    assert answered[(at_s > 13) & (at_s < 17)].all()


# -- slow and broken nodes -------------------------------------------------------------------------------


def test_a_slow_node_answers_slower_and_is_learned_to_be_slow() -> None:
    fault = {"kind": "slow_node", "at_s": 10, "nodes": ["node-002"], "factor": 8}
    ran = broken(fault, policy="random", **{"duration_s": 40, "gateways.count": 1})
    here = ran.kind("answered") & (ran.rows["node"] == "node-002")
    at_s = ran.rows["at_s"]
    steps = np.maximum(1, ran.rows["tokens_out"] - 1)
    tpot_ms = (ran.rows["total_ms"] - ran.rows["ttft_ms"]) / steps
    before, during = here & (at_s < 8), here & (at_s > 11)
    assert tpot_ms[during].mean() > 5 * tpot_ms[before].mean()
    told_ms = ran.rows["est_prefill_ms"] / ran.rows["prompt_tokens"]
    assert told_ms[here & (at_s > 22)].mean() > 2 * told_ms[before].mean()
    quicker = broken(fault, **{"duration_s": 40, "gateways.count": 1})
    assert share_of(quicker, "node-002", 15, 40) < 0.5 * share_of(quicker, "node-002", 0, 10)


def test_a_sinkhole_is_put_aside_after_a_few_requests() -> None:
    fault = {"kind": "sinkhole", "at_s": 5, "nodes": ["node-002"], "error_ms": 2}
    eaten = {}
    for policy in ("soonest", "least-request", "random"):
        seen: list[list[tuple[float, str, int]]] = []
        what = scenario(BUSY | {"faults": [fault], "gateways.count": 1})
        ran = run_world(what, policy, prepare=lambda world, seen=seen: seen.append(dispatches(world)))  # type: ignore[misc]
        eaten[policy] = np.mean([node == "node-002" for at_s, node, _ in seen[0] if at_s > 5])
        assert ran.kinds().get("failed", 0) == 0, "another node answers what it eats"
    fair = 1 / len(NODES)
    assert max(eaten.values()) < 1.2 * fair, eaten


def test_a_sinkhole_that_is_mended_is_used_again() -> None:
    fault = {"kind": "sinkhole", "at_s": 3, "duration_s": 6, "nodes": ["node-002"]}
    ran = broken(fault, policy="random")
    assert share_of(ran, "node-002", 3.5, 9) < 0.02
    assert (ran.kind("answered") & (ran.rows["node"] == "node-002"))[ran.rows["at_s"] > 20].any()


def test_what_is_recorded_is_the_node_tried_last_though_it_was_not_the_best() -> None:
    """After a failure a node of another failure domain is taken, which need not be the first candidate."""
    fault = {"kind": "sinkhole", "at_s": 2, "share": 0.5}
    seen: list[list[tuple[float, str, int]]] = []
    what = scenario(BUSY | {"faults": [fault], "nodes.zones_per_region": 2})
    ran = run_world(what, prepare=lambda world: seen.append(dispatches(world)))
    last = {number: node for _, node, number in seen[0]}
    assert len(seen[0]) > len(last)
    assert [ran.rows["node"][number] for number in last] == list(last.values())


def test_a_node_that_is_far_past_reason_at_the_deadline_is_blamed() -> None:
    fault = {"kind": "slow_node", "at_s": 1, "nodes": ["node-001"], "factor": 1e6}
    changes = {"nodes.count": 1, "gateways.count": 1, "gateways.timeout_s": 15, "faults": [fault]}
    ran = run_world(scenario(changes), jobs=[job(0, 2.0), job(1, 2.1)])
    assert ran.kinds() == {"timed_out": 2}
    belief = ran.world.gateways[0].fleet.belief("node-001")
    assert belief is not None
    assert belief.health.why == "no answer by the deadline"
    hasty = run_world(scenario({**changes, "gateways.timeout_s": 5}), jobs=[job(0, 2.0), job(1, 2.1)])
    assert hasty.kinds() == {"timed_out": 2}
    belief = hasty.world.gateways[0].fleet.belief("node-001")
    assert belief is not None
    assert belief.health.why == ""


# -- cuts ------------------------------------------------------------------------------------------------


def test_both_sides_of_a_cut_go_on_and_join_again() -> None:
    fault = {"kind": "partition", "at_s": 8, "duration_s": 10, "region": "East US"}
    ran = broken(fault, policy="random", **{"gateways.regions": ["West Europe", "East US"]})
    world, at_s = ran.world, ran.rows["at_s"]
    home = {spec.name: spec.region for spec in world.plan.nodes}
    there = np.array([home.get(node, "") for node in ran.rows["node"]])
    at = np.array(world.plan.gateway_regions)[ran.rows["gateway"]]
    cut = (at_s > 13) & (at_s < 17)
    assert ran.kind("answered")[cut].all()
    assert (there[cut] == at[cut]).all()
    assert {"West Europe", "East US"} <= set(at[cut])
    assert (there != at)[ran.kind("answered") & (at_s > 22)].any()


def test_overlapping_cuts_end_with_the_last_of_them() -> None:
    network = built(scenario())[0].network
    network.partition(["East US"], cut=True)
    once = network.cut.copy()
    network.partition(["East US"], cut=True)
    network.partition(["East US"], cut=False)
    np.testing.assert_array_equal(network.cut, once)
    network.partition(["East US"], cut=False)
    assert once.any()
    assert not network.cut.any()


def test_an_answer_whose_first_token_a_cut_swallowed_still_has_all_its_times() -> None:
    changes = {
        "nodes.count": 1,
        "nodes.regions": ["East US"],
        "nodes.regions_by": "even",
        "gateways.regions": ["West Europe"],
        "gateways.count": 1,
        "bus.jitter": 0,
    }
    # Asked at 2.0; tokens from about 2.06 on, all there after two seconds. Cut while the first was sent.
    fault = {"kind": "partition", "at_s": 2.05, "duration_s": 0.5, "region": "East US"}
    ran = run_world(scenario({**changes, "faults": [fault]}), jobs=[job(0, 2.0, output_tokens=200)])
    assert ran.kinds() == {"answered": 1}
    assert ran.rows["ttft_ms"][0] == ran.rows["total_ms"][0] > 1000


# -- gateways --------------------------------------------------------------------------------------------


def test_a_crashed_gateway_loses_its_requests_and_its_clients_go_to_the_next() -> None:
    fault = {"kind": "gateway_crash", "at_s": 10, "duration_s": 8, "gateways": [0]}
    ran = broken(fault, **{"gateways.regions": ["West Europe", "East US"], "hardware.box.queue_max": 100})
    at_s, gateway = ran.rows["at_s"], ran.rows["gateway"]
    assert set(gateway[at_s < 10]) == {0, 1}
    assert set(gateway[(at_s > 10) & (at_s < 18)]) == {1}
    assert set(gateway[at_s > 18]) == {0, 1}
    lost = ran.kind("lost")
    assert lost.any()
    assert set(gateway[lost]) == {0}
    assert (at_s < 10)[lost].all()
    assert ran.kind("answered")[at_s > 10].all()


def test_without_any_gateway_all_is_lost() -> None:
    fault = {"kind": "gateway_crash", "at_s": 10, "duration_s": 5, "gateways": [0, 1]}
    ran = broken(fault)
    away = (ran.rows["at_s"] > 10) & (ran.rows["at_s"] < 14.9)
    assert set(ran.rows["kind"][away]) == {"lost"}
    assert (ran.rows["attempts"][away] == 0).all()
    assert ran.kind("answered")[ran.rows["at_s"] > 15.1].all()


# -- the reference ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "sinkhole", "at_s": 3, "duration_s": 10, "nodes": NODES[1:3]},
        {"kind": "node_loss", "at_s": 3, "duration_s": 10, "nodes": NODES[1:3]},
        {"kind": "partition", "at_s": 3, "duration_s": 10, "region": "East US"},
    ],
    ids=lambda fault: fault["kind"],
)
def test_the_reference_sees_what_is_broken(fault: dict[str, Any]) -> None:
    seen: list[list[tuple[float, str, int]]] = []
    what = scenario(BUSY | {"faults": [fault], "gateways.regions": ["West Europe", "East US"]})
    ran = run_world(what, REFERENCE_B1, prepare=lambda world: seen.append(dispatches(world)))
    if fault["kind"] != "partition":
        assert not [node for at_s, node, _ in seen[0] if 3 < at_s < 13 and node in fault["nodes"]]
    came = ran.rows["at_s"] > 3
    assert set(ran.rows["kind"][came]) == {"answered"}
    assert (ran.rows["attempts"][came] == 1).all()


def test_the_reference_knows_that_a_node_is_slow() -> None:
    fault = {"kind": "slow_node", "at_s": 3, "nodes": NODES[:2], "factor": 100}
    ran = broken(fault, policy=REFERENCE_B1)
    at_s = ran.rows["at_s"]
    assert np.isin(ran.rows["node"][at_s < 3], NODES[:2]).any()
    assert not np.isin(ran.rows["node"][at_s > 3], NODES[:2]).any()


# -- names -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (Fault("node_loss", nodes=("node-9",)), "node_loss names node 'node-9', which is not there"),
        (Fault("region_loss", region="Mars"), "region_loss names Mars, where no node stands"),
        (Fault("gateway_crash", gateways=(7,)), "gateway_crash names gateway 7, which is not there"),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_a_fault_of_what_is_not_there_is_told_in_one_line(fault: Fault, told: str) -> None:
    world, _ = built(scenario())
    with pytest.raises(SettingError, match=told) as caught:
        Faults(world, world._luck).schedule([fault])
    assert "\n" not in str(caught.value)
