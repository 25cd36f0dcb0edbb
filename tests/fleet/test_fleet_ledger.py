"""Our own work on a node counts from the dispatch to the end, whatever the end, and never twice."""

from dataclasses import replace

import pytest
from fleet_nouns import (
    IDLE,
    MODEL,
    READY,
    a_card,
    a_dispatch,
    a_pulse,
    a_request,
    an_estimate,
    an_outcome,
    joined,
    seen,
)
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from isochrone.fleet import Dispatched, FleetSettings, LoadReported, PulseReceived, Tick
from isochrone.fleet.learn import Flow
from isochrone.fleet.ledger import Ledger, Reservation
from isochrone.model import Load, ModelState, OutcomeKind, PromptBlocks, Request, Timings

BUSY = Load(1, running=1, wait_s=2.0, backlog_s=2.0)
ON_DISK = replace(READY, state=ModelState.ON_DISK, ready_in_s=10.0)


def test_the_next_view_waits_for_what_was_just_sent():
    fleet = joined(rtt_ms=10.0, now_s=1.0)
    assert seen(fleet, 1.0).wait_s == 0.0
    fleet.step(a_dispatch(a_request(), service_s=3.0), 1.0)
    assert seen(fleet, 1.0).wait_s == pytest.approx(3.0)
    assert seen(fleet, 1.0).own_in_flight == 1
    assert fleet.in_flight == 1


@pytest.mark.parametrize("kind", OutcomeKind)
def test_every_end_releases(kind):
    fleet = joined(rtt_ms=10.0)
    fleet.step(a_dispatch(a_request(), service_s=3.0), 1.0)
    fleet.step(an_outcome(a_request(), kind=kind), 1.0)
    assert (fleet.in_flight, seen(fleet, 1.0).own_in_flight, seen(fleet, 1.0).wait_s) == (0, 0, 0.0)


def test_what_a_node_never_took_is_no_work_of_ours():
    fleet = joined(rtt_ms=10.0)
    for kind, requests in ((OutcomeKind.BALKED, 0.0), (OutcomeKind.ANSWERED, 1.0)):
        fleet.step(a_dispatch(a_request(), service_s=3.0), 1.0)
        fleet.step(an_outcome(a_request(), kind=kind), 1.0)
        view = fleet.view(MODEL, 1.0)
        memory_s = FleetSettings().flow_memory_s
        assert view.own_requests_per_s * memory_s == pytest.approx(requests)
        assert view.own_work_per_s * memory_s == pytest.approx(3.0 * requests)


def test_a_node_that_balked_is_loading_nothing_for_us_and_tells_how_long_it_would_take():
    fleet = joined(rtt_ms=10.0, models=(ON_DISK,))
    for told_s in (10.0, 300.0):
        fleet.step(a_dispatch(a_request()), 1.0)
        assert seen(fleet, 1.0).models[MODEL].state is ModelState.LOADING
        fleet.step(an_outcome(a_request(), kind=OutcomeKind.BALKED, ready_in_s=told_s), 1.0)
        model = seen(fleet, 5.0).models[MODEL]
        assert (model.state, model.ready_in_s) == (ModelState.ON_DISK, told_s)
    fleet.step(a_dispatch(a_request()), 5.0)
    fleet.step(an_outcome(a_request(), kind=OutcomeKind.BALKED), 5.0)
    assert seen(fleet, 5.0).models[MODEL].ready_in_s == 0.0


def test_a_model_that_was_believed_ready_and_is_not_takes_its_prefixes_along():
    fleet = joined(rtt_ms=10.0)
    request = a_request(blocks=PromptBlocks((1, 2), 64))
    fleet.step(a_dispatch(request), 1.0)
    fleet.step(an_outcome(request, timings=Timings(prefill_ms=50.0, prompt_tokens=100)), 1.0)
    assert seen(fleet, 1.0).models[MODEL].cached_prefix
    fleet.step(a_dispatch(request), 2.0)
    fleet.step(an_outcome(request, kind=OutcomeKind.BALKED, ready_in_s=7.0), 2.0)
    model = seen(fleet, 2.0).models[MODEL]
    assert (model.state, model.ready_in_s) == (ModelState.ON_DISK, 7.0)
    assert not model.cached_prefix


