"""Models that share a node: what a request for one of them finds there, and takes from the others."""

from dataclasses import replace

import pytest
from fleet_nouns import MODEL, READY, a_dispatch, a_pulse, a_request, an_estimate, an_outcome, joined

from isochrone.fleet import Dispatched, Fleet, LoadReported, PulseReceived
from isochrone.model import Load, ModelState, Numbers, OutcomeKind, PromptBlocks, Timings

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


def test_no_more_lose_than_have_slots():
    fleet = a_fleet(READY, replace(OTHER, at_work=True), running=8)
    fleet.step(a_dispatch(a_request(model="other")), 1.0)
    assert found(fleet).slowed == 8.0


def test_a_node_that_told_that_nothing_runs_has_no_model_at_work():
    fleet = a_fleet(READY, replace(OTHER, at_work=True), running=1)
    assert found(fleet).sharing == 2.0
    fleet.step(LoadReported("a", Load(slots=8)), 1.0)
    assert found(fleet).sharing == 1.0


def test_speeds_that_a_node_claims_are_taken_as_they_are():
    fleet = a_fleet(READY, replace(OTHER, at_work=True), replace(THIRD, at_work=True), running=5)
    numbers = found(fleet)
    assert numbers.prefill_ms_per_token == READY.prefill_ms_per_token
    assert (numbers.slower, numbers.tpot_ms) == (1.0, READY.tpot_ms)


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
    fleet, request, load = a_fleet(READY, OTHER), a_request(), Load(slots=8, running=1)
    fleet.step(PulseReceived(a_pulse(seq=2, models=(replace(READY, at_work=True), OTHER), load=load)), 1.0)
    fleet.step(a_dispatch(request), 1.0)
    fleet.step(an_outcome(request), 2.0)
    assert found(fleet, "other", 2.0).sharing == 2.0
    fleet.step(PulseReceived(a_pulse(seq=3, models=(READY, OTHER), load=load)), 3.0)
    assert found(fleet, "other", 3.0).sharing == 1.0


def test_a_model_that_the_node_lists_no_more_is_not_at_work_there():
    fleet = a_fleet(READY, OTHER, replace(THIRD, at_work=True))
    fleet.step(PulseReceived(a_pulse(seq=2, models=(READY, OTHER))), 1.0)
    assert found(fleet).sharing == 1.0


def test_a_model_that_is_loading_is_not_at_work_yet():
    fleet = a_fleet(replace(READY, state=ModelState.ON_DISK, ready_in_s=5.0), OTHER)
    fleet.step(a_dispatch(a_request()), 1.0)
    assert found(fleet, "other").sharing == 1.0


def test_a_node_that_says_while_balking_that_a_model_is_ready_has_it_at_work():
    fleet = a_fleet(replace(READY, state=ModelState.ON_DISK, ready_in_s=5.0), OTHER)
    first, second = a_request(1), a_request(2)
    fleet.step(a_dispatch(first), 1.0)
    fleet.step(a_dispatch(second), 1.0)
    fleet.step(an_outcome(first, kind=OutcomeKind.BALKED, ready_in_s=0.0), 1.2)
    assert found(fleet, "other", 1.2).sharing == 2.0


def test_a_second_model_is_known_to_share_with_the_first_that_is_at_work():
    """What is at work where it is alone was of no interest until then."""
    fleet, request = a_fleet(READY), a_request()
    fleet.step(a_dispatch(request), 1.0)
    fleet.step(PulseReceived(a_pulse(seq=2, models=(READY, OTHER), load=Load(slots=8, running=1))), 1.5)
    assert (found(fleet).sharing, found(fleet).slowed) == (1.0, 0.0)
    assert (found(fleet, "other").sharing, found(fleet, "other").slowed) == (2.0, 1.0)


def predicted_ms(fleet: Fleet, at_work: int, seq: int, now_s: float = 1.0) -> float:
    """Prefill of 100 tokens on the node, which says that so many others are at work there."""
    others = tuple(replace(OTHER, name=f"o{n}", at_work=n < at_work) for n in range(8))
    load = Load(slots=9, running=at_work)
    fleet.step(PulseReceived(a_pulse(seq=seq, models=(READY, *others), load=load)), now_s)
    numbers = found(fleet, now_s=now_s)
    return numbers.prefill_base_ms + 100 * numbers.prefill_ms_per_token


def test_speeds_follow_the_number_at_work_at_once():
    """In stretches, so that a line which took them for changes of the node would be late at each."""
    fleet, seq, off = a_fleet(READY, *[replace(OTHER, name=f"o{n}") for n in range(8)]), 1, []
    for stretch in range(12):
        for number in range(15):
            seq += 1
            sharing = 1 + stretch % 3
            expected_ms = predicted_ms(fleet, sharing - 1, seq)
            off.append(abs(expected_ms / (150.0 * sharing) - 1.0))
            answered(fleet, 100 * stretch + number, prefill_ms=150.0 * sharing, sharing=float(sharing))
    assert max(off[90:]) < 0.1


def test_models_with_compute_of_their_own_are_found_not_to_share():
    fleet, seq = a_fleet(READY, *[replace(OTHER, name=f"o{n}") for n in range(8)]), 1
    for number in range(200):
        seq += 1
        sharing = 1 + number % 3
        predicted_ms(fleet, sharing - 1, seq)
        answered(fleet, number, prefill_ms=150.0, sharing=float(sharing))
    assert predicted_ms(fleet, 0, seq + 1) == pytest.approx(150.0, rel=0.1)
    assert predicted_ms(fleet, 2, seq + 2) == pytest.approx(150.0, rel=0.1)
    assert found(fleet).slowed < 0.2


@pytest.mark.parametrize("claimed", [(0,), (0, 0, 7), (7,)], ids=["denies", "now and then", "boasts"])
def test_a_node_that_lies_about_who_is_at_work_soon_gains_nothing_by_it(claimed):
    """It takes 200 ms whatever it says, and says so for long; then it says that nothing is at work."""
    fleet, seq = a_fleet(READY, *[replace(OTHER, name=f"o{n}") for n in range(8)]), 1
    for number in range(150):
        seq += 1
        predicted_ms(fleet, claimed[number % len(claimed)], seq)
        answered(fleet, number, prefill_ms=200.0, sharing=found(fleet).sharing)
    for number in range(150, 160):
        seq += 1
        predicted_ms(fleet, 0, seq)
        answered(fleet, number, prefill_ms=200.0, sharing=found(fleet).sharing)
    assert predicted_ms(fleet, 0, seq + 1) == pytest.approx(200.0, rel=0.2)


def test_what_one_node_showed_is_nothing_to_another():
    fleet = joined("a", "b", models=(READY, OTHER), load=Load(slots=8))
    for number in range(50):
        answered(fleet, number, prefill_ms=200.0, sharing=2.0)
    numbers = fleet.view(MODEL, 1.0).nodes.numbers(1, PromptBlocks())
    assert (numbers.prefill_ms_per_token, numbers.slower) == (READY.prefill_ms_per_token, 1.0)
