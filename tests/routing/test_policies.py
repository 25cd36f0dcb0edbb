"""What every policy must do, and what each of them does."""

from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from routing_nouns import A_MODEL, A_REQUEST, a_node, a_view

from isochrone.model import FleetView
from isochrone.routing import CATALOGUE, DEFAULT_POLICY, Router, find_policy, route
from isochrone.routing.choice import Choice
from isochrone.routing.estimate import DEFAULT_WEIGHTS, estimate

EVERY_POLICY = pytest.mark.parametrize("policy", CATALOGUE.values(), ids=CATALOGUE)


@st.composite
def views(draw) -> FleetView:
    """Up to eight nodes in any state, at least one of them usable."""
    names = draw(st.lists(st.sampled_from("abcdefgh"), min_size=1, unique=True).map(sorted))
    nodes = [
        a_node(
            name,
            replace(A_MODEL, tpot_ms=draw(st.sampled_from((1.0, 10.0, 100.0)))),
            rtt_ms=draw(st.sampled_from((1.0, 20.0, 300.0))),
            wait_s=draw(st.sampled_from((0.0, 0.1, 5.0))),
            own_in_flight=draw(st.integers(0, 3)),
            unavailable=draw(st.sampled_from((None, "is leaving"))) if name != names[0] else None,
        )
        for name in names
    ]
    return a_view(*nodes, turn=draw(st.integers(0, 100)))


def choice(view: FleetView) -> Choice:
    usable = tuple(node for node in view.nodes if node.unavailable is None)
    return Choice(view, A_REQUEST, usable, lambda node: estimate(view, A_REQUEST, node, DEFAULT_WEIGHTS))


def first(name: str, view: FleetView, luck: Random | None = None) -> str:
    return find_policy(name).rank(choice(view), luck or Random(1))[0].node


@EVERY_POLICY
@given(view=views(), seed=st.integers(0, 1000))
@settings(max_examples=50)
def test_a_policy_orders_all_usable_nodes_and_no_others(policy, view, seed):
    ranked = policy.rank(choice(view), Random(seed))
    assert sorted(node.node for node in ranked) == [node.node for node in choice(view).nodes]


@EVERY_POLICY
@given(view=views(), seed=st.integers(0, 1000))
@settings(max_examples=50)
def test_the_same_arguments_give_the_same_decision(policy, view, seed):
    decisions = [route(view, A_REQUEST, Random(seed), Router(policy)) for _ in range(2)]
    assert decisions[0] == decisions[1]


@given(views())
def test_soonest_takes_the_least_score(view):
    decision = route(view, A_REQUEST, Random(1), Router(find_policy("soonest")))
    scores = [candidate.estimate.score_ms for candidate in decision.candidates]
    assert scores == sorted(scores)
    usable = choice(view)
    assert scores[0] == min(usable.estimate(node).score_ms for node in usable.nodes)


def test_soonest_lets_the_name_decide_between_equals():
    view = a_view(*(a_node(name) for name in "abc"))
    assert [node.node for node in find_policy("soonest").rank(choice(view), Random(1))] == list("abc")


def test_soonest_goes_far_when_near_is_busy():
    view = a_view(a_node("far", rtt_ms=200.0), a_node("near", rtt_ms=1.0, wait_s=0.5))
    assert first("soonest", view) == "far"
    assert first("nearest", view) == "near"


@given(views())
def test_nearest_goes_by_round_trip_alone(view):
    ranked = find_policy("nearest").rank(choice(view), Random(1))
    trips = [node.rtt_ms for node in ranked]
    assert trips == sorted(trips)


def test_round_robin_visits_all_in_turn():
    view = a_view(*(a_node(name) for name in "abcd"))
    visited = [first("round-robin", replace(view, turn=turn)) for turn in range(8)]
    assert visited == list("abcdabcd")


def test_round_robin_goes_on_from_the_node_whose_turn_it_is():
    view = a_view(*(a_node(name) for name in "abcd"), turn=2)
    assert [n.node for n in find_policy("round-robin").rank(choice(view), Random(1))] == list("cdab")


@given(views(), st.integers(0, 1000))
def test_least_request_counts_our_own(view, seed):
    ranked = find_policy("least-request").rank(choice(view), Random(seed))
    counts = [node.own_in_flight for node in ranked]
    assert counts == sorted(counts)


def test_least_request_draws_lots_between_equals():
    view = a_view(*(a_node(name, own_in_flight=name == "d") for name in "abcd"))
    luck = Random(7)
    drawn = Counter(first("least-request", view, luck) for _ in range(3000))
    assert drawn.keys() == set("abc")
    assert min(drawn.values()) > 900


def test_random_is_uniform_over_orders():
    """Chi-square over all 24 orders of four nodes: 23 degrees of freedom, 49.7 is the 0.1 % point."""
    view, luck, draws = a_view(*(a_node(name) for name in "abcd")), Random(2026), 24 * 200
    rank = find_policy("random").rank
    seen = Counter("".join(node.node for node in rank(choice(view), luck)) for _ in range(draws))
    assert len(seen) == 24
    assert sum((count - 200) ** 2 / 200 for count in seen.values()) < 49.7


def test_the_catalogue_finds_by_name_and_tells_the_names():
    assert find_policy("soonest") is DEFAULT_POLICY
    assert {"soonest", "nearest", "random", "round-robin", "least-request"} <= CATALOGUE.keys()
    with pytest.raises(KeyError, match="no policy is called 'best'; there are: soonest, nearest"):
        find_policy("best")