def test_a_node_whose_line_was_too_long_is_neither_put_aside_nor_blamed():
    fleet = joined(rtt_ms=10.0)
    for _ in range(20):
        fleet.step(a_dispatch(a_request()), 1.0)
        assert fleet.step(an_outcome(a_request(), kind=OutcomeKind.BALKED), 1.0) == ()
    assert seen(fleet, 1.0).unavailable is None


def test_ends_that_were_never_begun_or_came_twice_change_nothing():
    fleet = joined("a", "b")
    fleet.step(an_outcome(a_request()), 1.0)
    fleet.step(an_outcome(a_request(), node="stranger", kind=OutcomeKind.FAILED), 1.0)
    fleet.step(a_dispatch(a_request()), 1.0)
    for _ in range(5):
        assert fleet.step(an_outcome(a_request(), kind=OutcomeKind.FAILED), 1.0) == ()
    assert fleet.in_flight == 0
    assert seen(fleet, 1.0).unavailable is None


def test_an_end_told_twice_does_not_lose_the_retry_elsewhere():
    """One request, two attempts: the first one's end must never release the second."""
    fleet = joined("a", "b")
    fleet.step(a_dispatch(a_request(), "a"), 1.0)
    fleet.step(an_outcome(a_request(), "a", OutcomeKind.FAILED), 1.0)
    fleet.step(a_dispatch(a_request(), "b"), 1.0)
    fleet.step(an_outcome(a_request(), "a", OutcomeKind.FAILED), 1.1)
    assert (fleet.in_flight, seen(fleet, 1.1, "b").own_in_flight) == (1, 1)
    fleet.step(an_outcome(a_request(), "b"), 2.0)
    assert (fleet.in_flight, seen(fleet, 2.0, "b").own_in_flight) == (0, 0)


def test_a_dispatch_to_a_stranger_leaves_nothing_open():
    fleet = joined()
    fleet.step(a_dispatch(a_request(), "stranger"), 1.0)
    assert fleet.in_flight == 0
    fleet.step(an_outcome(a_request(), "stranger"), 2.0)


def test_an_end_after_the_node_was_forgotten_is_still_an_end():
    fleet = joined(settings=FleetSettings(forget_s=10.0))
    fleet.step(a_dispatch(a_request()), 1.0)
    fleet.step(Tick(), 20.0)
    assert fleet.belief("a") is None
    fleet.step(an_outcome(a_request(), kind=OutcomeKind.SILENT), 21.0)
    assert fleet.in_flight == 0


@pytest.mark.parametrize(
    ("sent_at_s", "unseen"), [(9.0, False), (9.75, False), (9.8125, True), (10.0, True), (10.5, True)]
)
def test_a_report_does_not_know_what_was_sent_less_than_a_round_trip_before(sent_at_s, unseen):
    ledger, sent = Ledger(Flow(10.0)), Reservation(sent_at_s, 5.0, 1.0)
    ledger.reserve("r", sent)
    assert ledger.unseen(reported_at_s=10.0, rtt_s=0.25) == ((sent,) if unseen else ())


def test_a_report_that_knows_of_our_work_takes_its_place():
    fleet = joined(rtt_ms=10.0)
    fleet.step(a_dispatch(a_request(), service_s=3.0), 1.0)
    fleet.step(LoadReported("a", BUSY), 2.0)
    assert seen(fleet, 2.0).wait_s == pytest.approx(2.0)
    assert seen(fleet, 2.5).wait_s == pytest.approx(1.5)
    assert seen(fleet, 2.0).own_in_flight == 1


