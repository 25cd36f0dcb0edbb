"""The plan: requests fall like water, and everybody's old news is worth what it is."""

from dataclasses import replace
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from routing_nouns import A_MODEL, A_REQUEST, MODEL, a_choice, a_node, a_view

from isochrone.model import FleetView, Me, NodeView, Peer, Places, Plan, name_hash
from isochrone.routing import find_policy
from isochrone.routing.estimate import DEFAULT_WEIGHTS, EstimateWeights, ServiceColumns
from isochrone.routing.planning import PlanSettings, due, make_plan
from isochrone.routing.policies.soonest import draw

SETTINGS = PlanSettings()
PLAIN = EstimateWeights(kappa=0.0, congestion=0.0)
"""Without uncertainty or price a node's score is the time it takes, and nothing else."""


def busy(name: str, wait_s: float, slots: int = 4, **beliefs) -> NodeView:
    """All slots in use, and the next free in `wait_s`, as told just now."""
    facts = {"running": slots, "reported_wait_s": wait_s, "wait_s": wait_s}
    return a_node(name, slots=slots, **facts | beliefs)


def idle(name: str, slots: int = 4, **beliefs) -> NodeView:
    return a_node(name, slots=slots, free_slots=slots, **beliefs)


def planned(*nodes: NodeView, own: float = 0.0, others: float = 0.0, **beliefs) -> Plan:
    peers = (Peer("there", 7, "", others),) if others else ()
    beliefs.setdefault("places", Places()).number("")
    return make_plan(a_view(*nodes, own_work_per_s=own, peers=peers, **beliefs), A_REQUEST, PLAIN)


def requests(plan: Plan) -> np.ndarray:
    """The weights of a draw."""
    return np.diff(plan.edges, prepend=0.0)


def shares(plan: Plan) -> np.ndarray:
    return requests(plan) / plan.edges[-1]


def work_poured_s(plan: Plan) -> float:
    return float((requests(plan) * plan.service_s).sum())


def levels_s(view: FleetView, plan: Plan) -> np.ndarray:
    """What a typical request would score on each full node after what was poured there, in seconds.

    It waits for a slot, and for the prompts of all that was poured but its own: whichever takes longer.
    """
    service, columns, poured = ServiceColumns(view, A_REQUEST, PLAIN), view.nodes.columns, requests(plan)
    by_slot_s = columns.wait_s + poured * plan.service_s / columns.slots
    by_prompt_s = columns.reported_prefill_s + (poured - 1) * service.prefill_ms / 1e3
    return service.score_ms / 1e3 - columns.wait_s + np.maximum(by_slot_s, by_prompt_s)


# -- water -------------------------------------------------------------------------------------------

waits = st.lists(st.floats(0.01, 20.0), min_size=1, max_size=8)
rates = st.floats(0.1, 100.0)


@given(waits, rates, st.floats(0.0, 5.0))
@settings(max_examples=60)
def test_all_nodes_that_get_work_reach_one_level(waits_s, work_per_s, age_s):
    nodes = [busy(f"n{at}", wait_s, age_s=age_s, rtt_ms=7.0 * at) for at, wait_s in enumerate(waits_s)]
    view = a_view(*nodes, own_work_per_s=work_per_s)
    plan = make_plan(view, A_REQUEST, PLAIN)
    reached_s, used = levels_s(view, plan), requests(plan) > 0
    assert used.any()
    assert reached_s[used] == pytest.approx(plan.level_s, rel=1e-4, abs=1e-4)
    assert (reached_s[~used] >= plan.level_s - 1e-4).all()


@given(waits, rates, st.floats(0.0, 5.0))
@settings(max_examples=60)
def test_what_is_poured_is_what_all_gateways_send_until_the_plan_ends(waits_s, work_per_s, age_s):
    """Exactly so where no slot is free; a free one takes a whole request."""
    plan = planned(
        *(busy(f"n{at}", wait_s, age_s=age_s) for at, wait_s in enumerate(waits_s)), own=work_per_s
    )
    assert work_poured_s(plan) == pytest.approx(work_per_s * (age_s + plan.refresh_s), rel=1e-3)


