"""The wait for a slot against a queue that is really served, first come, first served."""

from dataclasses import replace
from heapq import heapify, heapreplace

import pytest
from fleet_nouns import a_dispatch, a_request, joined, seen
from hypothesis import given
from hypothesis import strategies as st

from isochrone.fleet import LoadReported
from isochrone.fleet.wait import SinceReport, Unseen, wait_s
from isochrone.model import Load

SLACK_S = 1e-9

Work = list[tuple[float, float]]
"""(arrival, service) in order of arrival."""

eighths = st.integers(0, 160).map(lambda count: count / 8)
"""Times whose sums and differences are exact in floating point: what is exact can be told by `==`."""

jobs = st.lists(eighths.filter(bool), max_size=6)
arrivals = st.lists(st.tuples(st.integers(-16, 200).map(lambda count: count / 8), eighths), max_size=6).map(
    sorted
)
"""Also from before the report (it may have crossed them) and from after the instant asked about."""


def clipped(work: Work, now_s: float) -> Work:
    return [(min(max(at_s, 0.0), now_s), service_s) for at_s, service_s in work]


def at_report(services_s: list[float]) -> Work:
    return [(0.0, service_s) for service_s in services_s]


def served_wait_s(work: Work, slots: int, now_s: float) -> float:
    """Serve each in order on the slot that is free first; what the next one would wait at `now_s`."""
    free_at_s = [0.0] * slots
    heapify(free_at_s)
    for arrived_s, service_s in work:
        heapreplace(free_at_s, max(arrived_s, free_at_s[0]) + service_s)
    return max(0.0, free_at_s[0] - now_s)


def reported(services_s: list[float], slots: int) -> Load:
    """What a node of `slots` says at time 0 of jobs of which the first ones run and the others queue."""
    running = min(slots, len(services_s))
    wait = served_wait_s(at_report(services_s), slots, 0.0)
    return Load(slots, running, len(services_s) - running, wait, sum(services_s))


def since(age_s: float, work: Work, others_flow: float = 0.0) -> SinceReport:
    return SinceReport(age_s, tuple(Unseen(*arrival) for arrival in work), others_flow)


# -- one slot: exact ---------------------------------------------------------------------------------


@given(jobs, arrivals, eighths)
def test_exact_for_one_slot(before, after, now_s):
    truth_s = served_wait_s(at_report(before) + clipped(after, now_s), 1, now_s)
    assert wait_s(reported(before, 1), since(now_s, after)) == truth_s


@given(jobs, st.lists(st.tuples(eighths, eighths), max_size=5).map(sorted), eighths)
def test_one_slot_and_one_gateway_are_exact_from_the_dispatches_alone(before, after, age_s):
    """The same through the beliefs: the ledger must work out itself what the report did not know."""
    begin_s, instant_s = 128.0, 1 / 1024
    fleet = joined(now_s=begin_s - 1, rtt_ms=0.0)
    fleet.step(LoadReported("a", reported(before, 1)), begin_s)
    after = [(at_s + instant_s, service_s) for at_s, service_s in after if at_s <= age_s]
    for number, (at_s, service_s) in enumerate(after):
        fleet.step(a_dispatch(a_request(number), service_s=service_s), begin_s + at_s)
    now_s = age_s + 2 * instant_s
    truth_s = served_wait_s(at_report(before) + after, 1, now_s)
    assert seen(fleet, begin_s + now_s).wait_s == truth_s


def test_two_requests_sent_at_once_to_one_slot_are_not_worked_on_both_at_once():
    fleet = joined(rtt_ms=0.0)
    for number in (1, 2):
        fleet.step(a_dispatch(a_request(number), service_s=10.0), 1.0)
    assert seen(fleet, 6.0).wait_s == pytest.approx(15.0)


def test_what_waits_behind_others_is_not_worked_on_yet():
    fleet = joined(rtt_ms=0.0, load=Load(1, running=1, wait_s=10.0, backlog_s=10.0))
    fleet.step(a_dispatch(a_request(), service_s=2.0), 1.0)
    assert seen(fleet, 5.0).wait_s == pytest.approx(7.0)


def test_a_slot_that_stood_idle_before_an_arrival_gave_nothing_to_it():
    load = Load(1, running=1, wait_s=1.0, backlog_s=1.0)
    assert wait_s(load, since(5.0, [(4.0, 3.0)])) == 2.0
    assert wait_s(load, since(5.0, [(0.0, 3.0)])) == 0.0