def test_unseen_dispatches_are_told_in_order_while_they_are_open():
    ledger = Ledger(Flow(10.0))
    first, second, third = sent = [Reservation(1.0 + at, 3.0 + at, 0.5) for at in range(3)]
    for request_id, reservation in zip("zax", sent, strict=True):
        ledger.reserve(request_id, reservation)
    assert ledger.unseen(1.0, 0.5) == (first, second, third)
    ledger.release("a")
    assert ledger.unseen(1.0, 0.5) == (first, third)
    assert ledger.unseen(2.0, 0.5) == (third,)
    assert ledger.unseen(3.5, 0.5) == ()


def test_our_prompts_that_no_report_knows_are_told_apart_from_the_answers():
    fleet = joined(load=Load(4), rtt_ms=10.0, now_s=1.0)
    for number in (1, 2):
        estimate = an_estimate(prefill_ms=300.0, decode_ms=2_000.0)
        fleet.step(Dispatched(a_request(number), "a", estimate), 1.0)
    node = seen(fleet, 1.0)
    assert (node.own_unseen, node.own_unseen_s) == (2, pytest.approx(4.6))
    assert node.own_unseen_prefill_s == pytest.approx(0.6)
    assert node.wait_s == pytest.approx(0.6)
    fleet.step(LoadReported("a", Load(4, running=2, backlog_s=4.0, prefill_s=0.5)), 2.0)
    node = seen(fleet, 2.0)
    assert (node.own_unseen, node.own_unseen_s, node.own_unseen_prefill_s) == (0, 0.0, 0.0)
    assert node.wait_s == node.reported_prefill_s == 0.5


@pytest.mark.parametrize("term", ["prefill_ms", "decode_ms"])
def test_work_sent_long_after_a_report_drains_from_when_it_was_sent(term):
    fleet = joined(rtt_ms=10.0)
    fleet.step(Dispatched(a_request(), "a", an_estimate(**{term: 3_000.0})), 1.0)
    assert [seen(fleet, now_s).wait_s for now_s in (1.0, 1.25, 2.25, 99.0)] == [3.0, 2.75, 1.75, 0.0]


def test_release_tells_whether_it_was_open():
    ledger = Ledger(Flow(10.0))
    reservation = Reservation(1.0, 3.0, 1.0)
    ledger.reserve("r", reservation)
    assert [ledger.release("r"), ledger.release("r"), ledger.release("x")] == [reservation, None, None]


def test_our_own_flow_is_not_taken_for_that_of_others():
    """The node reports all inflow; what is ours is in the ledger already and must not slow draining."""
    alone, crowded = joined(rtt_ms=10.0), joined(rtt_ms=10.0)
    load = Load(1, running=1, wait_s=4.0, backlog_s=4.0, inflow=0.5)
    for fleet in (alone, crowded):
        fleet.step(LoadReported("a", load), 10.0)
    alone.step(a_dispatch(a_request(), service_s=5.0), 9.9)
    alone.step(an_outcome(a_request()), 10.0)
    assert seen(alone, 11.0).wait_s == pytest.approx(3.0, abs=0.06)
    assert seen(crowded, 11.0).wait_s == pytest.approx(3.5)


def test_each_model_has_its_own_turn_and_only_dispatches_count():
    fleet = joined("a", "b")
    assert (fleet.view(MODEL, 0.0).turn, fleet.view("other", 0.0).turn) == (0, 0)
    for number in range(3):
        fleet.step(a_dispatch(a_request(number), "ab"[number % 2]), 1.0)
    fleet.step(a_dispatch(a_request(9, model="other")), 1.0)
    assert (fleet.view(MODEL, 1.0).turn, fleet.view("other", 1.0).turn) == (3, 1)
    for kind in OutcomeKind:
        fleet.step(an_outcome(a_request(0), kind=kind), 2.0)
    fleet.step(Tick(), 2.5)
    assert (fleet.view(MODEL, 3.0).turn, fleet.view("other", 3.0).turn) == (3, 1)