@given(st.lists(st.tuples(st.integers(0, 6), st.floats(0.0, 9.0)), min_size=1, max_size=8), rates)
@settings(max_examples=60)
def test_no_less_is_poured_than_is_sent_whatever_is_free(loads, work_per_s):
    nodes = [
        a_node(f"n{at}", slots=4, running=min(4, jobs), queued=max(0, jobs - 4), reported_wait_s=wait_s)
        for at, (jobs, wait_s) in enumerate(loads)
    ]
    plan = planned(*nodes, own=work_per_s)
    assert work_poured_s(plan) >= work_per_s * plan.refresh_s * (1 - 1e-3)
    assert (requests(plan) >= 0).all()
    assert np.isfinite(plan.level_s)


def test_a_full_node_gets_nothing_while_others_are_far_from_full():
    plan = planned(idle("a"), idle("b"), busy("c", wait_s=30.0), own=1.0)
    assert requests(plan)[2] == 0.0
    assert (requests(plan)[:2] > 0).all()


def test_a_node_with_prompts_ahead_gets_nothing_though_its_slots_are_free():
    plan = planned(idle("a"), idle("b", slots=64, reported_prefill_s=30.0), own=1.0)
    assert requests(plan)[1] == 0.0


def test_of_like_nodes_each_gets_the_same_and_the_larger_more():
    plan = planned(busy("a", 2.0, slots=2), busy("b", 2.0, slots=2), busy("c", 2.0, slots=6), own=9.0)
    assert shares(plan) == pytest.approx([0.2, 0.2, 0.6], rel=1e-3)


def test_a_faster_node_gets_more():
    fast, slow = A_MODEL, replace(A_MODEL, tpot_ms=20.0)
    got = shares(planned(busy("a", 2.0, model=fast), busy("b", 2.0, model=slow), own=30.0))
    assert got[0] > got[1] > 0.0


def test_fresh_news_concentrates_and_old_news_tends_to_capacity():
    """The older the news, the higher the water: then depth is all that counts."""

    def first_share(age_s: float) -> float:
        nodes = [
            busy("a", 1.0, age_s=age_s),
            busy("b", 3.0, age_s=age_s),
            busy("c", 3.0, slots=8, age_s=age_s),
        ]
        return float(shares(planned(*nodes, own=8.0))[0])

    got = [first_share(age_s) for age_s in (0.0, 1.0, 4.0, 20.0, 1000.0)]
    assert got[0] == pytest.approx(1.0)
    assert all(later <= earlier + 1e-6 for earlier, later in pairwise(got))
    assert got[-1] == pytest.approx(1 / 3, rel=0.01)


def test_prompts_of_lately_usual_length_are_planned_not_this_one():
    """An odd request does not change where everybody's requests fall."""
    view = a_view(busy("a", 1.0), busy("b", 2.0), own_work_per_s=9.0, prompt_bytes_mean=400.0)
    odd = make_plan(view, replace(A_REQUEST, prompt_bytes=40_000), PLAIN)
    usual = make_plan(view, A_REQUEST, PLAIN)
    assert list(odd.edges) == list(usual.edges)
    assert list(odd.service_s) == list(usual.service_s)


def test_a_plan_is_for_all_clients_not_for_this_one():
    view, wordy = a_view(idle("a"), output_share={"wordy": 8.0}), replace(A_REQUEST, client="wordy")
    assert make_plan(view, wordy, PLAIN).service_s == make_plan(view, A_REQUEST, PLAIN).service_s
    assert ServiceColumns(view, wordy, PLAIN).service_s > ServiceColumns(view, A_REQUEST, PLAIN).service_s


def test_what_a_typical_request_takes_is_told():
    plan = planned(idle("a"), own=1.0)
    prefill_s, decode_s = (20.0 + 2.0 * 108) / 1e3, 50 * 10.0 / 1e3
    assert list(plan.service_s) == pytest.approx([prefill_s + decode_s])
    assert list(plan.prefill_share) == pytest.approx([prefill_s / (prefill_s + decode_s)])


