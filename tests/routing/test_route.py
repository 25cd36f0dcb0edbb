"""Decisions that explain themselves."""

from random import Random

import pytest
from routing_nouns import A_MODEL, A_REQUEST, MODEL, a_node, a_view

from isochrone.model import Exclusion
from isochrone.routing import (
    CATALOGUE,
    DEFAULT_POLICY,
    RANKED_MAX,
    EstimateWeights,
    Router,
    estimate,
    route,
)
from isochrone.routing.estimate import Terms

EVERY_POLICY = pytest.mark.parametrize("policy", CATALOGUE.values(), ids=CATALOGUE)


@EVERY_POLICY
def test_unavailable_nodes_are_explained_and_never_candidates(policy):
    view = a_view(a_node("a"), a_node("b", unavailable="is leaving", rtt_ms=0.1), a_node("c"))
    for seed in range(20):
        decision = route(view, A_REQUEST, Random(seed), Router(policy))
        assert {candidate.node for candidate in decision.candidates} <= {"a", "c"}
        assert decision.chosen is not None
        assert decision.exclusions == (Exclusion("b", "is leaving"),)


@EVERY_POLICY
@pytest.mark.parametrize("nodes", [(), ("a", "b")])
def test_without_a_usable_node_there_is_no_candidate_but_a_reason(policy, nodes):
    view = a_view(*(a_node(name, unavailable="silent for 4.0 s") for name in nodes))
    decision = route(view, A_REQUEST, Random(1), Router(policy))
    assert decision.candidates == ()
    assert decision.chosen is None
    assert [exclusion.node for exclusion in decision.exclusions] == list(nodes)


def test_a_decision_names_who_decided_what_and_when():
    decision = route(a_view(a_node()), A_REQUEST, Random(1), Router(CATALOGUE["nearest"]))
    assert (decision.request_id, decision.model, decision.policy) == ("r", MODEL, "nearest")
    assert decision.at_s == 100.0
    assert route(a_view(a_node()), A_REQUEST, Random(1)).policy == DEFAULT_POLICY.name


def test_each_candidate_carries_its_own_estimate():
    weights = EstimateWeights(beta_whole=2.0)
    view = a_view(a_node("a", wait_s=1.0), a_node("b"))
    decision = route(view, A_REQUEST, Random(1), Router(weights=weights))
    for candidate in decision.candidates:
        node = view.nodes.numbers(view.nodes.index_of(candidate.node), A_REQUEST.blocks)
        assert candidate.estimate == estimate(view, A_REQUEST, node, weights)


def test_runners_up_are_bounded_and_the_best_are_kept():
    nodes = [a_node(f"n{at:02}", rtt_ms=float(100 - at)) for at in range(30)]
    decision = route(a_view(*nodes), A_REQUEST, Random(1))
    assert [candidate.node for candidate in decision.candidates] == [
        f"n{at:02}" for at in range(29, 29 - RANKED_MAX, -1)
    ]
    only = route(a_view(*nodes), A_REQUEST, Random(1), Router(candidates_max=1))
    assert [candidate.node for candidate in only.candidates] == ["n29"]


def test_a_score_is_worked_out_once_a_node(monkeypatch):
    asked, scores = [], Terms.scores

    def told(terms, nodes):
        asked.extend(node.rtt_ms for node in nodes)
        return scores(terms, nodes)

    monkeypatch.setattr(Terms, "scores", told)
    route(a_view(a_node("a", rtt_ms=1.0), a_node("b", A_MODEL, rtt_ms=2.0)), A_REQUEST, Random(1))
    assert sorted(asked) == [1.0, 2.0]


@pytest.mark.parametrize("nodes", [5, 16, 17, 100])
def test_who_was_left_out_is_told_in_order_however_it_is_found(nodes):
    """A few nodes are looked at one by one, more as columns; the first are told."""
    fleet = [a_node(f"n{at:03}", unavailable="is leaving" if at % 2 else None) for at in range(nodes)]
    told = [exclusion.node for exclusion in route(a_view(*fleet), A_REQUEST, Random(1)).exclusions]
    assert told == [f"n{at:03}" for at in range(1, nodes, 2)][:32]


def test_estimates_of_runners_up_are_made_when_looked_at_and_stay_as_believed_then(monkeypatch):
    made, estimate = [], Terms.estimate
    monkeypatch.setattr(
        Terms, "estimate", lambda terms, node, score: made.append(node.rtt_ms) or estimate(terms, node, score)
    )
    decision = route(a_view(a_node("a", rtt_ms=10.0), a_node("b", rtt_ms=60.0)), A_REQUEST, Random(1))
    assert made == []
    assert decision.chosen.estimate is decision.chosen.estimate
    assert made == [10.0]
    assert [candidate.estimate.rtt_ms for candidate in decision.candidates] == made == [10.0, 60.0]


def test_in_a_large_fleet_who_was_left_out_is_told_only_when_nobody_is_left():
    gone = [a_node(f"n{at}", unavailable="silent for 4.0 s") for at in range(300)]
    with_one = route(a_view(a_node("a"), *gone), A_REQUEST, Random(1))
    assert (with_one.chosen.node, with_one.exclusions) == ("a", ())
    without = route(a_view(*gone), A_REQUEST, Random(1))
    assert without.chosen is None
    assert 0 < len(without.exclusions) <= 32


def test_a_node_that_was_tried_is_no_candidate_any_more():
    view = a_view(a_node("a"), a_node("b", rtt_ms=300.0)).without(frozenset("a"))
    decision = route(view, A_REQUEST, Random(1))
    assert [candidate.node for candidate in decision.candidates] == ["b"]
    assert route(view.without(frozenset("b")), A_REQUEST, Random(1)).chosen is None
