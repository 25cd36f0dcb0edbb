"""What other gateways tell that they sent counts as our own would, until a report of the node knows of it."""

import numpy as np
import pytest
from fleet_nouns import IDLE, MODEL, a_card, a_dispatch, a_plan, a_pulse, a_request, an_outcome, joined, seen
from hypothesis import given
from hypothesis import strategies as st

from isochrone.fleet import Fleet, LedgerHeard, PulseReceived, RttMeasured, Teller
from isochrone.fleet.ledger import TOLD_MAX
from isochrone.fleet.settings import FleetSettings
from isochrone.model import Company, EndedWork, LedgerNews, Load, Me, SentWork

BUSY = Load(1, running=1, wait_s=3.0, backlog_s=3.0)


def work(request: str = "r", node: str = "a", service_s: float = 3.0, **facts: float) -> SentWork:
    return SentWork(request, node, MODEL, service_s, facts.pop("prefill_s", service_s), **facts)


def word(*sent: SentWork, seq: int = 1, gateway: str = "other", **facts) -> LedgerHeard:
    return LedgerHeard(LedgerNews(gateway, 1, seq, sent=sent, **facts))


def ended(*pairs: tuple[str, str], seq: int = 2) -> LedgerHeard:
    return LedgerHeard(LedgerNews("other", 1, seq, ended=tuple(EndedWork(*pair) for pair in pairs)))


def wait_s(fleet: Fleet, now_s: float, node: str = "a") -> float:
    return seen(fleet, now_s, node).wait_s


def test_the_next_view_waits_for_what_another_gateway_just_sent():
    fleet = joined(rtt_ms=10.0, now_s=1.0)
    fleet.step(word(work()), 1.0)
    assert wait_s(fleet, 1.0) == pytest.approx(3.0)
    assert (fleet.told, fleet.in_flight, seen(fleet, 1.0).own_in_flight) == (1, 0, 0)


@given(st.lists(st.tuples(st.booleans(), st.floats(0.0, 2.0), st.floats(0.01, 4.0)), max_size=8))
def test_it_counts_as_our_own_would(sendings):
    """Whoever of the two sends, the node is believed to be as late, at any time after."""
    mixed, own = joined(rtt_ms=10.0, now_s=0.0), joined(rtt_ms=10.0, now_s=0.0)
    now_s = 0.0
    for number, (is_own, gap_s, service_s) in enumerate(sendings, 1):
        now_s += gap_s
        dispatch = a_dispatch(a_request(number), service_s=service_s)
        own.step(dispatch, now_s)
        told = word(work(f"r{number}", service_s=service_s), seq=number)
        mixed.step(dispatch if is_own else told, now_s)
        assert wait_s(mixed, now_s) == pytest.approx(wait_s(own, now_s))
    assert wait_s(mixed, now_s + 1.0) == pytest.approx(wait_s(own, now_s + 1.0))


@given(st.lists(st.tuples(st.floats(0.0, 5.0), st.floats(0.01, 4.0)), min_size=1, max_size=8))
def test_the_order_in_which_it_is_told_does_not_matter(sendings):
    """As if each had been told as it was sent, up to five seconds before."""
    late, ordered = joined(rtt_ms=10.0, now_s=0.0), joined(rtt_ms=10.0, now_s=0.0)
    for number, (age_s, service_s) in enumerate(sendings, 1):
        late.step(word(work(f"r{number}", service_s=service_s, age_s=age_s), seq=number), 6.0)
    for number, (age_s, service_s) in enumerate(sorted(sendings, reverse=True), 1):
        ordered.step(word(work(f"r{number}", service_s=service_s), seq=number), 6.0 - age_s)
    assert wait_s(late, 6.0) == pytest.approx(wait_s(ordered, 6.0), abs=1e-9)


def test_what_ended_counts_no_more_and_what_never_began_is_no_error():
    fleet = joined(rtt_ms=10.0, now_s=1.0)
    fleet.step(word(work("r"), work("s", service_s=1.0)), 1.0)
    fleet.step(ended(("r", "a"), ("never", "a"), ("s", "stranger")), 1.0)
    assert wait_s(fleet, 1.0) == pytest.approx(1.0)