# -- who may not be used -----------------------------------------------------------------------------


def test_unusable_nodes_get_nothing_and_nobody_is_expected_to_send_there():
    plan = planned(idle("a"), idle("b", unavailable="is leaving"), busy("c", 3.0), own=4.0, others=20.0)
    assert requests(plan)[1] == 0.0
    assert plan.others_flow[1] == 0.0
    assert plan.others_flow.sum() == pytest.approx(20.0)


@pytest.mark.parametrize("nodes", [1, 3])
def test_where_no_node_is_usable_nothing_is_poured_and_nothing_breaks(nodes):
    plan = planned(*(idle(f"n{at}", unavailable="is leaving") for at in range(nodes)), own=4.0, others=2.0)
    assert list(plan.edges) == [0.0] * nodes
    assert list(plan.others_flow) == [0.0] * nodes
    assert np.isfinite([plan.level_s, plan.draws, plan.token_price_ms]).all()
    assert draw(plan.edges, 2, Random(1)) == []


def test_one_node_gets_all():
    plan = planned(busy("a", 5.0), own=3.0, others=6.0)
    assert shares(plan) == pytest.approx([1.0])
    assert list(plan.others_flow) == pytest.approx([6.0])


def test_a_fleet_at_rest_can_be_planned():
    plan = planned(idle("a"), idle("b"))
    assert plan.edges[-1] > 0.0
    assert list(plan.others_flow) == [0.0, 0.0]
    assert plan.token_price_ms == pytest.approx(0.0, abs=1e-3)


def test_nodes_that_gateways_share_are_told_where_most_have_the_model_ready():
    loading = {MODEL: replace(A_MODEL, ready_in_s=5.0)}
    most = idle("a"), idle("b"), idle("c", models=loading), idle("d", unavailable="is leaving")
    assert {*planned(*most, own=1.0, others=100.0).gathering.flat} == {0, 1}
    assert not planned(*most, own=1.0).gathering.size  # there is nobody to share with
    few = idle("a"), idle("b", models=loading), idle("c", models=loading)
    assert not planned(*few, own=1.0, others=100.0).gathering.size


def test_the_plan_tells_what_share_of_the_usable_nodes_has_the_model_ready():
    loading = {MODEL: replace(A_MODEL, ready_in_s=5.0)}
    nodes = (idle("a"), idle("b", models=loading), idle("c", models=loading, unavailable="is leaving"))
    assert planned(*nodes).ready_share == 0.5
    assert planned(idle("a", unavailable="is leaving")).ready_share == 1.0


# -- others ------------------------------------------------------------------------------------------


@given(waits, st.floats(0.0, 50.0), rates, st.floats(0.0, 5.0))
@settings(max_examples=60)
def test_what_others_are_expected_to_send_sums_to_what_they_told(waits_s, own, others, age_s):
    nodes = [busy(f"n{at}", wait_s, age_s=age_s) for at, wait_s in enumerate(waits_s)]
    plan = planned(*nodes, own=own, others=others)
    assert plan.others_flow.sum() == pytest.approx(others, rel=1e-6)
    assert (plan.others_flow >= 0.0).all()


def test_others_stand_elsewhere_so_our_round_trips_are_not_theirs():
    near, far = busy("a", 2.0, rtt_ms=1.0), busy("b", 2.0, rtt_ms=900.0)
    plan = planned(near, far, own=1.0, others=9.0)
    assert shares(plan)[0] > 0.6
    assert list(plan.others_flow) == pytest.approx([4.5, 4.5], rel=1e-3)


def test_what_nodes_do_for_other_models_is_not_expected_again_of_this_one():
    """Their inflow is of all models and of users of their own: each plan tells its own model's part only."""
    plan = planned(busy("a", 2.0, inflow=6.0), busy("b", 2.0, inflow=2.0), own=1.0, others=1.0)
    assert plan.others_flow.sum() == pytest.approx(1.0)


