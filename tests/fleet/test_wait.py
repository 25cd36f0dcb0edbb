"""The wait for a slot against a queue that is really served, first come, first served."""

from heapq import heapify, heapreplace

import pytest
from fleet_nouns import a_dispatch, a_request, joined, seen
from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone.fleet import LoadReported
from isochrone.fleet.wait import SinceReport, wait_s
from isochrone.model import Load

seconds = st.floats(0.0, 20.0).map(lambda s: round(s, 3))
jobs = st.lists(seconds.filter(lambda s: s > 0.01), max_size=6)


def served(work: list[tuple[float, float]], slots: int, now_s: float) -> tuple[float, list[float]]:
    """Serve (arrival, service) in order; returns the wait at `now_s`, and what is then left of each."""
    free_at_s, ends = [0.0] * slots, []
    heapify(free_at_s)
    for arrival_s, service_s in work:
        starts_s = max(arrival_s, free_at_s[0])
        heapreplace(free_at_s, starts_s + service_s)
        ends.append((starts_s, service_s))
    left = [min(service_s, max(0.0, starts_s + service_s - now_s)) for starts_s, service_s in ends]
    return max(0.0, free_at_s[0] - now_s), left


def reported(work: list[float], slots: int) -> Load:
    """What a node of `slots` says at time 0 of jobs that it has just taken in."""
    running = min(slots, len(work))
    wait, _ = served([(0.0, service) for service in work], slots, 0.0)
    return Load(slots, running, len(work) - running, wait, sum(work))


@given(jobs, st.lists(st.tuples(seconds, seconds), max_size=5), seconds)
@settings(deadline=None)
def test_exact_for_one_slot(before, after, now_s):
    after = sorted((min(at, now_s), service) for at, service in after)
    work = [(0.0, service) for service in before] + after
    truth_s, left = served(work, 1, now_s)
    since = SinceReport(now_s, len(after), sum(left[len(before) :]))
    assert wait_s(reported(before, 1), since) == pytest.approx(truth_s, abs=1e-6)


@given(jobs, st.lists(st.tuples(seconds, seconds), max_size=5), seconds)
@settings(deadline=None)
def test_one_slot_and_one_gateway_are_exact_from_the_dispatches_alone(before, after, age_s):
    """The same through the beliefs: the ledger must work out itself what is left of each dispatch."""
    begin_s, hop_s = 100.0, 1e-6
    fleet = joined(now_s=begin_s - 1, rtt_ms=0.0)
    fleet.step(LoadReported("a", reported(before, 1)), begin_s)
    after = sorted((min(at, age_s) + hop_s, service) for at, service in after)
    for number, (at_s, service_s) in enumerate(after):
        fleet.step(a_dispatch(a_request(number), service_s=service_s), begin_s + at_s)
    now_s = age_s + 2 * hop_s
    truth_s, _ = served([(0.0, service) for service in before] + after, 1, now_s)
    assert seen(fleet, begin_s + now_s).wait_s == pytest.approx(truth_s, abs=1e-3)


def test_two_requests_sent_at_once_to_one_slot_are_not_worked_on_both_at_once():
    fleet = joined(rtt_ms=0.0)
    for number in (1, 2):
        fleet.step(a_dispatch(a_request(number), service_s=10.0), 1.0)
    assert seen(fleet, 6.0).wait_s == pytest.approx(15.0)


def test_what_waits_behind_others_is_not_worked_on_yet():
    fleet = joined(rtt_ms=0.0, load=Load(1, running=1, wait_s=10.0, backlog_s=10.0))
    fleet.step(a_dispatch(a_request(), service_s=2.0), 1.0)
    assert seen(fleet, 5.0).wait_s == pytest.approx(7.0)


@given(st.integers(2, 6), st.lists(seconds, max_size=12), jobs)
@settings(deadline=None)
def test_bounds_for_several_slots(slots, before, after):
    """Right when a slot is free; else between the reported wait and all of our work in one row behind it."""
    load = reported(before, slots)
    got_s = wait_s(load, SinceReport(0.0, len(after), sum(after)))
    truth_s, _ = served([(0.0, service) for service in (*before, *after)], slots, 0.0)
    free = slots - load.running - load.queued
    if len(after) < free:
        assert got_s == truth_s == 0.0
    elif free > 0:
        assert truth_s - 1e-9 <= got_s <= sum(before) + sum(after)
    else:
        assert load.wait_s <= got_s <= load.wait_s + sum(after) + 1e-9
        assert abs(got_s - truth_s) <= sum(after) + 1e-9


loads = st.builds(
    Load,
    st.integers(1, 8),
    st.integers(0, 8),
    st.integers(0, 50),
    seconds,
    st.floats(0.0, 1e4),
    st.floats(0.0, 50.0),
)
sinces = st.builds(SinceReport, seconds, st.integers(0, 9), seconds, st.floats(0.0, 50.0))


@given(loads, sinces, seconds)
@settings(deadline=None)
def test_never_negative_and_never_less_for_more_work(load, since, more):
    got_s = wait_s(load, since)
    assert got_s >= 0
    fuller = SinceReport(
        since.age_s, since.unseen_requests + 1, since.unseen_work_s + more, since.others_flow
    )
    assert wait_s(load, fuller) >= got_s
    later = SinceReport(since.age_s + more, since.unseen_requests, since.unseen_work_s, since.others_flow)
    assert wait_s(load, later) <= got_s


@pytest.mark.parametrize(("flow", "wait"), [(0.0, 6.0), (1.0, 8.0), (2.0, 10.0), (5.0, 10.0)])
def test_inflow_of_others_slows_draining(flow, wait):
    load = Load(2, running=2, queued=3, wait_s=10.0, backlog_s=20.0)
    assert wait_s(load, SinceReport(age_s=4.0, others_flow=flow)) == pytest.approx(wait)


def test_a_busy_slot_beside_a_free_one_is_no_wait():
    load = Load(2, running=1, wait_s=0.0, backlog_s=30.0)
    assert wait_s(load, SinceReport()) == 0.0
    assert wait_s(load, SinceReport(unseen_requests=1, unseen_work_s=10.0)) == pytest.approx(20.0)
