"""The desk: who is let in, who is next, and how long the queue really is."""

from heapq import heapify, heapreplace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.fleet.learn import Flow
from isochrone.nodes.inference.desk import Desk, Job
from isochrone.wire.nodes import SECONDS_MAX


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


def test_what_remains_of_an_answer():
    job = a_job("a")
    assert job.service_s == pytest.approx(2.0)
    assert job.decode_left_s(99.0) == pytest.approx(1.0)
    job.first_token_at_s = 14.0
    assert job.decode_left_s(14.0) == pytest.approx(1.0)
    assert job.decode_left_s(14.5) == pytest.approx(0.5)
    job.tokens_out = 7
    assert job.decode_left_s(14.5) == pytest.approx(0.3)


def test_an_answer_longer_than_expected_goes_on_a_while_but_not_past_its_limit():
    job = a_job("a", started_at_s=0.0, first_token_at_s=1.0, tokens_out=500)
    assert job.decode_left_s(1.0) == pytest.approx(0.25)
    job.output_tokens_max = 501
    assert job.decode_left_s(1.0) == pytest.approx(0.1)
    job.output_tokens_max = 100
    assert job.decode_left_s(1.0) == 0.0


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
    assert 0 <= job.decode_left_s(6.0 + later_s) <= job.decode_left_s(6.0)


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
        desk.admit(a_job(str(at), prefill_s=0.0, output_tokens=10 * service_s), 0.0)
    start_all(desk, 0.0)
    load = desk.load(0.0)
    assert load.prefill_s == 0.0
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


# -- prompts, one after the other --------------------------------------------------------------------


def prompting(slots: int, *prefills_s: float, now_s: float = 0.0, streams: bool = True) -> Desk:
    """A desk where so many prompts were begun at once; their answers are of one second."""
    desk = a_desk(slots, 100)
    for at, prefill_s in enumerate(prefills_s):
        desk.admit(a_job(str(at), prefill_s=prefill_s, streams=streams), now_s)
    start_all(desk, now_s)
    return desk


def test_twenty_long_prompts_on_sixty_four_slots_are_told():
    """Slots are free, and yet a new prompt waits for all twenty of 8192 tokens at 0.25 ms."""
    prefill_s = 8192 * 0.25e-3
    desk = prompting(64, *[prefill_s] * 20)
    load = desk.load(0.0)
    assert (load.running, load.queued, load.wait_s) == (20, 0, 0.0)
    assert load.prefill_s == pytest.approx(20 * prefill_s)
    for done in range(1, 6):
        desk.first_token(desk.running[str(done - 1)], done * prefill_s)
        assert desk.load(done * prefill_s).prefill_s == pytest.approx((20 - done) * prefill_s)


def test_prompts_that_wait_for_a_slot_are_ahead_as_well():
    load = prompting(1, 2.0, 3.0, 4.0).load(0.0)
    assert (load.running, load.queued) == (1, 2)
    assert load.prefill_s == pytest.approx(9.0)


@given(st.integers(1, 8), st.lists(seconds, max_size=8), seconds)
def test_prompts_ahead_are_a_line_of_one_and_drain_with_time(slots, prefills_s, later_s):
    desk = prompting(slots, *prefills_s, streams=False)
    begun_s = sum(prefills_s[:slots])
    assert desk.load(0.0).prefill_s == pytest.approx(sum(prefills_s))
    left_s = max(0.0, begun_s - later_s) + sum(prefills_s[slots:])
    assert desk.load(later_s).prefill_s == pytest.approx(left_s)


def test_each_prompt_begins_when_the_one_before_it_is_done():
    """All three answers of a second on three slots: the last slot is free when its own prompt is done too."""
    load = prompting(3, 1.0, 2.0, 3.0).load(0.0)
    assert load.backlog_s == pytest.approx((1.0 + 1.0) + (3.0 + 1.0) + (6.0 + 1.0))
    assert load.wait_s == pytest.approx(2.0)


