"""The wait in closed form, against queues that are really served, first come, first served."""

from heapq import heapify, heapreplace
from math import factorial, isfinite
from random import Random

import numpy as np
import pytest
from fleet_nouns import MODEL, a_dispatch, a_request, an_estimate, an_outcome, joined, seen
from hypothesis import given
from hypothesis import strategies as st

from isochrone.fleet import Dispatched, Fleet, LoadReported
from isochrone.fleet import wait as waits
from isochrone.fleet.wait import Waiting, waits_s
from isochrone.model import Load

SLACK_S = 1e-9
FIELDS = Waiting._fields

eighths = st.integers(0, 160).map(lambda count: count / 8)
"""Times whose sums and differences are exact in floating point: what is exact can be told by `==`."""

jobs = st.lists(eighths.filter(bool), max_size=6)
dispatches = st.lists(eighths, max_size=6)
sendings = st.lists(st.tuples(eighths, eighths), max_size=6)
"""Each a while after the one before, and so long on a slot."""

INSTANT_S = 1 / 1024
"""So much later than the report at least: what was sent with it, it may know of."""


def wait_s(node: Waiting[float]) -> float:
    return waits.wait_s(node[:13], *node[13:])


def served_wait_s(services_s: list[float], slots: int, now_s: float) -> float:
    """Serve all that is there at 0, each on the slot free first; what the next one would wait at `now_s`."""
    free_at_s = [0.0] * slots
    heapify(free_at_s)
    for service_s in services_s:
        heapreplace(free_at_s, free_at_s[0] + service_s)
    return max(0.0, free_at_s[0] - now_s)


def reported(services_s: list[float], slots: int) -> Load:
    """What a node of `slots` says at time 0 of jobs of which the first ones run and the others queue."""
    running = min(slots, len(services_s))
    wait = served_wait_s(services_s, slots, 0.0)
    return Load(slots, running, len(services_s) - running, wait, sum(services_s))


def told_s(fleet: Fleet, now_s: float) -> float:
    """The wait as the view of the node tells it, which must be what the columns tell."""
    told = seen(fleet, now_s).wait_s
    assert fleet.view(MODEL, now_s).nodes.columns.wait_s[0] == told
    return told


def waiting(load: Load, age_s: float = 0.0, own_s: list[float] | tuple = (), **more: float) -> Waiting[float]:
    """A node that said `load` `age_s` ago and was sent `own_s` right after it."""
    told = {
        name: float(getattr(load, name)) for name in ("slots", "running", "queued", "backlog_s", "prefill_s")
    }
    told |= {"told_wait_s": load.wait_s, "age_s": age_s}
    told |= {"own_unseen": float(len(own_s)), "own_unseen_s": sum(own_s)}
    return Waiting(**(dict.fromkeys(FIELDS, 0.0) | told | more))


def mean_wait_s(slots: int, rho: float) -> float:
    """Of the stationary M/M/slots queue whose service takes a second: Erlang's C formula."""
    work = slots * rho
    free = sum(work**busy / factorial(busy) for busy in range(slots))
    full = work**slots / factorial(slots) / (1 - rho)
    return full / (free + full) / slots / (1 - rho)


# -- one slot, one gateway: exact --------------------------------------------------------------------


@given(jobs, dispatches, eighths)
def test_exact_for_one_slot_when_all_was_sent_right_after_the_report(before, own_s, age_s):
    told = waiting(reported(before, 1), age_s, own_s)
    assert wait_s(told) == served_wait_s([*before, *own_s], 1, age_s)


def an_answer(number: int, service_s: float) -> Dispatched:
    """A dispatch whose time on the slot is all answer: the line of prompts has nothing to say of it."""
    return Dispatched(a_request(number), "a", an_estimate(decode_ms=service_s * 1e3))


def line_s(before_s: float, sent: list[tuple[float, float]], now_s: float) -> float:
    """What the next one waits at `now_s` in a line served one by one; `sent`: (at_s, service_s) in order."""
    free_at_s = before_s
    for at_s, service_s in sent:
        free_at_s = max(free_at_s, at_s) + service_s
    return max(0.0, free_at_s - now_s)


@given(jobs, sendings, eighths)
def test_one_slot_and_one_gateway_are_exact_through_the_beliefs(before, sendings, later_s):
    """Whenever each was sent after the report: the ledger must work out itself what was idle between."""
    begin_s, now_s, sent = 128.0, 0.0, []
    fleet = joined(now_s=begin_s - 1, rtt_ms=0.0)
    fleet.step(LoadReported("a", reported(before, 1)), begin_s)
    for gap_s, service_s in sendings:
        now_s += gap_s + INSTANT_S
        assert told_s(fleet, begin_s + now_s) == line_s(sum(before), sent, now_s)
        fleet.step(an_answer(len(sent), service_s), begin_s + now_s)
        sent.append((now_s, service_s))
        assert told_s(fleet, begin_s + now_s) == line_s(sum(before), sent, now_s)
    now_s += later_s
    assert told_s(fleet, begin_s + now_s) == line_s(sum(before), sent, now_s)


