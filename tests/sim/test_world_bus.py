"""News travels through a world's bus as through a live one: late, lost, out of order, and never too new."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from world_nouns import QUEUE, Ran, built, job, run_world, scenario

from isochrone.fleet import LoadsReceived, PulseReceived
from isochrone.model import Load, ModelState
from isochrone.sim.world.pulses import Pulses
from isochrone.sim.world.world import World

SILENT_S = 3.5


def until(world: World, at_s: float) -> None:
    """Let happen what is due by then."""
    while world.agenda.next_s <= at_s:
        world.agenda.step()


def begun(changes: dict[str, Any]) -> World:
    """A world in which pulses go round and no request comes."""
    world, _ = built(scenario(changes))
    world.pulses.start(0.0)
    world.agenda.note(1.0, world._every_second, None)
    return world


def watched(world: World, gateway: int = 0) -> list[tuple[float, Any]]:
    """Every event that one gateway's beliefs take in, with its time."""
    seen: list[tuple[float, Any]] = []
    step = world.gateways[gateway].step

    def noted(event: Any, now_s: float) -> None:
        seen.append((now_s, event))
        step(event, now_s)

    world.gateways[gateway].step = noted  # type: ignore[method-assign]
    return seen


# -- pulses ----------------------------------------------------------------------------------------------


def test_every_node_is_heard_once_a_pulse_by_every_gateway() -> None:
    world = begun({"bus.pulse_s": 1})
    until(world, 10.5)
    assert world.pulses.delivered == pytest.approx(10 * 6 * 2, abs=6 * 2)


def test_news_is_as_old_as_a_pulse_and_its_way_when_nothing_is_lost() -> None:
    ran = run_world(scenario({"bus.pulse_s": 2, "bus.load_in_responses": False, "bus.jitter": 0}), "random")
    way_s, tick_s = float(ran.world.network.back_s.max()), 0.05
    assert ran.kinds() == {"answered": len(ran.jobs)}
    assert ran.rows["age_s"].min() >= 0.0
    assert ran.rows["age_s"].max() <= 2 + tick_s + 1e-9 + way_s
    assert ran.rows["age_s"].mean() == pytest.approx(1.0, abs=0.25)
    fresher = run_world(scenario({"bus.pulse_s": 2, "bus.jitter": 0}), "random")
    assert fresher.rows["age_s"].mean() < ran.rows["age_s"].mean()


@pytest.mark.parametrize("in_step", [True, False])
def test_nodes_speak_at_one_instant_only_when_they_are_told_to(in_step: bool) -> None:
    world = begun({"bus.in_step": in_step, "bus.jitter": 0, "nodes.regions": ["West Europe"]})
    until(world, 7.7)
    (first, second) = world.gateways
    heard_at_s = {belief.load_at_s for belief in first.fleet.beliefs()}
    assert len(heard_at_s) == (1 if in_step else 6)
    assert len({belief.pulse.load.slots for belief in second.fleet.beliefs() if belief.pulse}) == 1


def test_late_and_overtaken_pulses_never_make_a_belief_older() -> None:
    world, jobs = built(scenario({"bus.late": 0.5, "bus.late_s": 2, "bus.jitter": 1, "bus.loss": 0.1}))
    gateway = world.gateways[0]
    table = gateway.fleet._table
    step = gateway.step
    last: dict[str, Any] = {}
    folded = {"dropped": 0}

    def checked(event: Any, now_s: float) -> None:
        step(event, now_s)
        seq, load_at_s = table.seq[: table.rows].copy(), table.load_at_s[: table.rows].copy()
        if last and len(last["seq"]) == len(seq):
            assert (seq >= last["seq"]).all()
            assert (load_at_s >= last["load_at_s"] - 0.05).all()
        assert (load_at_s <= now_s).all()
        if isinstance(event, LoadsReceived):
            folded["dropped"] += int((table.seq[event.rows] != event.seq).sum())
        last.update(seq=seq, load_at_s=load_at_s)

    gateway.step = checked  # type: ignore[method-assign]
    for _ in world.run(iter(jobs)):
        pass
    assert folded["dropped"] > 10, "some were overtaken"
    assert world.recorder.by_kind["answered"] == len(jobs)


