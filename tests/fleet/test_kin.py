"""A node that never answered is expected to be like its kin: not certain, and not of a constant's speed."""

from dataclasses import replace

import numpy as np
import pytest
from fleet_nouns import MODEL, READY, a_card, a_pulse, a_request, an_estimate, an_outcome, seen
from hypothesis import given
from hypothesis import strategies as st

from isochrone.fleet import Dispatched, Fleet, PulseReceived
from isochrone.fleet.kin import Kin, decode_sample, prefill_sample
from isochrone.model import Load, ModelPulse, ModelState, Timings
from isochrone.routing import EstimateWeights, estimate

UNCLAIMED = ModelPulse(MODEL, ModelState.READY)


def a_fleet(**engines: str) -> Fleet:
    """Nodes of these names and engines, each with two slots; those called `mute...` claim no speed."""
    fleet = Fleet()
    for name, engine in engines.items():
        models = (UNCLAIMED if name.startswith("mute") else READY,)
        fleet.step(PulseReceived(a_pulse(name, models=models, load=Load(slots=2))), 0.0)
        fleet.step(a_card(name, engine=engine, slots=2), 0.0)
    return fleet


def answers(
    fleet: Fleet, node: str, times: int = 1, *, off_ms: float = 40.0, ms_per_token: float = 4.0
) -> None:
    """The node answers `times` prompts of several lengths, each `off_ms` later than was predicted."""
    for number in range(times):
        request = a_request(f"{node}{number}")
        tokens = 100 + 50 * (number % 4)
        timings = Timings(
            prefill_ms=30.0 + ms_per_token * tokens, prompt_tokens=tokens, decode_ms=400.0, output_tokens=21
        )
        fleet.step(Dispatched(request, node, an_estimate(prefill_ms=500.0)), 0.0)
        fleet.step(an_outcome(request, node, ttft_ms=500.0 + off_ms, timings=timings), 0.0)


def again(fleet: Fleet, node: str, model: ModelPulse) -> None:
    fleet.step(PulseReceived(a_pulse(node, seq=2, models=(model,), load=Load(slots=2))), 0.0)


def numbers(fleet: Fleet, node: str):
    roll = fleet.view(MODEL, 0.0).nodes
    index = roll.index_of(node)
    assert index is not None
    return roll.numbers(index, a_request().blocks), index, roll.columns


def test_a_node_that_never_answered_is_as_uncertain_as_its_kin():
    fleet = a_fleet(a="x", b="x")
    assert seen(fleet, 0.0, "b").models[MODEL].error_ms == 0.0
    answers(fleet, "a", 3, off_ms=40.0)
    for node in ("a", "b"):
        row, index, columns = numbers(fleet, node)
        assert row.error_ms == columns.error_ms[index] == seen(fleet, 0.0, node).models[MODEL].error_ms
        assert row.error_ms == pytest.approx(40.0)
    view = fleet.view(MODEL, 0.0)
    predicted = estimate(view, a_request(), numbers(fleet, "b")[0], EstimateWeights())
    assert predicted.uncertainty_ms == pytest.approx(40.0)


def test_a_node_that_answered_is_as_uncertain_as_it_showed_itself():
    fleet = a_fleet(a="x", b="x")
    answers(fleet, "a", 30, off_ms=100.0)
    answers(fleet, "b", 1, off_ms=10.0)
    assert numbers(fleet, "b")[0].error_ms == pytest.approx(10.0)
    assert numbers(fleet, "a")[0].error_ms == pytest.approx(100.0)


def test_a_model_of_which_nothing_is_known_is_not_certain_on_a_node_that_just_came():
    fleet = a_fleet(a="x")
    answers(fleet, "a", 2, off_ms=60.0)
    fleet.step(PulseReceived(a_pulse("late")), 0.0)
    fleet.step(a_card("late"), 0.0)
    assert numbers(fleet, "late")[0].error_ms == pytest.approx(60.0)


def test_a_newcomer_of_a_splendid_claim_gets_a_trial_and_no_stampede():
    """It says it takes a hundredth of what the others take; twenty requests come at once."""
    fleet, splendid = a_fleet(a="x", b="x"), replace(READY, prefill_base_ms=1.0, prefill_ms_per_token=0.02)
    for node in ("a", "b"):
        answers(fleet, node, 10)
    fleet.step(PulseReceived(a_pulse("new", models=(splendid,), load=Load(slots=8))), 0.0)
    fleet.step(a_card("new", slots=8), 0.0)
    sent = dict.fromkeys(("a", "b", "new"), 0)
    for number in range(20):
        view, request = fleet.view(MODEL, 0.0), a_request(f"s{number}")
        guesses = {node: estimate(view, request, numbers(fleet, node)[0], EstimateWeights()) for node in sent}
        best = min(guesses, key=lambda node: guesses[node].score_ms)
        fleet.step(Dispatched(request, best, guesses[best]), 0.0)
        sent[best] += 1
    assert 1 <= sent["new"] <= 10


