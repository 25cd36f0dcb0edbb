"""The desk: who is let in, who is next, and how long the queue really is."""

from heapq import heapify, heapreplace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.fleet.learn import Flow
from isochrone.nodes.inference.desk import Desk, Job


def a_desk(slots: int = 2, queue_max: int = 3) -> Desk:
    return Desk(slots, queue_max, Flow(10.0))


def a_job(name: str, model: str = "m", prefill_s: float = 1.0, output_tokens: float = 10, **more) -> Job:
    return Job(name, model, prefill_s, 0.1, output_tokens, **more)


def enter(desk: Desk, *names: str, now_s: float = 0.0) -> list[bool]:
    return [desk.admit(a_job(name), now_s) for name in names]


def start_all(desk: Desk, now_s: float, ready: tuple[str, ...] = ("m",)) -> list[str]:
    """Give slots as long as there are any; returns to whom, in order."""
    started = []
    while (job := desk.next_to_start(ready)) is not None:
        desk.start(job.id, now_s)
        started.append(job.id)
    return started


def test_slots_and_queue_bound_who_is_let_in():
    desk = a_desk(slots=2, queue_max=3)
    assert enter(desk, *"abcdef") == [True] * 5 + [False]
    assert start_all(desk, 0.0) == ["a", "b"]
    assert enter(desk, "g") == [False]
    desk.leave("a", 1.0)
    assert enter(desk, "g", "h") == [True, False]


def test_without_a_queue_only_slots_are_given():
    assert enter(a_desk(slots=1, queue_max=0), "a", "b") == [True, False]


def test_first_come_first_served():
    desk = a_desk(slots=1)
    enter(desk, *"abc")
    served = []
    while started := start_all(desk, 1.0):
        served += started
        desk.leave(started[0], 1.0)
    assert served == ["a", "b", "c"]


def test_a_model_that_is_not_ready_blocks_nobody_and_keeps_its_place():
    desk = a_desk(slots=1)
    for name, model in (("a", "cold"), ("b", "warm"), ("c", "cold"), ("d", "warm")):
        desk.admit(a_job(name, model), 0.0)
    assert desk.next_to_start(()) is None
    assert start_all(desk, 1.0, ("warm",)) == ["b"]
    assert desk.next_to_start(("warm", "cold")) is None
    desk.leave("b", 2.0)
    assert start_all(desk, 2.0, ("warm", "cold")) == ["a"]
    desk.leave("a", 3.0)
    assert start_all(desk, 3.0, ("warm", "cold")) == ["c"]


def test_leaving_is_the_same_wherever_and_however_often():
    desk = a_desk(slots=1)
    enter(desk, *"ab")
    start_all(desk, 0.0)
    for _ in range(3):
        desk.leave("a", 1.0)
        desk.leave("b", 1.0)
        desk.leave("stranger", 1.0)
    assert not desk.running
    assert not desk.waiting
    assert desk.load(1.0).backlog_s == 0.0


def test_the_times_of_a_job_are_noted():
    desk = a_desk(slots=1)
    enter(desk, "a", now_s=3.0)
    start_all(desk, 5.0)
    job = desk.running["a"]
    assert (job.admitted_at_s, job.started_at_s) == (3.0, 5.0)


@pytest.mark.parametrize(("inside", "next_one"), [(0, 1), (1, 2), (2, 2), (4, 2)])
def test_the_concurrency_that_one_more_will_see(inside, next_one):
    desk = a_desk(slots=2)
    enter(desk, *"abcdef"[:inside])
    start_all(desk, 0.0)
    assert desk.concurrency_next == next_one


def test_what_remains_of_a_job():
    job = a_job("a")
    assert job.service_s == job.remaining_s(99.0) == pytest.approx(2.0)
    job.started_at_s = 10.0
    assert job.remaining_s(10.4) == pytest.approx(1.6)
    assert job.remaining_s(14.0) == pytest.approx(1.0)
    job.first_token_at_s = 14.0
    assert job.remaining_s(14.0) == pytest.approx(1.0)
    assert job.remaining_s(14.5) == pytest.approx(0.5)
    job.tokens_out = 7
    assert job.remaining_s(14.5) == pytest.approx(0.3)