# -- several slots: exact in whole rows, bounded otherwise -------------------------------------------


@given(st.integers(2, 6), st.integers(0, 3), st.integers(0, 3), st.integers(0, 160), st.data())
def test_exact_for_several_slots_when_work_comes_in_whole_rows(slots, rows_before, rows_after, eighth, data):
    before, now_s = [2.0] * slots * rows_before, eighth / 8
    at_s = data.draw(st.integers(0, eighth)) / 8
    after = [(at_s, 2.0)] * slots * rows_after
    truth_s = served_wait_s(at_report(before) + after, slots, now_s)
    got_s = wait_s(reported(before, slots), since(now_s, after))
    assert got_s == pytest.approx(truth_s, abs=SLACK_S)


@given(st.integers(2, 6), st.lists(eighths, max_size=12), arrivals, eighths)
def test_bounds_for_several_slots(slots, before, after, now_s):
    """Nothing while a slot is free. Else, like the truth, not less than the report drained; not more than
    the reported wait and our work spread over all slots (or all work so, when a slot was free)."""
    load = reported(before, slots)
    got_s = wait_s(load, since(now_s, after))
    truth_s = served_wait_s(at_report(before) + clipped(after, now_s), slots, now_s)
    ours_s, free = sum(service_s for _, service_s in after), slots - load.running - load.queued
    if len(after) < free:
        assert got_s == truth_s == 0.0
    elif free > 0:
        most_s = (sum(before) + ours_s) / slots + SLACK_S
        assert 0.0 <= got_s <= most_s
        assert truth_s <= most_s
    else:
        drained_s = max(0.0, load.wait_s - now_s)
        assert drained_s - SLACK_S <= got_s <= load.wait_s + ours_s / slots + SLACK_S
        assert drained_s <= truth_s <= served_wait_s([(0.0, load.wait_s), *clipped(after, now_s)], 1, now_s)


@given(st.integers(2, 6), jobs, st.lists(eighths, min_size=1, max_size=12))
def test_just_filled_up_it_never_says_less_than_the_truth(slots, before, after):
    before = before[: slots - 1]
    now = at_report(after)
    truth_s = served_wait_s(at_report(before) + now, slots, 0.0)
    assert wait_s(reported(before, slots), since(0.0, now)) >= truth_s - SLACK_S


def test_a_busy_slot_beside_a_free_one_is_no_wait():
    load = Load(2, running=1, wait_s=0.0, backlog_s=30.0)
    assert wait_s(load, SinceReport()) == 0.0
    assert wait_s(load, since(0.0, [(0.0, 10.0)])) == 20.0
    assert wait_s(load, since(4.0, [(4.0, 10.0)])) == 18.0
    assert wait_s(load, since(6.0, [(4.0, 10.0)])) == 16.0


# -- any number of slots -----------------------------------------------------------------------------

loads = st.builds(
    Load,
    st.integers(1, 8),
    st.integers(0, 8),
    st.integers(0, 50),
    eighths,
    st.floats(0.0, 1e4),
    st.floats(0.0, 50.0),
)
flows = st.floats(0.0, 50.0)


@given(loads, eighths, arrivals, flows, st.tuples(eighths, eighths))
def test_never_negative_and_never_less_for_more_work(load, age_s, after, flow, more):
    before = since(age_s, after, flow)
    got_s = wait_s(load, before)
    assert got_s >= 0
    last_s = max((at_s for at_s, _ in after), default=0.0)
    assert wait_s(load, since(age_s, [*after, (last_s + more[0], more[1])], flow)) >= got_s - SLACK_S
    assert wait_s(load, replace(before, others_flow=flow + more[0])) >= got_s - SLACK_S
    assert wait_s(load, replace(before, age_s=age_s + more[0])) <= got_s + SLACK_S


@pytest.mark.parametrize(("flow", "wait"), [(0.0, 6.0), (1.0, 8.0), (2.0, 10.0), (5.0, 10.0)])
def test_inflow_of_others_slows_draining(flow, wait):
    load = Load(2, running=2, queued=3, wait_s=10.0, backlog_s=20.0)
    assert wait_s(load, since(4.0, [], flow)) == pytest.approx(wait)
    assert wait_s(load, since(4.0, [(2.0, 3.0)], flow)) == pytest.approx(wait + 1.5)