@given(eighths, sendings, eighths)
def test_prompts_are_exact_through_the_beliefs_however_many_slots_are_free(before_s, sendings, later_s):
    begin_s, now_s, sent = 128.0, 0.0, []
    fleet = joined(now_s=begin_s - 1, rtt_ms=0.0)
    fleet.step(LoadReported("a", Load(64, prefill_s=before_s)), begin_s)
    for gap_s, prefill_s in sendings:
        now_s += gap_s + INSTANT_S
        estimate = an_estimate(prefill_ms=prefill_s * 1e3, decode_ms=7_000.0)
        fleet.step(Dispatched(a_request(len(sent)), "a", estimate), begin_s + now_s)
        sent.append((now_s, prefill_s))
        assert told_s(fleet, begin_s + now_s) == line_s(before_s, sent, now_s)
    now_s += later_s
    assert told_s(fleet, begin_s + now_s) == line_s(before_s, sent, now_s)


@given(sendings.filter(bool), st.data())
def test_an_end_leaves_one_slot_as_if_that_request_had_never_been_sent(sendings, data):
    begin_s, now_s, sent = 128.0, 0.0, []
    fleet = joined(now_s=begin_s - 1, rtt_ms=0.0)
    fleet.step(LoadReported("a", Load(1)), begin_s)
    for number, (gap_s, service_s) in enumerate(sendings):
        now_s += gap_s + INSTANT_S
        fleet.step(an_answer(number, service_s), begin_s + now_s)
        sent.append((now_s, service_s))
    ended = data.draw(st.integers(0, len(sent) - 1))
    fleet.step(an_outcome(a_request(ended)), begin_s + now_s)
    del sent[ended]
    assert told_s(fleet, begin_s + now_s) == line_s(0.0, sent, now_s)


def test_two_requests_sent_at_once_to_one_slot_are_not_worked_on_both_at_once():
    fleet = joined(rtt_ms=0.0, now_s=1.0)
    for number in (1, 2):
        fleet.step(a_dispatch(a_request(number), service_s=10.0), 1.0 + SLACK_S)
    assert seen(fleet, 6.0).wait_s == pytest.approx(15.0)


# -- several slots: exact in whole rows, within the longest job otherwise ----------------------------


@given(st.integers(2, 6), st.integers(1, 3), st.integers(0, 3), eighths)
def test_exact_for_several_slots_when_work_comes_in_whole_rows(slots, rows_before, rows_own, age_s):
    before, own_s = [2.0] * slots * rows_before, [2.0] * slots * rows_own
    got_s = wait_s(waiting(reported(before, slots), age_s, own_s))
    assert got_s == pytest.approx(served_wait_s(before + own_s, slots, age_s), abs=SLACK_S)


@given(st.integers(2, 6), st.lists(eighths, max_size=12), st.lists(eighths, max_size=12), eighths)
def test_for_several_slots_it_is_off_by_less_than_the_longest_job(slots, before, own_s, age_s):
    """Nothing while a slot is free. Else as if work could be cut, and answers ended one after another."""
    load = reported(before, slots)
    got_s, truth_s = wait_s(waiting(load, age_s, own_s)), served_wait_s([*before, *own_s], slots, age_s)
    free = slots - load.running - load.queued
    if len(own_s) < free:
        assert got_s == truth_s == 0.0
    else:
        assert abs(got_s - truth_s) <= max([*before, *own_s]) + SLACK_S
    assert got_s <= max(0.0, load.wait_s + sum([*before, *own_s]) / slots - age_s) + SLACK_S


def test_a_busy_slot_beside_a_free_one_is_no_wait():
    load = Load(2, running=1, wait_s=0.0, backlog_s=30.0)
    assert wait_s(waiting(load)) == 0.0
    assert wait_s(waiting(load, 0.0, [10.0])) == 10.0
    assert 0.0 < wait_s(waiting(load, 1.0, [10.0] * 2)) < wait_s(waiting(load, 0.0, [10.0] * 2))


# -- prompts ahead -----------------------------------------------------------------------------------


@given(st.integers(2, 64), dispatches, dispatches, eighths)
def test_prompts_wait_for_each_other_however_many_slots_are_free(slots, before, own_s, age_s):
    """One prompt after the other: a line of its own before the slots, exact like that of one slot."""
    told = waiting(Load(10 * slots, prefill_s=sum(before)), age_s, own_s, own_unseen_prefill_s=sum(own_s))
    assert wait_s(told) == served_wait_s([*before, *own_s], 1, age_s)


