"""Models that share a node: what a request for one of them finds there, and takes from the others."""

from dataclasses import replace

import pytest
from fleet_nouns import MODEL, READY, a_dispatch, a_pulse, a_request, an_estimate, an_outcome, joined

from isochrone.fleet import Dispatched, Fleet, PulseReceived
from isochrone.model import Load, Numbers, PromptBlocks, Timings

OTHER = replace(READY, name="other")
THIRD = replace(READY, name="third")


def a_fleet(*models, running=0) -> Fleet:
    return joined(models=models, load=Load(slots=8, running=running))


def found(fleet: Fleet, model: str = MODEL, now_s: float = 1.0) -> Numbers:
    """What a request for the model would find on the only node."""
    return fleet.view(model, now_s).nodes.numbers(0, PromptBlocks())


def answered(fleet: Fleet, number: int, prefill_ms: float, sharing: float, now_s: float = 1.0) -> None:
    """A request of 100 tokens, predicted to share the node with so many models, took so long."""
    request = a_request(number)
    fleet.step(Dispatched(request, "a", an_estimate(prefill_ms=prefill_ms, sharing=sharing)), now_s)
    timings = Timings(prefill_ms=prefill_ms, decode_ms=90.0, prompt_tokens=100, output_tokens=10)
    fleet.step(an_outcome(request, ttft_ms=prefill_ms, timings=timings), now_s)


def test_a_request_for_a_model_at_work_joins_it_and_slows_nobody():
    fleet = a_fleet(replace(READY, at_work=True), replace(OTHER, at_work=True), running=5)
    assert (found(fleet).sharing, found(fleet).slowed) == (2.0, 0.0)


def test_a_request_for_another_model_takes_a_share_from_all_that_are_at_work():
    fleet = a_fleet(READY, replace(OTHER, at_work=True), replace(THIRD, at_work=True), running=5)
    assert (found(fleet).sharing, found(fleet).slowed) == (3.0, 5.0)
    assert found(fleet).prefill_ms_per_token == 3 * READY.prefill_ms_per_token
    assert found(fleet).tpot_ms == 3 * READY.tpot_ms


def test_a_node_without_work_is_all_ours():
    numbers = found(a_fleet(READY, OTHER))
    assert (numbers.sharing, numbers.slowed, numbers.tpot_ms) == (1.0, 0.0, READY.tpot_ms)


def test_a_node_with_one_model_shares_nothing_however_much_it_has_to_do():
    fleet = a_fleet(READY, running=5)
    fleet.step(a_dispatch(a_request()), 1.0)
    assert (found(fleet).sharing, found(fleet).slowed) == (1.0, 0.0)
    assert next(iter(fleet.beliefs())).view(MODEL, 1.0, bus_up=True).models_at_work == 0


def test_our_own_request_puts_its_model_to_work_at_once_and_takes_it_off_when_it_ends():
    fleet, request = a_fleet(READY, OTHER), a_request()
    fleet.step(a_dispatch(request), 1.0)
    assert (found(fleet).sharing, found(fleet, "other").sharing) == (1.0, 2.0)
    assert found(fleet, "other").slowed == 1.0
    fleet.step(an_outcome(request), 2.0)
    assert found(fleet, "other", 2.0).sharing == 1.0


def test_what_the_node_tells_counts_until_it_tells_otherwise():
    fleet, request = a_fleet(READY, OTHER), a_request()
    fleet.step(PulseReceived(a_pulse(seq=2, models=(replace(READY, at_work=True), OTHER))), 1.0)
    fleet.step(a_dispatch(request), 1.0)
    fleet.step(an_outcome(request), 2.0)
    assert found(fleet, "other", 2.0).sharing == 2.0
    fleet.step(PulseReceived(a_pulse(seq=3, models=(READY, OTHER))), 3.0)
    assert found(fleet, "other", 3.0).sharing == 1.0


def test_a_model_that_the_node_lists_no_more_is_not_at_work_there():
    fleet = a_fleet(READY, OTHER, replace(THIRD, at_work=True))
    fleet.step(PulseReceived(a_pulse(seq=2, models=(READY, OTHER))), 1.0)
    assert found(fleet).sharing == 1.0


def test_speeds_are_expected_by_the_number_at_work_when_they_were_learned():
    fleet = a_fleet(READY, OTHER)
    for number in range(200):
        answered(fleet, number, prefill_ms=200.0, sharing=2.0)
    alone = found(fleet)
    assert alone.prefill_base_ms + 100 * alone.prefill_ms_per_token == pytest.approx(100.0, rel=0.01)
    fleet.step(PulseReceived(a_pulse(seq=2, models=(READY, replace(OTHER, at_work=True)))), 1.0)
    beside = found(fleet)
    assert beside.prefill_base_ms + 100 * beside.prefill_ms_per_token == pytest.approx(200.0, rel=0.01)


def test_a_node_that_always_denies_to_be_at_work_gains_nothing_by_it():
    """The number when speeds were learned is what we predicted, not what a node says it was."""
    fleet = a_fleet(READY, OTHER)
    for number in range(200):
        answered(fleet, number, prefill_ms=200.0, sharing=found(fleet).sharing)
    numbers = found(fleet)
    assert numbers.prefill_base_ms + 100 * numbers.prefill_ms_per_token == pytest.approx(200.0, rel=0.01)


def test_a_node_never_asked_is_taken_for_its_kin():
    fleet = joined("a", "b", models=(READY, OTHER), load=Load(slots=8))
    for number in range(200):
        answered(fleet, number, prefill_ms=200.0, sharing=2.0)
    unasked = fleet.view(MODEL, 1.0).nodes
    fleet.step(PulseReceived(a_pulse("b", seq=2, models=(replace(READY, tpot_ms=11.0), OTHER))), 1.0)
    assert unasked.numbers(1, PromptBlocks()).prefill_ms_per_token == READY.prefill_ms_per_token / 2