def test_an_answer_longer_than_expected_goes_on_a_while_but_not_past_its_limit():
    job = a_job("a", started_at_s=0.0, first_token_at_s=1.0, tokens_out=500)
    assert job.remaining_s(1.0) == pytest.approx(0.25)
    job.output_tokens_max = 501
    assert job.remaining_s(1.0) == pytest.approx(0.1)
    job.output_tokens_max = 100
    assert job.remaining_s(1.0) == 0.0


seconds = st.floats(0.0, 100.0)


jobs = st.builds(
    Job,
    st.just("a"),
    st.just("m"),
    prefill_s=seconds,
    tpot_s=seconds,
    output_tokens=st.floats(0.0, 500.0),
    output_tokens_max=st.none() | st.integers(1, 500),
    started_at_s=st.none() | st.just(5.0),
    first_token_at_s=st.none() | st.just(6.0),
    tokens_out=st.integers(0, 1000),
)


@given(jobs, seconds)
def test_what_remains_is_never_negative_and_never_grows(job, later_s):
    assert 0 <= job.remaining_s(6.0 + later_s) <= job.remaining_s(6.0)


def brute_force_wait_s(slots: int, services_s: list[float]) -> float:
    free_at_s = [0.0] * slots
    heapify(free_at_s)
    for service_s in services_s:
        heapreplace(free_at_s, free_at_s[0] + service_s)
    return free_at_s[0]


@given(st.integers(1, 5), st.lists(seconds, max_size=15))
def test_the_wait_is_that_of_a_queue_really_served(slots, services_s):
    desk = a_desk(slots, 100)
    for at, service_s in enumerate(services_s):
        desk.admit(a_job(str(at), prefill_s=service_s, output_tokens=0), 0.0)
    start_all(desk, 0.0)
    load = desk.load(0.0)
    assert load.wait_s == pytest.approx(brute_force_wait_s(slots, services_s))
    assert load.backlog_s == pytest.approx(sum(services_s))
    assert load.running == min(slots, len(services_s))
    assert load.running + load.queued == len(services_s)


def test_a_free_slot_is_no_wait():
    desk = a_desk(slots=2)
    enter(desk, "a")
    start_all(desk, 0.0)
    assert desk.load(0.0).wait_s == 0.0


@pytest.mark.parametrize(
    ("foreign", "running", "queued", "wait_s"), [(0, 1, 0, 0.0), (1, 2, 0, 0.75), (3, 2, 2, 2.25)]
)
def test_jobs_that_did_not_come_through_us_take_slots_too(foreign, running, queued, wait_s):
    """Each as long as the mean of 1.5 s; those in work are half done."""
    desk = a_desk(slots=2)
    enter(desk, "a")
    start_all(desk, 0.0)
    desk.foreign_jobs = foreign
    load = desk.load(0.0)
    assert (load.running, load.queued) == (running, queued)
    assert load.wait_s == pytest.approx(wait_s)


def test_foreign_jobs_alone_are_work_too():
    desk = a_desk(slots=2)
    desk.foreign_jobs = 5
    load = desk.load(0.0)
    assert (load.running, load.queued, load.wait_s, load.backlog_s) == (2, 3, 1.5, 4.0)


def test_inflow_is_the_work_let_in():
    desk = a_desk(slots=1, queue_max=0)
    enter(desk, "a", "refused", now_s=5.0)
    assert desk.load(5.0).inflow == pytest.approx(2.0 / 10.0)


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(("admit", "start", "leave", "look")), seconds)))
def test_busy_slot_seconds_are_the_integral_of_busy_slots(happenings):
    desk, now_s, integral = a_desk(slots=3, queue_max=100), 0.0, 0.0
    for name, what, pause_s in happenings:
        integral += len(desk.running) * pause_s
        now_s += pause_s
        if what == "admit" and str(name) not in desk.running:
            desk.admit(a_job(str(name)), now_s)
        elif what == "start":
            start_all(desk, now_s)
        elif what == "leave":
            desk.leave(str(name), now_s)
        assert len(desk.running) <= 3
        assert desk.busy_slot_s(now_s) == pytest.approx(integral)