def test_what_a_node_did_not_take_is_out_of_its_flow_again():
    fleet = joined(rtt_ms=10.0, now_s=1.0, load=Load(1, inflow=0.3))
    flows = [seen(fleet, 1.0).others_inflow]
    fleet.step(word(work()), 1.0)
    flows.append(seen(fleet, 1.0).others_inflow)
    untaken = EndedWork("r", "a", untaken=True)
    fleet.step(LedgerHeard(LedgerNews("other", 1, 2, ended=(untaken,))), 1.0)
    flows.append(seen(fleet, 1.0).others_inflow)
    assert flows == pytest.approx([0.3, 0.0, 0.3])
    assert wait_s(fleet, 1.0) == 0.0


def test_one_that_balked_and_came_again_in_the_same_moment_is_there():
    teller, fleet = Teller(Me.of("other", "", tells=True), 1), joined(rtt_ms=10.0, now_s=1.0)
    mates = frozenset({"us"})
    teller.sent(work(), mates, 1.0)
    teller.ended("r", "a", untaken=True)
    teller.sent(work(), mates, 1.0)
    fleet.step(LedgerHeard(teller.take(1.0)[1]), 1.0)
    assert wait_s(fleet, 1.0) == pytest.approx(3.0)
    teller.ended("r", "a")
    fleet.step(LedgerHeard(teller.take(1.0)[1]), 1.0)
    assert wait_s(fleet, 1.0) == 0.0


def test_one_that_balked_and_comes_again_later_is_there_too():
    teller, fleet = Teller(Me.of("other", "", tells=True), 1), joined(rtt_ms=10.0, now_s=1.0)
    for _ in range(2):
        teller.sent(work(), frozenset({"us"}), 1.0)
        fleet.step(LedgerHeard(teller.take(1.0)[1]), 1.0)
        assert wait_s(fleet, 1.0) == pytest.approx(3.0)
        teller.ended("r", "a", untaken=True)
    fleet.step(LedgerHeard(teller.take(1.0)[1]), 1.0)
    assert wait_s(fleet, 1.0) == 0.0


def test_a_report_that_knows_of_it_takes_its_place():
    fleet = joined(rtt_ms=200.0, now_s=1.0)
    fleet.step(word(work()), 1.0)
    fleet.step(PulseReceived(a_pulse(seq=2, load=IDLE)), 1.1)  # it left the node before the request came
    assert wait_s(fleet, 1.1) == pytest.approx(3.0)
    fleet.step(PulseReceived(a_pulse(seq=3, load=BUSY)), 1.3)
    assert wait_s(fleet, 1.3) == pytest.approx(3.0)
    fleet.step(RttMeasured("a", 3000.0), 1.3)  # what was forgotten does not come back
    assert wait_s(fleet, 1.3) == pytest.approx(3.0)


def test_what_a_report_knew_before_it_was_told_is_not_counted_twice():
    fleet = joined(rtt_ms=10.0, now_s=1.0, load=BUSY)
    fleet.step(word(work(age_s=0.5)), 1.1)
    assert wait_s(fleet, 1.1) == pytest.approx(2.9)
    assert fleet.told == 1


def test_a_word_that_comes_twice_or_late_is_dropped():
    fleet = joined(rtt_ms=10.0, now_s=1.0)
    for seq in (2, 2, 1):
        fleet.step(word(work(f"r{seq}"), seq=seq), 1.0)
    assert (fleet.told, wait_s(fleet, 1.0)) == (1, pytest.approx(3.0))


def test_a_gateway_that_begins_anew_is_heard_though_its_clock_went_back():
    fleet = joined(rtt_ms=10.0, now_s=1.0)
    fleet.step(LedgerHeard(LedgerNews("other", 9, 9, sent=(work("r"),))), 1.0)
    restarted = LedgerHeard(LedgerNews("other", 8, 1, sent=(work("s"),)))
    fleet.step(restarted, 1.0 + 0.9 * FleetSettings().silent_s)
    assert fleet.told == 1
    fleet.step(restarted, 1.0 + FleetSettings().silent_s)
    assert fleet.told == 2