def test_a_node_without_a_claim_is_expected_to_be_as_fast_as_its_kind():
    fleet = a_fleet(a="x", b="y", mute="x")
    answers(fleet, "a", 20, ms_per_token=4.0)
    answers(fleet, "b", 20, ms_per_token=9.0)
    again(fleet, "mute", UNCLAIMED)
    row, index, columns = numbers(fleet, "mute")
    assert row.prefill_ms_per_token == pytest.approx(4.0, rel=0.1)
    assert row.tpot_ms == pytest.approx(20.0, rel=0.01)
    assert columns.prefill_ms_per_token[index] == row.prefill_ms_per_token
    assert seen(fleet, 0.0, "mute").models[MODEL].prefill_ms_per_token == row.prefill_ms_per_token


def test_nodes_of_one_class_of_hardware_are_alike_whatever_their_engine():
    fleet = a_fleet(a="x", b="y", mute="y")
    for name, engine, hardware in (("a", "x", "slow"), ("b", "y", "fast"), ("mute", "y", "slow")):
        fleet.step(a_card(name, engine=engine, slots=2, hardware=hardware), 0.0)
    answers(fleet, "a", 20, ms_per_token=9.0)
    answers(fleet, "b", 20, ms_per_token=4.0)
    again(fleet, "mute", UNCLAIMED)
    assert numbers(fleet, "mute")[0].prefill_ms_per_token == pytest.approx(9.0, rel=0.1)


def test_a_node_without_a_claim_and_without_its_like_is_expected_to_be_as_fast_as_any():
    fleet = a_fleet(a="x", mute="z")
    answers(fleet, "a", 20, ms_per_token=4.0)
    again(fleet, "mute", UNCLAIMED)
    assert numbers(fleet, "mute")[0].prefill_ms_per_token == pytest.approx(4.0, rel=0.1)


def test_a_claim_goes_before_what_kin_showed():
    fleet = a_fleet(a="x", b="x")
    answers(fleet, "a", 20, ms_per_token=9.0)
    again(fleet, "b", READY)
    assert numbers(fleet, "b")[0].prefill_ms_per_token == READY.prefill_ms_per_token


def test_what_kin_showed_counts_as_a_few_samples_before_the_first():
    fleet = a_fleet(a="x", mute="x")
    answers(fleet, "a", 40, ms_per_token=4.0)
    again(fleet, "mute", UNCLAIMED)
    answers(fleet, "mute", 1, ms_per_token=8.0)
    row = numbers(fleet, "mute")[0]
    believed_ms = row.prefill_base_ms + 100 * row.prefill_ms_per_token
    assert 450.0 < believed_ms < 800.0  # it took 830 ms, its kin would take 430 ms
    answers(fleet, "mute", 80, ms_per_token=8.0)
    assert numbers(fleet, "mute")[0].prefill_ms_per_token == pytest.approx(8.0, rel=0.1)


def test_nobodys_answers_say_nothing():
    fleet = a_fleet(mute="x")
    row, index, columns = numbers(fleet, "mute")
    assert (row.prefill_base_ms, row.prefill_ms_per_token, row.tpot_ms, row.error_ms) == (0, 0, 0, 0)
    assert np.all(columns.error_ms == 0.0)
    assert index == 0


def test_kinds_beyond_the_bound_are_expected_to_be_as_any():
    kin, timings = Kin(), Timings(prefill_ms=300.0, prompt_tokens=100, decode_ms=90.0, output_tokens=10)
    for slots in range(200):
        kin.learn_speeds(f"x/{slots}", timings)
    assert len(kin._kinds) < 100
    assert kin.prefill("x/199") == kin.prefill("never/1")
    assert kin.decode("x/199")[0] == pytest.approx(10.0)


told = st.integers(0, 1000)
took_ms = st.just(0.0) | st.floats(1e-3, 1e5)


@given(took_ms, took_ms, told, told, told)
def test_samples_are_what_a_line_can_learn(
    prefill_ms, decode_ms, prompt_tokens, cached_tokens, output_tokens
):
    timings = Timings(
        prefill_ms=prefill_ms,
        decode_ms=decode_ms,
        prompt_tokens=prompt_tokens,
        cached_tokens=cached_tokens,
        output_tokens=output_tokens,
    )
    prompt, answer = prefill_sample(timings), decode_sample(timings)
    assert prompt is None or (0 <= prompt[0] <= prompt_tokens and prompt[1] > 0)
    assert answer is None or (answer[0] >= 1 and answer[1] > 0)