# -- draws -------------------------------------------------------------------------------------------


def test_alone_many_are_drawn_and_in_a_crowd_of_many_few():
    nodes = [busy(f"n{at}", 1.0 + at / 50, age_s=1.0) for at in range(20)]
    got = [planned(*nodes, own=20.0, others=others).draws for others in (0.0, 20.0, 100.0, 1e3, 1e6)]
    assert got[0] == SETTINGS.draws_max
    assert got == sorted(got, reverse=True)
    assert got[-1] == 1.0


@given(waits, rates, rates, st.floats(0.0, 60.0))
@settings(max_examples=60)
def test_draws_are_bounded(waits_s, own, others, age_s):
    nodes = [busy(f"n{at}", wait_s, age_s=age_s) for at, wait_s in enumerate(waits_s)]
    assert 1.0 <= planned(*nodes, own=own, others=others).draws <= SETTINGS.draws_max


def test_nodes_are_drawn_as_often_as_the_plan_says():
    nodes = [busy("a", 2.0, slots=2), busy("b", 2.0, slots=6), busy("c", 60.0)]
    plan, luck = planned(*nodes, own=9.0), Random(3)
    drawn = [draw(plan.edges, 1, luck)[0] for _ in range(4000)]
    assert drawn.count(0) / 4000 == pytest.approx(0.25, abs=0.03)
    assert drawn.count(2) == 0


@pytest.mark.parametrize(("count", "most"), [(1, 1), (3, 3), (4, 4), (9, 4)])
def test_what_is_drawn_is_distinct_and_has_weight(count, most):
    luck, edges = Random(3), np.cumsum([0.0, 1.0, 2.0, 0.0, 1.0, 1.0, 0.0])
    for _ in range(200):
        drawn = draw(edges, count, luck)
        assert 1 <= len(drawn) <= most
        assert len(set(drawn)) == len(drawn)
        assert set(drawn) <= {1, 2, 4, 5}


def test_who_was_tried_or_left_since_the_plan_is_not_chosen():
    nodes = [busy(f"n{at}", 2.0) for at in range(6)]
    plan = planned(*nodes, own=9.0)
    gone = [replace(node, unavailable="is leaving") for node in nodes[:3]]
    view = a_view(*gone, *nodes[3:], plan=plan).without(frozenset(("n4",)))
    for seed in range(50):
        chosen = find_policy("soonest").decide(a_choice(view), Random(seed))
        assert set(chosen) <= {3, 5}
        assert chosen


# -- price and age -----------------------------------------------------------------------------------


def test_prompt_work_has_its_price_and_the_price_is_bounded():
    nodes = [busy(f"n{at}", 1.0) for at in range(4)]
    prices = [planned(*nodes, own=own).token_price_ms for own in (0.0, 1.0, 4.0, 8.0, 1e6)]
    assert prices[0] == 0.0
    assert prices == sorted(prices)
    plan = planned(*nodes, own=1.0)
    token_ms = 1e3 * plan.service_s[0] * plan.prefill_share[0] / 108  # tokens of the usual prompt here
    assert prices[-1] == pytest.approx(3.0 * token_ms)
    rho = 1.0 * plan.prefill_share[0] / 4
    assert prices[1] == pytest.approx(rho / (1 - rho) * token_ms)


def test_a_plan_is_due_when_there_is_none_and_when_it_has_grown_old():
    view = a_view(idle("a"))
    assert due(view)
    plan = make_plan(view, A_REQUEST, DEFAULT_WEIGHTS)
    assert (plan.made_at_s, plan.refresh_s) == (100.0, SETTINGS.refresh_s)
    for later_s, wanted in ((0.0, False), (0.19, False), (0.21, True)):
        assert due(replace(view, plan=plan, now_s=100.0 + later_s)) is wanted