def test_without_pulses_only_answers_keep_a_node_from_silence() -> None:
    """Answers bring news, as they do live; what no answer comes from is silent (a world has no pings)."""
    changes = {"bus.loss": 1, "nodes.count": 2, "nodes.regions": ["West Europe"], "gateways.count": 1}
    steady = [job(number, 0.5 + number) for number in range(10)]
    jobs = [*steady, job(10, 20.0)]
    ran = run_world(scenario(changes), "nearest", jobs=jobs)
    assert ran.world.pulses.delivered == 0
    assert ran.rows["kind"].tolist() == ["answered"] * 10 + ["refused"]
    assert len(set(ran.rows["node"][:10])) == 1
    silent = run_world(scenario({**changes, "bus.load_in_responses": False}), "nearest", jobs=jobs)
    came = silent.rows["at_s"] < SILENT_S - 0.1
    assert set(silent.rows["kind"][came]) == {"answered"}
    assert set(silent.rows["kind"][~came]) == {"refused"}


def test_lost_pulses_make_news_older_and_nothing_else() -> None:
    what = {"bus.load_in_responses": False, "nodes.regions": ["West Europe"]}
    whole, half = (run_world(scenario(what | {"bus.loss": loss}), "random") for loss in (0.0, 0.4))
    assert half.world.pulses.delivered == pytest.approx(0.6 * whole.world.pulses.delivered, rel=0.15)
    assert half.rows["age_s"].mean() > 1.3 * whole.rows["age_s"].mean()


def test_a_pulse_tells_what_was_when_it_was_spoken() -> None:
    world = begun(
        {
            "bus.pulse_s": 0.05,
            "bus.jitter": 0,
            "nodes.count": 1,
            "nodes.regions": ["East US"],
            "nodes.regions_by": "even",
            "gateways.count": 1,
            "gateways.regions": ["Japan East"],
        }
    )
    way_s = float(world.network.back_s[0, 0])
    assert way_s > 0.07
    until(world, 5.0)
    world.yard.unload_model(0, "toy", 5.001)
    states = {}
    for at_s in np.arange(5.01, 5.4, 0.01):
        until(world, float(at_s))
        (view,) = world.gateways[0].fleet.view("toy", float(at_s)).nodes
        states[round(float(at_s), 2)] = view.models["toy"].state
    assert {state for at_s, state in states.items() if at_s <= 5.0 + way_s} == {ModelState.READY}
    assert {state for at_s, state in states.items() if at_s > 5.1 + way_s + 0.05} == {ModelState.ON_DISK}


def test_a_late_pulse_of_an_earlier_life_is_no_news() -> None:
    world = begun({"bus.late": 0.6, "bus.late_s": 3, "nodes.count": 1, "gateways.count": 1})
    until(world, 5.0)
    world.yard.fail(0, 5.0)
    world.yard.revive(0, 5.2)
    seen = watched(world)
    epochs = []
    for at_s in np.arange(5.3, 25.0, 0.1):
        until(world, float(at_s))
        epochs.append(int(world.gateways[0].fleet._table.epoch[0]))
    assert epochs == sorted(epochs)
    assert epochs[-1] == 2
    whole = [event.pulse for _, event in seen if isinstance(event, PulseReceived)]
    assert {pulse.epoch for pulse in whole} == {2}


def test_a_restarted_gateway_knows_again_who_is_alive() -> None:
    fault = {"kind": "gateway_crash", "at_s": 5, "duration_s": 2, "gateways": [0]}
    lost = {"kind": "node_loss", "at_s": 4, "duration_s": 6, "nodes": ["node-003"]}
    world = begun({"faults": [fault, lost]})
    known = {}
    for at_s in (4.5, 6.0, 7.05, 12.0):
        until(world, at_s)
        known[at_s] = len(list(world.gateways[0].fleet.beliefs()))
    assert known == {4.5: 6, 6.0: 0, 7.05: 5, 12.0: 6}


# -- columns and whole pulses ----------------------------------------------------------------------------


def fold_one_by_one(_pulses: Pulses, gateway: Any, rows: Any, batch: Any, which: Any, _now_s: float) -> None:
    """What `_fold` does with a batch, with one whole pulse after the other."""
    fleet = gateway.fleet
    told = {name: column[which] for name, column in batch.told.items()}
    for at, row in enumerate(rows):
        belief = fleet._node_at(int(row))
        load = Load(
            **{name: int(told[name][at]) for name in ("slots", "running", "queued")},
            **{
                name: float(told[name][at])
                for name in ("wait_s", "backlog_s", "inflow", "kv_used", "prefill_s")
            },
        )
        heard_at_s = float(batch.heard_at_s[which][at])
        if heard_at_s >= belief.load_at_s:  # else something newer came in before
            known_since_s = {name: speed.heard_at_s for name, speed in belief.speeds.items()}
            pulse = replace(belief.pulse, seq=int(batch.seq[which][at]), load=load)
            gateway.step(PulseReceived(pulse), heard_at_s)
            table = fleet._table
            planned_since_s = float(table.others_at_s[row]) - heard_at_s
            if planned_since_s > 0.0:  # an event told in time would have come before that plan
                table.others_s[row] = table.others_flow[row] * planned_since_s
            for name, since_s in known_since_s.items():
                belief.speeds[name].heard_at_s = since_s