def test_a_request_waits_for_the_longer_line_of_the_two():
    load = Load(2, running=2, wait_s=3.0, backlog_s=6.0, prefill_s=5.0)
    assert wait_s(waiting(load)) == 5.0
    assert wait_s(waiting(load, 1.0, [8.0], own_unseen_prefill_s=1.0)) == pytest.approx(6.0)
    assert wait_s(waiting(load, 1.0, [8.0], own_unseen_prefill_s=0.0)) == pytest.approx(6.0)
    assert wait_s(waiting(load, 1.0, [8.0], own_unseen_prefill_s=4.0)) == pytest.approx(8.0)


def test_what_others_send_brings_prompts_along():
    load = Load(64, prefill_s=2.0)
    assert wait_s(waiting(load, 4.0, others_s=10.0, prefill_share=0.5, service_s=1.0)) == pytest.approx(3.0)
    assert wait_s(waiting(load, 4.0, others_s=10.0, prefill_share=0.1, service_s=1.0)) == 0.0


# -- others ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("others_s", "wait"), [(0.0, 6.0), (4.0, 8.0), (8.0, 10.0), (20.0, 16.0)])
def test_what_others_send_slows_draining(others_s, wait):
    load = Load(2, running=2, queued=3, wait_s=10.0, backlog_s=20.0)
    assert wait_s(waiting(load, 4.0, others_s=others_s)) == pytest.approx(wait)
    assert wait_s(waiting(load, 4.0, [3.0], others_s=others_s)) == pytest.approx(wait + 1.5)


def test_others_take_the_free_slots_as_well():
    """All four slots are then in work; the first of their answers ends after a quarter of a quarter of it."""
    load = Load(4, running=2, backlog_s=8.0)
    assert wait_s(waiting(load, others_s=1.5, service_s=1.0)) == 0.0
    assert wait_s(waiting(load, others_s=2.0, service_s=1.0)) == pytest.approx(2.5 / 4)
    assert wait_s(waiting(load, 0.0, [1.0], others_s=1.0, service_s=1.0)) == pytest.approx(2.5 / 4)
    assert wait_s(waiting(load, others_s=4.0, service_s=1.0)) == pytest.approx(3.0 * 3 / 6)


def test_answers_that_ended_since_the_report_made_room_again():
    """Two more than the free slots came; of thirty running, each with 10 s left, more than two have ended."""
    load = Load(32, running=30, backlog_s=300.0)
    assert wait_s(waiting(load, 0.0, [5.0] * 4)) > 0.0
    assert wait_s(waiting(load, 1.0, [5.0] * 4)) == 0.0


@pytest.mark.parametrize(("slots", "sent"), [(8, 8), (8, 12), (32, 33), (32, 64)])
def test_many_slots_that_filled_up_are_waited_for_about_as_long_as_served(slots, sent):
    """Answers of exponential length on a node that told all slots free: the mean wait of the next, drawn."""
    luck = Random(1)
    draws = [[luck.expovariate(0.1) for _ in range(sent)] for _ in range(400)]
    served_s = sum(served_wait_s(services_s, slots, 0.0) for services_s in draws) / len(draws)
    assert wait_s(waiting(Load(slots), 0.0, [10.0] * sent)) == pytest.approx(served_s, rel=0.15)


@pytest.mark.parametrize("rho", [0.1, 0.5, 0.8, 0.95])
def test_chance_tends_to_the_mean_wait_of_a_queue_with_one_slot(rho):
    """Exactly that of M/M/1, whatever was told long ago."""
    for load in (Load(1), Load(1, running=1, queued=2, wait_s=5.0, backlog_s=5.0)):
        age_s = 1e4
        old = waiting(load, age_s, others_flow=rho, others_s=rho * age_s, service_s=1.0)
        assert wait_s(old) == pytest.approx(mean_wait_s(1, rho), rel=1e-6)
        assert mean_wait_s(1, rho) == pytest.approx(rho / (1 - rho))