def test_a_large_fleet_is_planned_less_often():
    view = FleetView.of(MODEL, [idle("a")] * 6000, 100.0)
    assert make_plan(view, A_REQUEST, PLAIN).refresh_s == pytest.approx(0.3)
    patient = PlanSettings(refresh_s=2.0)
    assert make_plan(view, A_REQUEST, PLAIN, patient).refresh_s == 2.0


def test_the_same_view_gives_the_same_plan():
    nodes = [busy(f"n{at}", 1.0 + at) for at in range(9)]
    one, two = (planned(*nodes, own=9.0, others=30.0) for _ in range(2))
    assert list(one.edges) == list(two.edges)
    assert list(one.others_flow) == list(two.others_flow)
    assert (one.draws, one.level_s, one.token_price_ms) == (two.draws, two.level_s, two.token_price_ms)


def test_the_plan_tells_how_busy_the_fleet_is():
    nodes = [idle("a", 4), idle("b", 4), idle("c", 8, unavailable="is leaving")]
    assert planned(*nodes).busy == 0.0
    assert planned(*nodes, own=4.0).busy == pytest.approx(0.5)
    assert planned(*nodes, own=50.0).busy == pytest.approx(0.9)


def test_the_front_is_told_by_kinds_of_speed_where_the_last_token_counts():
    slow = replace(
        A_MODEL, tpot_ms=4 * A_MODEL.tpot_ms, prefill_ms_per_token=4 * A_MODEL.prefill_ms_per_token
    )
    view = a_view(idle("a"), idle("b", model=slow), idle("c"))
    whole, reader = (make_plan(view, replace(A_REQUEST, stream=stream), PLAIN) for stream in (False, True))
    kinds = dict(zip(whole.front.tolist(), whole.front_kinds.tolist(), strict=True))
    assert kinds[0] == kinds[2] != kinds[1]
    assert len(reader.front) == 3
    assert len(reader.front_kinds) == 0


# -- company -------------------------------------------------------------------------------------------


def in_company(nodes: int, gateways: int, requests_per_s: float, *, told: bool = True) -> Plan:
    """The plan of one of so many gateways in one region, each of which sends so many requests of a second."""
    each = [idle(f"n{at}", slots=1) for at in range(nodes)]
    peers = [
        Peer(f"g{at}", name_hash(f"g{at}"), "", requests_per_s, requests_per_s, True)
        for at in range(gateways)
    ]
    view = a_view(
        *each,
        own_work_per_s=requests_per_s,
        own_requests_per_s=requests_per_s,
        me=Me.of("g0", "", tells=told),
        peers=tuple(peers[1:]),
    )
    view.places.number("")
    return make_plan(view, A_REQUEST, PLAIN)


def test_gateways_that_tell_each_other_are_one_mind():
    plan = in_company(10, 4, 0.5)
    assert plan.company is not None
    assert plan.company.mates == {"g1", "g2", "g3"}
    assert (plan.homes, plan.draws) == (None, SETTINGS.draws_max)
    assert len(plan.front) == 10
    assert plan.others_flow.sum() == 0.0
    assert len(plan.gathering) == 0
    alone = in_company(10, 4, 0.5, told=False)
    assert len(alone.front) == 0
    assert alone.others_flow.sum() == pytest.approx(1.5)


def test_companies_have_homes_as_gateways_have():
    plan = in_company(400, 16, 40.0)  # news of 320 requests a second are as many as one company takes
    assert plan.company is not None
    assert len(plan.company.groups) == 2
    assert plan.homes is not None
    assert 150 < len(plan.homes.own) < 250


def test_the_more_is_on_its_way_unheard_the_fewer_of_the_front_are_looked_at():
    lots = [in_company(400, 4, requests_per_s).lots for requests_per_s in (0.1, 30.0, 60.0, 90.0)]
    assert lots[0] == 1
    assert lots == sorted(lots)
    assert lots[-1] == round(8.0 * 3 * 90.0 * 0.002)
    assert in_company(30, 4, 90.0).lots == 2  # a dozen are looked at all the same
    assert in_company(10, 4, 90.0).lots == 1
    assert in_company(400, 4, 90.0, told=False).lots == 1