@pytest.mark.parametrize("policy", ["soonest", "corrected", "shortest-expected-delay"])
def test_a_batch_of_pulses_decides_as_one_pulse_after_the_other(
    policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = [
        {"kind": "node_loss", "at_s": 4, "duration_s": 7, "share": 0.2},
        {"kind": "partition", "at_s": 8, "duration_s": 5, "region": "East US"},
    ]
    what = scenario({"bus.late": 0.2, "bus.loss": 0.1, "faults": faults, "traffic.rate_per_s": 15})
    batches = run_world(what, policy)
    monkeypatch.setattr(Pulses, "_fold", fold_one_by_one)
    singles = run_world(what, policy)
    for name in ("node", "kind", "age_s", "est_wait_ms", "est_ttft_ms", "runner_up", "total_ms"):
        np.testing.assert_array_equal(batches.rows[name], singles.rows[name], err_msg=name)


# -- exact loads -----------------------------------------------------------------------------------------


def exactly(changes: dict[str, Any], jobs: list[Any] | None = None) -> tuple[Ran, list[list[float]]]:
    """A world of exact loads, with [age, claimed less believed] of every node at every decision."""
    found: list[list[float]] = []

    def spy(world: World) -> None:
        for gateway in world.gateways:
            decide = gateway._decide

            def looked(view: Any, flight: Any, now_s: float, decide: Any = decide) -> Any:
                for node in view.nodes:
                    if not world.yard.alive[world.yard.index[node.node]]:
                        continue
                    claim = world.yard.load(world.yard.index[node.node], now_s)
                    found.append([node.age_s, claim.wait_s - node.reported_wait_s])
                    assert (node.running, node.queued) == (claim.running, claim.queued)
                return decide(view, flight, now_s)

            gateway._decide = looked

    return run_world(scenario({"bus.exact_loads": True} | changes), jobs=jobs, prepare=spy), found


def test_exact_loads_are_the_nodes_own_claims_of_this_instant() -> None:
    changes = QUEUE | {"nodes.count": 3, "gateways.count": 2, "traffic.rate_per_s": 25}
    ran, found = exactly(changes)
    assert ran.kinds() == {"answered": len(ran.jobs)}
    assert len(found) == 3 * len(ran.jobs)
    ages, errors = np.array(found).T
    assert not ages.any()
    token_s = 1e-3  # a node counts whole tokens where the columns drain
    assert np.abs(errors).max() <= token_s + 1e-9
    assert np.abs(errors).mean() < 0.5 * token_s
    assert not ran.rows["age_s"].any()
    assert ran.world.counters()["pulses"] == 0


def test_an_idle_node_of_exact_loads_never_falls_silent() -> None:
    ran, _ = exactly({}, jobs=[job(0, 1.0), job(1, 15.0), *(job(n, 40.0 + n) for n in range(2, 6))])
    assert ran.kinds() == {"answered": 6}


def test_a_lost_node_of_exact_loads_falls_silent() -> None:
    fault = {"kind": "node_loss", "at_s": 5, "nodes": ["node-001"]}
    ran, _ = exactly({"faults": [fault]})
    assert not (ran.rows["node"] == "node-001")[ran.rows["at_s"] > 5 + SILENT_S + 1].any()
    assert ran.kind("answered").mean() > 0.9


def test_exact_loads_are_better_than_a_stale_bulletin_board() -> None:
    changes = QUEUE | {"nodes.count": 5, "traffic.rate_per_s": 40, "duration_s": 30}
    board = {"bus.in_step": True, "bus.pulse_s": 2, "bus.load_in_responses": False}
    exact = run_world(scenario(changes | {"bus.exact_loads": True}), "stale-greedy")
    stale = run_world(scenario(changes | board), "stale-greedy")
    assert exact.rows["total_ms"].mean() < 0.5 * stale.rows["total_ms"].mean()


def test_few_nodes_speak_as_often_as_live_ones_do() -> None:
    world = begun({"bus.pulses_per_s": 50, "bus.pulse_s_min": 0.5})
    until(world, 10.5)
    assert world.pulses.delivered == pytest.approx(20 * 6 * 2, abs=6 * 2)
