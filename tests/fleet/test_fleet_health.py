"""Who is put aside, for how long, and who is not to blame."""

from dataclasses import replace

import pytest
from fleet_nouns import READY, a_dispatch, a_pulse, a_request, an_outcome, joined, seen

from isochrone.fleet import Fleet, FleetSettings, NodeEjected, PulseReceived
from isochrone.model import ModelState, OutcomeKind, PromptBlocks, Timings

SETTINGS = FleetSettings(failures_to_eject=2, eject_s=1.0, eject_s_max=5.0, silent_s=1e6)
BLAMED = (OutcomeKind.FAILED, OutcomeKind.SILENT)
NOT_BLAMED = (OutcomeKind.REFUSED, OutcomeKind.TIMED_OUT, OutcomeKind.CANCELLED)


def attempt(fleet: Fleet, now_s: float, kind: OutcomeKind = OutcomeKind.FAILED, **more):
    request = a_request()
    fleet.step(a_dispatch(request), now_s)
    return fleet.step(an_outcome(request, kind=kind, **more), now_s)


@pytest.mark.parametrize("kind", BLAMED)
def test_failures_in_a_row_put_a_node_aside_for_a_time(kind):
    fleet = joined(settings=SETTINGS)
    assert attempt(fleet, 1.0, kind, detail="reset by peer") == ()
    assert seen(fleet, 1.0).unavailable is None
    assert attempt(fleet, 2.0, kind, detail="reset by peer") == (NodeEjected("a", 1.0, "reset by peer"),)
    assert seen(fleet, 2.4).unavailable == "put aside for 0.6 s more: reset by peer"
    assert seen(fleet, 3.0).unavailable is None


def test_a_failure_without_words_is_told_by_its_kind():
    fleet = joined(settings=replace(SETTINGS, failures_to_eject=1))
    assert attempt(fleet, 1.0) == (NodeEjected("a", 1.0, "failed"),)


def test_each_further_failure_doubles_the_time_up_to_a_bound():
    fleet, now_s, told = joined(settings=SETTINGS), 1.0, []
    attempt(fleet, now_s)
    for _ in range(5):
        (ejected,) = attempt(fleet, now_s)
        told.append(ejected.eject_s)
        assert seen(fleet, now_s + 0.99 * ejected.eject_s).unavailable
        now_s += ejected.eject_s
        assert seen(fleet, now_s).unavailable is None
    assert told == [1.0, 2.0, 4.0, 5.0, 5.0]


@pytest.mark.parametrize("kind", BLAMED)
def test_failures_while_put_aside_do_not_prolong_it(kind):
    """They are of requests sent before: the node has paid for that outage already."""
    fleet = joined(settings=SETTINGS)
    for number in range(8):
        fleet.step(a_dispatch(a_request(number)), 1.0)
    told = [
        fleet.step(an_outcome(a_request(number), kind=kind, detail=f"no. {number}"), 2.0 + number / 10)
        for number in range(8)
    ]
    assert told == [(), (NodeEjected("a", 1.0, "no. 1"),), *[()] * 6]
    assert fleet.in_flight == 0
    assert seen(fleet, 3.0).unavailable == "put aside for 0.1 s more: no. 1"
    assert seen(fleet, 3.1).unavailable is None


def test_nor_do_they_count_towards_the_next_time():
    fleet = joined(settings=SETTINGS)
    for now_s in (1.0, 1.0, 1.5, 1.75):
        attempt(fleet, now_s)
    assert attempt(fleet, 2.0) == (NodeEjected("a", 2.0, "failed"),)
    assert attempt(fleet, 3.9) == ()
    assert attempt(fleet, 4.0) == (NodeEjected("a", 4.0, "failed"),)


def test_many_failures_do_not_overflow():
    fleet = joined(settings=SETTINGS)
    for at in range(2000):
        attempt(fleet, float(at * 10))
    assert attempt(fleet, 1e6) == (NodeEjected("a", 5.0, "failed"),)


def test_success_resets_count_and_doubling():
    fleet = joined(settings=SETTINGS)
    for now_s in (1.0, 2.0, 3.0):
        attempt(fleet, now_s)
    attempt(fleet, 10.0, OutcomeKind.ANSWERED)
    assert attempt(fleet, 11.0) == ()
    assert attempt(fleet, 12.0) == (NodeEjected("a", 1.0, "failed"),)


@pytest.mark.parametrize("kind", NOT_BLAMED)
def test_refusals_deadlines_and_clients_that_leave_are_not_the_nodes_fault(kind):
    fleet = joined(settings=SETTINGS)
    for at in range(20):
        assert attempt(fleet, float(at), kind) == ()
    assert seen(fleet, 20.0).unavailable is None


@pytest.mark.parametrize("kind", NOT_BLAMED)
def test_nor_do_they_clear_it(kind):
    fleet = joined(settings=SETTINGS)
    attempt(fleet, 1.0)
    attempt(fleet, 1.5, kind)
    assert attempt(fleet, 2.0) == (NodeEjected("a", 1.0, "failed"),)


def test_a_new_process_has_a_clean_slate_and_an_empty_cache():
    fleet = joined(settings=SETTINGS)
    blocks = PromptBlocks((1, 2, 3))
    request = a_request(blocks=blocks)
    fleet.step(a_dispatch(request), 0.5)
    timings = Timings(prefill_ms=100, prompt_tokens=100, output_tokens=2, decode_ms=10)
    fleet.step(an_outcome(request, timings=timings), 0.6)
    assert blocks.prefix_bytes(seen(fleet, 0.7).models["tiny"].cached_prefix) > 0
    for now_s in (1.0, 2.0, 3.0):
        attempt(fleet, now_s)
    fleet.step(PulseReceived(a_pulse(seq=2)), 3.0)
    assert seen(fleet, 3.1).unavailable
    fleet.step(PulseReceived(a_pulse(epoch=2, seq=1)), 3.2)
    assert seen(fleet, 3.3).unavailable is None
    assert not seen(fleet, 3.3).models["tiny"].cached_prefix
    assert attempt(fleet, 3.4) == ()
    assert attempt(fleet, 3.5) == (NodeEjected("a", 1.0, "failed"),)


def test_a_model_that_left_memory_took_its_cache_along():
    fleet = joined()
    request = a_request(blocks=PromptBlocks((1, 2, 3)))
    fleet.step(a_dispatch(request), 0.5)
    fleet.step(an_outcome(request, timings=Timings(prefill_ms=9, prompt_tokens=100, output_tokens=2)), 0.6)
    assert seen(fleet, 0.7).models["tiny"].cached_prefix
    fleet.step(PulseReceived(a_pulse(seq=2, models=(replace(READY, state=ModelState.ON_DISK),))), 1.0)
    assert not seen(fleet, 1.0).models["tiny"].cached_prefix
