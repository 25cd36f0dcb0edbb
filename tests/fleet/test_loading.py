"""Loads that were late correct the node's claim, the more the more of them were."""

from dataclasses import replace

import pytest
from fleet_nouns import MODEL, READY, a_pulse, a_request, an_estimate, an_outcome, joined, seen
from hypothesis import given
from hypothesis import strategies as st

from isochrone.fleet import Dispatched, Fleet, PulseReceived
from isochrone.fleet.loading import Loads
from isochrone.model import ModelPulse, ModelState, Timings

ON_DISK = replace(READY, state=ModelState.ON_DISK, ready_in_s=6.0)


def load(fleet: Fleet, number: int, now_s: float, took_s: float) -> None:
    """Have a node load for a request and answer it; then the model is on disk again."""
    request = a_request(number)
    fleet.step(Dispatched(request, "a", an_estimate(cold_ms=6e3)), now_s)
    timings = Timings(load_ms=took_s * 1e3, prefill_ms=50.0, prompt_tokens=100, output_tokens=1)
    fleet.step(an_outcome(request, timings=timings, ttft_ms=took_s * 1e3), now_s + took_s)
    fleet.step(PulseReceived(a_pulse(seq=number + 2, models=(ON_DISK,))), now_s + took_s)


def ready_in_s(fleet: Fleet, now_s: float) -> float:
    view = fleet.view(MODEL, now_s)
    told = seen(fleet, now_s).models[MODEL].ready_in_s
    assert view.nodes.columns.ready_in_s[0] == pytest.approx(told)
    assert view.nodes.numbers(0, a_request().blocks).ready_in_s == pytest.approx(told)
    return told


def test_loads_that_are_late_make_the_next_one_later():
    fleet, told = joined(models=(ON_DISK,)), [6.0]
    for number in range(6):
        load(fleet, number, 100.0 * number, took_s=20.0)
        told.append(ready_in_s(fleet, 100.0 * number + 50.0))
    assert told[1] == pytest.approx(6.0 + 14.0 / 2)
    assert told == sorted(told)
    assert told[-1] == pytest.approx(20.0, rel=0.15)


def test_loads_that_are_in_time_change_nothing():
    fleet = joined(models=(ON_DISK,))
    for number in range(4):
        load(fleet, number, 100.0 * number, took_s=6.0)
    assert ready_in_s(fleet, 500.0) == 6.0


def test_a_claim_holds_the_price_of_what_is_evicted_and_is_not_taken_back():
    fleet = joined(models=(ON_DISK,))
    for number in range(4):
        load(fleet, number, 100.0 * number, took_s=2.0)
    assert ready_in_s(fleet, 500.0) == 6.0


def test_a_load_under_way_comes_nearer_though_the_node_says_it_is_all_but_done():
    fleet = joined(models=(ON_DISK,))
    for number in range(8):
        load(fleet, number, 100.0 * number, took_s=20.0)
    fleet.step(Dispatched(a_request(50), "a", an_estimate()), 1000.0)
    before_s = ready_in_s(fleet, 1000.0)
    assert before_s == pytest.approx(20.0, rel=0.15)
    loading = replace(ON_DISK, state=ModelState.LOADING, ready_in_s=0.1)
    for seq, now_s in ((60, 1006.0), (61, 1010.0)):
        fleet.step(PulseReceived(a_pulse(seq=seq, models=(loading,))), now_s)
        assert ready_in_s(fleet, now_s) == pytest.approx(before_s - (now_s - 1000.0))
    fleet.step(PulseReceived(a_pulse(seq=62, models=(READY,))), 1011.0)
    assert ready_in_s(fleet, 1011.0) == 0.0


def test_a_request_that_found_the_model_loading_already_teaches_no_load():
    loading = replace(ON_DISK, state=ModelState.LOADING)
    fleet = joined(models=(loading,))
    request, timings = a_request(), Timings(load_ms=30e3, prefill_ms=50.0, prompt_tokens=100)
    fleet.step(Dispatched(request, "a", an_estimate()), 0.0)
    fleet.step(an_outcome(request, timings=timings), 30.0)
    fleet.step(PulseReceived(a_pulse(seq=2, models=(ON_DISK,))), 31.0)
    assert ready_in_s(fleet, 31.0) == 6.0


@given(
    st.lists(st.tuples(st.floats(0, 1e8), st.floats(0, 1e8)), max_size=30),
    st.sampled_from(ModelState),
    st.floats(0, 1e5),
)
def test_no_load_is_expected_to_be_ready_before_the_node_says(loads, state, claimed_s):
    lore, pulse = Loads(), ModelPulse(MODEL, state, claimed_s)
    for claimed_ms, took_ms in loads:
        lore.learn(claimed_ms, took_ms)
    assert pulse.ready_in_s <= lore.ready_in_s(pulse, 7.0) < 1e9