@pytest.mark.parametrize("rho", [0.3, 0.6, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("slots", [2, 4, 16, 64])
def test_chance_tends_to_nearly_the_mean_wait_of_a_queue_with_several_slots(slots, rho):
    age_s, flow = 1e4, slots * rho
    old = waiting(Load(slots), age_s, others_flow=flow, others_s=flow * age_s, service_s=1.0)
    assert wait_s(old) == pytest.approx(mean_wait_s(slots, rho), rel=0.06, abs=0.03)


def test_chance_grows_with_the_age_of_news_and_scales_with_the_service():
    ages_s = [0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0]
    facts = {"others_flow": 0.8, "service_s": 1.0}
    waits = [wait_s(waiting(Load(1), age_s, others_s=0.8 * age_s, **facts)) for age_s in ages_s]
    assert waits[0] == 0.0
    assert waits == sorted(waits)
    assert all(wait < 4.0 + SLACK_S for wait in waits)
    long_ones = {"others_flow": 0.8, "service_s": 7.0}
    assert [
        wait_s(waiting(Load(1), 7 * age_s, others_s=5.6 * age_s, **long_ones)) for age_s in ages_s
    ] == pytest.approx([7 * wait for wait in waits])


def test_an_overload_of_others_does_not_make_the_wait_endless():
    for flow in (1.0, 5.0, 1e6):
        assert wait_s(waiting(Load(1), 1e3, others_flow=flow, service_s=1.0)) == pytest.approx(0.97 / 0.03)


# -- any node ----------------------------------------------------------------------------------------

seconds = st.one_of(st.just(0.0), st.floats(1e-6, 1e4))
counts = st.integers(0, 12).map(float)
nodes = st.builds(
    Waiting,
    slots=st.integers(1, 64).map(float),
    running=counts,
    queued=counts,
    told_wait_s=seconds,
    backlog_s=seconds,
    prefill_s=seconds,
    age_s=seconds,
    own_unseen=counts,
    own_unseen_s=seconds,
    own_unseen_prefill_s=seconds,
    own_idle_s=seconds,
    own_prompt_idle_s=seconds,
    others_flow=st.one_of(st.just(0.0), st.floats(0.0, 80.0)),
    others_s=seconds,
    service_s=seconds,
    prefill_share=st.floats(0.0, 1.0),
)


@given(nodes)
def test_the_wait_is_a_number_and_never_negative(node):
    assert isfinite(wait_s(node))
    assert wait_s(node) >= 0.0


@given(st.lists(nodes, min_size=1, max_size=5))
def test_one_node_and_arrays_say_the_same(several):
    """Also that no column is written to."""
    columns = Waiting(**{name: np.array([getattr(node, name) for node in several]) for name in FIELDS})
    before = {name: getattr(columns, name).copy() for name in FIELDS}
    got_s = waits_s(columns)
    assert got_s.shape == (len(several),)
    assert list(got_s) == pytest.approx([wait_s(node) for node in several], rel=1e-9, abs=1e-9)
    assert all((getattr(columns, name) == values).all() for name, values in before.items())


WORK = (
    "told_wait_s",
    "backlog_s",
    "prefill_s",
    "own_unseen",
    "own_unseen_s",
    "own_unseen_prefill_s",
    "own_idle_s",
    "own_prompt_idle_s",
    "others_s",
)


@given(nodes, st.sampled_from(WORK), st.integers(1, 100))
def test_more_work_is_never_less_wait(node, name, more):
    """Without chance, that is: chance is of what came after the work told, and later with more of that."""
    for sure in (node._replace(service_s=0.0), node._replace(others_flow=0.0)):
        assert wait_s(sure._replace(**{name: getattr(sure, name) + more})) >= wait_s(sure) - SLACK_S
    loaded = node._replace(**{name: getattr(node, name) + more})
    assert wait_s(loaded) >= wait_s(node._replace(others_flow=0.0)) - SLACK_S


@given(nodes, st.floats(0.0, 10.0))
def test_more_flow_of_others_or_longer_prompts_ahead_are_never_less_wait(node, more):
    assert wait_s(node._replace(others_flow=node.others_flow + more)) >= wait_s(node) - SLACK_S
    assert wait_s(node._replace(prefill_s=node.prefill_s + more)) >= wait_s(node) - SLACK_S
    share = min(1.0, node.prefill_share + more / 10)
    assert wait_s(node._replace(prefill_share=share)) >= wait_s(node) - SLACK_S


@given(nodes, st.floats(0.0, 100.0))
def test_time_only_drains_what_is_sure(node, later_s):
    """By no more than passes, too, unless an answer ends beside a free slot: then there are two."""
    for sure in (node._replace(service_s=0.0), node._replace(others_flow=0.0)):
        later = sure._replace(age_s=sure.age_s + later_s)
        assert wait_s(later) <= wait_s(sure) + SLACK_S
        if sure.free <= 0.0 or not sure.running:
            assert wait_s(later) >= wait_s(sure) - later_s - SLACK_S


@given(nodes)
def test_chance_adds_no_more_than_the_mean_wait_at_the_load_of_others(node):
    sure_s, rho = wait_s(node._replace(others_flow=0.0)), min(0.97, node.others_flow / node.slots)
    exponent = (2 * (node.slots + 1)) ** 0.5 - 1
    most_s = node.service_s / node.slots * rho**exponent / (1 - rho)
    assert sure_s - SLACK_S <= wait_s(node) <= max(sure_s, most_s) + SLACK_S