def test_a_retry_takes_a_turn_as_well_so_it_goes_elsewhere():
    fleet = joined("a", "b")
    fleet.step(a_dispatch(a_request(), "a"), 1.0)
    fleet.step(an_outcome(a_request(), "a", OutcomeKind.FAILED), 1.0)
    fleet.step(a_dispatch(a_request(), "b"), 1.0)
    assert fleet.view(MODEL, 1.0).turn == 2


class Books(RuleBasedStateMachine):
    """Any history of dispatches, ends (also of strangers, also twice), pulses, deaths: the books balance."""

    nodes = st.sampled_from(("a", "b", "c"))
    open_attempts = Bundle("open_attempts")
    ended_attempts = Bundle("ended_attempts")

    def __init__(self) -> None:
        super().__init__()
        self.fleet = joined("a", "b", "c", settings=FleetSettings(silent_s=3.0, forget_s=8.0))
        self.now_s = 0.0
        self.seq = 1
        self.number = 0
        self.open: dict[str, str] = {}
        self.told: list[tuple[Request, str]] = []

    @rule(seconds=st.floats(0.0, 4.0))
    def wait(self, seconds):
        self.now_s += seconds
        self.fleet.step(Tick(), self.now_s)

    @rule(node=nodes, reborn=st.booleans())
    def hear(self, node, reborn):
        self.seq += 1
        epoch = self.seq if reborn else 1
        self.fleet.step(PulseReceived(a_pulse(node, self.seq, epoch=epoch)), self.now_s)
        self.fleet.step(a_card(node), self.now_s)

    @rule(node=nodes, load=st.sampled_from((IDLE, BUSY)))
    def report(self, node, load):
        self.fleet.step(LoadReported(node, load), self.now_s)

    def send(self, request, node):
        self.fleet.step(a_dispatch(request, node), self.now_s)
        if self.fleet.belief(node) is not None:
            assert seen(self.fleet, self.now_s, node).own_in_flight >= 1
            self.open[request.id] = node
        return request, node

    @rule(target=open_attempts, node=nodes)
    def dispatch(self, node):
        self.number += 1
        return self.send(a_request(self.number), node)

    @rule(target=ended_attempts, attempt=consumes(open_attempts), kind=st.sampled_from(OutcomeKind))
    def finish(self, attempt, kind):
        request, node = attempt
        self.fleet.step(an_outcome(request, node, kind), self.now_s)
        self.open.pop(request.id, None)
        self.told.append(attempt)
        return attempt

    @rule(target=open_attempts, attempt=consumes(ended_attempts), node=nodes)
    def retry(self, attempt, node):
        return self.send(attempt[0], node)

    @precondition(lambda self: self.told)
    @rule(data=st.data(), kind=st.sampled_from(OutcomeKind))
    def tell_an_end_once_more(self, data, kind):
        request, node = data.draw(st.sampled_from(self.told))
        if self.open.get(request.id) != node:
            self.fleet.step(an_outcome(request, node, kind), self.now_s)

    @rule(node=nodes, kind=st.sampled_from(OutcomeKind))
    def end_what_never_began(self, node, kind):
        self.fleet.step(an_outcome(a_request(999_999), node, kind), self.now_s)

    @invariant()
    def nothing_is_impossible(self):
        assert self.fleet.in_flight == len(self.open)
        for view in self.fleet.view(MODEL, self.now_s).nodes:
            assert view.wait_s >= 0
            assert view.own_in_flight <= sum(node == view.node for node in self.open.values())

    @precondition(lambda self: not self.open)
    @invariant()
    def books_balance_when_all_has_ended(self):
        assert self.fleet.in_flight == 0
        assert all(not belief.own_in_flight for belief in self.fleet.beliefs())


TestBooks = Books.TestCase
TestBooks.settings = settings(max_examples=100, stateful_step_count=30)