def test_a_first_token_ends_the_prompts_before_it():
    desk = prompting(3, 1.0, 2.0, 3.0)
    desk.first_token(desk.running["0"], 1.5)
    assert desk.load(1.5).prefill_s == pytest.approx(5.0)
    desk.first_token(desk.running["1"], 3.0)
    assert desk.load(4.0).prefill_s == pytest.approx(2.0)
    desk.first_token(desk.running["2"], 5.0)
    assert desk.load(5.0).prefill_s == 0.0


def test_a_prompt_is_charged_from_the_end_of_the_one_before_it():
    desk = prompting(3, 1.0, 1.0, 1.0)
    for name, at_s in (("0", 1.5), ("1", 2.25), ("2", 4.0)):
        desk.first_token(desk.running[name], at_s)
    told = [(desk.running[name].prompt_from_s, desk.running[name].first_token_at_s) for name in "012"]
    assert told == [(0.0, 1.5), (1.5, 2.25), (2.25, 4.0)]


def test_a_prompt_after_a_pause_is_charged_from_its_own_start():
    desk = prompting(2, 1.0)
    desk.first_token(desk.running["0"], 1.0)
    desk.admit(a_job("late"), 7.0)
    start_all(desk, 7.0)
    desk.first_token(desk.running["late"], 8.0)
    assert desk.running["late"].prompt_from_s == 7.0


@given(st.lists(st.tuples(seconds, seconds), min_size=1, max_size=10))
def test_what_prompts_are_charged_with_never_overlaps(lives):
    """In whatever order first tokens come: no moment is charged twice, and none before its start."""
    desk = a_desk(slots=len(lives))
    for at, (start_s, _) in sorted(enumerate(lives), key=lambda each: each[1][0]):
        desk.admit(a_job(str(at)), start_s)
        start_all(desk, start_s)
    ends = sorted((start_s + prefill_s, str(at)) for at, (start_s, prefill_s) in enumerate(lives))
    for at_s, name in ends:
        desk.first_token(desk.running[name], at_s)
    until_s = 0.0
    for at_s, name in ends:
        job = desk.running[name]
        assert max(job.started_at_s, until_s) == pytest.approx(job.prompt_from_s)
        assert job.prompt_from_s <= job.first_token_at_s == at_s
        until_s = at_s


def test_a_prompt_longer_than_expected_goes_on_a_while():
    """Its first token would have been seen; so it is still being computed, and others wait for it."""
    desk = prompting(4, 4.0)
    assert [desk.load(now_s).prefill_s for now_s in (0.0, 3.0, 4.0, 60.0)] == [4.0, 1.0, 1.0, 1.0]
    desk.first_token(desk.running["0"], 61.0)
    assert desk.load(61.0).prefill_s == 0.0


def test_the_prompt_of_a_whole_answer_is_taken_to_be_done_when_it_should_be():
    """Nothing is seen of it before its end: it may long be at its answer."""
    desk = prompting(4, 4.0, streams=False)
    assert [desk.load(now_s).prefill_s for now_s in (0.0, 3.0, 4.0, 60.0)] == [4.0, 1.0, 0.0, 0.0]
    assert desk.load(3.0).backlog_s == pytest.approx(1.0 + 1.0)


def test_who_leaves_takes_his_prompt_along():
    desk = prompting(2, 4.0, 4.0, 4.0)
    desk.leave("2", 1.0)
    desk.leave("1", 1.0)
    assert desk.load(1.0).prefill_s == pytest.approx(3.0)
    desk.leave("0", 1.0)
    assert desk.load(1.0).prefill_s == 0.0


def test_what_is_told_stays_within_the_bounds_of_the_wire():
    assert prompting(2, *[SECONDS_MAX] * 4).load(0.0).prefill_s == SECONDS_MAX


def test_there_is_room_when_a_new_prompt_would_begin_at_once():
    desk = prompting(2, 1.0)
    assert not desk.has_room(0.5)
    desk.first_token(desk.running["0"], 1.0)
    assert desk.has_room(1.0)
    desk.foreign_jobs = 1
    assert not desk.has_room(1.0)
    desk.foreign_jobs = 0
    desk.admit(a_job("waits", model="cold"), 1.0)
    assert not desk.has_room(1.0)
