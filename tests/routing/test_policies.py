"""What every policy must do, and what the plain ones do."""

from collections import Counter
from dataclasses import replace
from math import prod
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from routing_nouns import A_MODEL, A_REQUEST, MODEL, a_choice, a_node, a_view, first, ranked

from isochrone.model import FleetView, ModelState, ModelView, NodeView, Probe, PromptBlocks
from isochrone.routing import CATALOGUE, RANKED_MAX, Router, find_policy, route

EVERY_POLICY = pytest.mark.parametrize("policy", CATALOGUE.values(), ids=CATALOGUE)


def odd(*more: float) -> st.SearchStrategy[float]:
    return st.sampled_from((0.0, 1e-9, 0.3, 20.0, 1e9, *more))


@st.composite
def models(draw) -> ModelView:
    """A model in any state of knowledge: nothing, zeros, and more than anybody has."""
    return ModelView(
        ModelState.READY,
        ready_in_s=draw(odd()),
        prefill_base_ms=draw(odd()),
        prefill_ms_per_token=draw(odd()),
        tpot_ms=draw(odd()),
        cached_prefix=dict.fromkeys(range(draw(st.integers(0, 3)))),
        bias_ms=draw(odd(-300.0)),
        error_ms=draw(odd()),
        ttft_peak_ms=draw(odd()),
        response_ms=draw(odd()),
        service_ms=draw(odd()),
    )


@st.composite
def nodes(draw, name: str) -> NodeView:
    """A node in any state, usable or not."""
    return NodeView(
        name,
        "u",
        rtt_ms=draw(odd()),
        age_s=draw(odd()),
        slots=draw(st.sampled_from((1, 4, 10_000))),
        running=draw(st.sampled_from((0, 1, 10_000))),
        queued=draw(st.sampled_from((0, 2, 10**9))),
        kv_used=draw(st.sampled_from((0.0, 0.5, 1.0))),
        reported_wait_s=draw(odd()),
        wait_s=draw(odd()),
        own_in_flight=draw(st.sampled_from((0, 3, 10**6))),
        models={MODEL: draw(models())},
        unavailable=draw(st.sampled_from((None, None, "is leaving"))),
    )


@st.composite
def views(draw) -> FleetView:
    """Up to twelve nodes, some tried before, at least one of them usable."""
    names = draw(st.lists(st.sampled_from("abcdefghijkl"), min_size=1, unique=True).map(sorted))
    fleet = [draw(nodes(name)) for name in names]
    indices = st.integers(0, len(fleet) - 1)
    spared = draw(indices)
    fleet[spared] = replace(fleet[spared], unavailable=None)
    probe = st.builds(Probe, indices, st.sampled_from((0, 3, 10**6)), odd(), st.just(99.0))
    return a_view(
        *fleet,
        turn=draw(st.integers(0, 100)),
        left_out=draw(st.frozensets(indices)) - {spared},
        idle=draw(st.lists(indices, max_size=4)),
        probes=draw(st.lists(probe, max_size=6)),
        probed_in_flight=draw(st.lists(st.integers(0, 9), max_size=6)),
    )


REQUESTS = st.builds(
    lambda blocks, prompt_bytes: replace(A_REQUEST, blocks=blocks, prompt_bytes=prompt_bytes),
    st.sampled_from((PromptBlocks(), PromptBlocks((0,)), PromptBlocks((0, 1, 2, 2**64 - 1)))),
    st.sampled_from((0, 200, 10**9)),
)


def usable(view: FleetView) -> set[int]:
    nodes = enumerate(view.nodes)
    return {index for index, node in nodes if node.unavailable is None and index not in view.left_out}


@given(view=views(), request_=REQUESTS, seed=st.integers(0, 1000), wanted=st.sampled_from((1, 2, RANKED_MAX)))
@settings(max_examples=200)
def test_every_policy_names_usable_nodes_each_once(view, request_, seed, wanted):
    for name, policy in CATALOGUE.items():
        order = policy.decide(a_choice(view, request_, wanted), Random(seed))
        assert 1 <= len(order) <= RANKED_MAX, name
        assert len(set(order)) == len(order), name
        assert set(order) <= usable(view), name
        assert all(type(index) is int for index in order), name


@given(view=views(), request_=REQUESTS, seed=st.integers(0, 1000))
@settings(max_examples=30)
def test_the_same_arguments_give_the_same_decision(view, request_, seed):
    for policy in CATALOGUE.values():
        decisions = [route(view, request_, Random(seed), Router(policy)) for _ in range(2)]
        assert decisions[0] == decisions[1]


@EVERY_POLICY
def test_every_tuned_value_can_be_set_and_lived_with(policy):
    view = a_view(*(a_node(name) for name in "abc"))
    grid = policy.grid or {}
    assert prod(map(len, grid.values())) <= 32
    for parameter, values in grid.items():
        for value in values:
            tuned = policy.tuned(**{parameter: value})
            assert set(tuned.decide(a_choice(view), Random(1))) <= {0, 1, 2}


