"""How long a request is to wait at the node that it goes to."""

from dataclasses import replace
from random import Random

import pytest
from routing_nouns import A_MODEL, A_REQUEST, a_choice, a_node, a_view

from isochrone.model import Objective
from isochrone.routing import Router, find_policy, route
from isochrone.routing.patience import patience_ms


def patience(*nodes, request=A_REQUEST) -> float | None:
    return patience_ms(a_choice(a_view(*nodes), request), range(len(nodes)))


def test_it_waits_for_as_long_as_the_next_best_is_later_and_the_way_back_takes():
    near, far = a_node("near", rtt_ms=30.0), a_node("far", rtt_ms=130.0)
    assert patience(near, far) == pytest.approx(30.0 + 100.0)


def test_a_wait_that_was_expected_is_no_reason_to_go():
    near, far = a_node("near", rtt_ms=30.0, wait_s=0.5), a_node("far", rtt_ms=730.0)
    assert patience(near, far) == pytest.approx(500.0 + 30.0 + 200.0)


def test_nor_is_a_load_that_was_expected():
    cold = a_node("cold", replace(A_MODEL, ready_in_s=2.0), rtt_ms=30.0)
    assert patience(cold, a_node("far", rtt_ms=2130.0)) == pytest.approx(2000.0 + 30.0 + 100.0)


def test_of_an_uncertain_node_less_is_hoped():
    sure, unsure = (replace(A_MODEL, error_ms=error_ms) for error_ms in (0.0, 80.0))
    near, far = a_node("near", rtt_ms=30.0), a_node("far", sure, rtt_ms=130.0)
    kappa = 0.25
    assert patience(near, replace(far, models={"tiny": unsure})) == pytest.approx(130.0 + (1 + kappa) * 80.0)


def test_the_best_of_all_others_counts_wherever_it_stands_in_the_order():
    near, far, farther = (a_node(name, rtt_ms=rtt) for name, rtt in (("a", 30.0), ("b", 530.0), ("c", 90.0)))
    assert patience(near, far, farther) == pytest.approx(30.0 + 60.0)


def test_one_that_was_chosen_though_others_are_sooner_waits_as_it_expected_and_the_way_back():
    later, sooner = a_node("later", rtt_ms=300.0, wait_s=0.2), a_node("sooner", rtt_ms=30.0)
    assert patience(later, sooner) == pytest.approx(200.0 + 300.0)


def test_who_keeps_its_slo_stays():
    wants = replace(A_REQUEST, objective=Objective(ttft_ms=5000.0))
    near, far = a_node("near", rtt_ms=30.0), a_node("far", rtt_ms=130.0)
    choice = a_choice(a_view(near, far), wants)
    assert patience_ms(choice, (0, 1)) == pytest.approx(130.0)  # the policy does not heed it
    choice.heeds_slo = True
    room_ms = choice.slo_room(0).ttft_room_ms
    assert room_ms is not None
    assert room_ms > 4000.0
    assert patience_ms(choice, (0, 1)) == pytest.approx(30.0 + room_ms)


def test_with_nobody_else_it_waits_however_long():
    assert patience(a_node()) is None


@pytest.mark.parametrize(("policy", "tells"), [("soonest", True), ("soonest:balks=0", False), ("p2c", False)])
def test_a_decision_tells_it_where_the_policy_balks(policy, tells):
    view = a_view(a_node("near", rtt_ms=30.0), a_node("far", rtt_ms=130.0))
    decision = route(view, A_REQUEST, Random(1), Router(find_policy(policy)))
    assert (decision.patience_ms is not None) == tells