def test_a_stranger_s_word_is_left_to_the_plan():
    fleet = joined(rtt_ms=10.0, now_s=1.0)
    company = Company(frozenset({"mate"}), 0.0, (("mate", "us"), ("other",)), 0, 1.0)
    fleet.step(a_plan(0.0, company=company), 1.0)
    fleet.step(word(work()), 1.0)
    assert (fleet.told, wait_s(fleet, 1.0)) == (0, 0.0)
    fleet.step(word(work(), gateway="mate"), 1.0)
    assert (fleet.told, wait_s(fleet, 1.0)) == (1, pytest.approx(3.0))


def test_the_same_request_told_again_is_the_same_request():
    fleet = joined(rtt_ms=10.0, now_s=1.0)
    for seq in (1, 2):
        fleet.step(word(work(), seq=seq), 1.0)
    assert wait_s(fleet, 1.0) == pytest.approx(3.0)


def test_two_gateways_may_call_their_requests_alike():
    fleet = joined(rtt_ms=10.0, now_s=1.0)
    fleet.step(a_dispatch(a_request(1), service_s=1.0), 1.0)
    for gateway in ("g", "h"):
        fleet.step(word(work("r1", service_s=1.0), gateway=gateway), 1.0)
    assert wait_s(fleet, 1.0) == pytest.approx(3.0)
    fleet.step(an_outcome(a_request(1)), 1.0)
    assert wait_s(fleet, 1.0) == pytest.approx(2.0)


def test_a_stranger_s_work_and_an_unknown_model_s_change_nothing():
    fleet = joined(rtt_ms=10.0, now_s=1.0)
    fleet.step(word(work(node="stranger"), SentWork("s", "a", "no such model", 3.0, 3.0)), 1.0)
    assert (wait_s(fleet, 1.0), fleet.told) == (0.0, 0)
    assert fleet.models() == (MODEL,)


def test_memory_of_it_is_bounded():
    fleet = joined(rtt_ms=10.0, now_s=1.0, settings=FleetSettings(gateways_max=2))
    for number in range(2 * TOLD_MAX):
        fleet.step(word(work(f"r{number}", service_s=0.5), seq=number + 1), 1.0)
    node = fleet._nodes["a"]
    assert node._ledger is not None
    assert len(node._ledger.told) == seen(fleet, 1.0).own_unseen == TOLD_MAX
    for gateway in "ghijk":
        fleet.step(word(gateway=gateway), 1.0)
    assert len(fleet._told._last) == 2


def test_a_far_gateway_s_request_is_noted_as_of_when_ours_would_have_left():
    """It left 30 ms ago (half of 60), and its way to the node is 40 ms longer than ours: as if in 10 ms."""
    rtt_ms = {("here", "there"): 60.0, ("here", "node"): 20.0, ("there", "node"): 100.0}

    def between(one: str, other: str) -> float | None:
        return 0.0 if one == other else rtt_ms.get((one, other), rtt_ms.get((other, one)))

    fleet = Fleet(FleetSettings(), Me.of("us", "here"), between)
    fleet.step(PulseReceived(a_pulse()), 1.0)
    fleet.step(a_card(region="node"), 1.0)
    fleet.step(word(work(), region="there"), 5.0)
    ledger = fleet._nodes["a"]._ledger
    assert ledger is not None
    assert [told.at_s for told in ledger.told.values()] == [pytest.approx(5.0 + 0.010)]
    fleet.step(word(work("s", age_s=0.5), region="here", gateway="near"), 5.0)
    assert [told.at_s for told in ledger.told.values()][1] == pytest.approx(4.5)


def test_the_front_gives_way_where_another_sent():
    fleet = joined("a", "b", rtt_ms=10.0, now_s=1.0)
    front = {"front": [0, 1], "front_s": [1.0, 1.5]}
    fleet.step(a_plan(0.0, 0.0, **{name: np.array(values) for name, values in front.items()}), 1.0)
    assert fleet.view(MODEL, 1.0).front == (0, 1)
    fleet.step(word(work(service_s=2.0)), 1.0)
    assert fleet.view(MODEL, 1.0).front == (1, 0)