@EVERY_POLICY
def test_one_node_is_chosen_by_everybody(policy):
    assert policy.decide(a_choice(a_view(a_node())), Random(1)) == [0]


@EVERY_POLICY
def test_a_node_that_was_tried_is_not_chosen_again(policy):
    view = a_view(*(a_node(name) for name in "abc")).without(frozenset("ac"))
    assert policy.decide(a_choice(view), Random(1)) == [1]


@EVERY_POLICY
def test_a_thousand_nodes_of_which_few_are_usable(policy):
    fleet = [
        a_node(f"n{at}", unavailable=None if at % 250 == 7 else "silent for 4.0 s") for at in range(1000)
    ]
    for seed in range(5):
        assert set(policy.decide(a_choice(a_view(*fleet)), Random(seed))) <= {7, 257, 507, 757}


@EVERY_POLICY
def test_between_equals_no_node_is_starved(policy):
    """By lot, by turn or by hash of the prompt; only the two that follow a fixed order are excused."""
    view = a_view(*(a_node(name) for name in "abc"))
    chosen = {
        policy.decide(
            a_choice(replace(view, turn=at), replace(A_REQUEST, blocks=PromptBlocks((at * 7919, at)))),
            Random(at),
        )[0]
        for at in range(60)
    }
    fixed_order = policy.name in {"soonest", "nearest", "nearest-with-spill"}
    assert len(chosen) == (1 if fixed_order else 3)


@given(views())
@settings(max_examples=40)
def test_soonest_takes_the_least_score(view):
    decision = route(view, A_REQUEST, Random(1), Router(find_policy("soonest")))
    scores = [candidate.estimate.score_ms for candidate in decision.candidates]
    assert scores == sorted(scores)
    choice = a_choice(view)
    assert scores[0] == min(choice.estimate(index).score_ms for index in usable(view))


def test_soonest_lets_the_order_decide_between_equals():
    assert ranked("soonest", a_view(*(a_node(name) for name in "abc"))) == "abc"


def test_soonest_goes_far_when_near_is_busy():
    view = a_view(a_node("far", rtt_ms=200.0), a_node("near", rtt_ms=1.0, wait_s=0.5))
    assert first("soonest", view) == "far"
    assert first("nearest", view) == "near"


@given(views())
@settings(max_examples=40)
def test_nearest_goes_by_round_trip_alone(view):
    order = find_policy("nearest").decide(a_choice(view), Random(1))
    trips = [view.nodes[index].rtt_ms for index in order]
    assert trips == sorted(trips)


def test_round_robin_visits_all_in_turn():
    view = a_view(*(a_node(name) for name in "abcd"))
    assert [first("round-robin", replace(view, turn=turn)) for turn in range(8)] == list("abcdabcd")


def test_round_robin_goes_on_from_the_node_whose_turn_it_is():
    assert ranked("round-robin", a_view(*(a_node(name) for name in "abcd"), turn=2)) == "cdab"


@given(views(), st.integers(0, 1000))
@settings(max_examples=40)
def test_least_request_counts_our_own(view, seed):
    order = find_policy("least-request").decide(a_choice(view), Random(seed))
    counts = [view.nodes[index].own_in_flight for index in order]
    assert counts == sorted(counts)


def test_least_request_draws_lots_between_equals():
    view = a_view(*(a_node(name, own_in_flight=int(name == "d")) for name in "abcd"))
    luck = Random(7)
    drawn = Counter(first("least-request", view, luck) for _ in range(1500))
    assert drawn.keys() == set("abc")
    assert min(drawn.values()) > 430


def test_random_is_uniform_over_orders():
    """Chi-square over all 24 orders of four nodes: 23 degrees of freedom, 49.7 is the 0.1 % point."""
    view, luck = a_view(*(a_node(name) for name in "abcd")), Random(2026)
    seen = Counter(ranked("random", view, luck) for _ in range(24 * 100))
    assert len(seen) == 24
    assert sum((count - 100) ** 2 / 100 for count in seen.values()) < 49.7


def test_random_by_capacity_goes_by_slots_and_speed():
    """Twice the slots and half the time a token is four times the share, when decoding is all."""
    fast = replace(A_MODEL, prefill_base_ms=0.0, prefill_ms_per_token=1e-9, tpot_ms=10.0)
    slow = replace(fast, tpot_ms=20.0)
    view, luck = a_view(a_node("s", slow, slots=2), a_node("f", fast, slots=4)), Random(5)
    share = Counter(first("random-weighted", view, luck) for _ in range(2000))["f"] / 2000
    assert share == pytest.approx(0.8, abs=0.03)
