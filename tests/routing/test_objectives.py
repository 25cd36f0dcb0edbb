"""Requests with an SLO: who keeps it, who is chosen, and what the decision says of it."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from routing_nouns import A_MODEL, A_REQUEST, MODEL, a_choice, a_node, a_plan, a_view

from isochrone.model import Columns, Homes, Objective, Origin, Request, Roll
from isochrone.routing import EstimateWeights, Router, find_policy, route

READER = replace(A_REQUEST, stream=True)
"""Its prompt takes 236 ms on `A_MODEL`, each of its 50 later tokens 10 ms."""

SOONEST = find_policy("soonest")


def wanting(request: Request = READER, **objective) -> Request:
    return replace(request, objective=Objective(**objective))


def decided(view, request, text="soonest", weights=None):
    router = Router(find_policy(text), weights or EstimateWeights())
    return route(view, request, Random(1), router)


def test_the_room_is_the_limit_less_the_prediction_and_a_margin_for_its_error():
    view = a_view(a_node(model=replace(A_MODEL, error_ms=40.0), age_s=0.5))
    room = decided(view, wanting(ttft_ms=400.0, tpot_ms=25.0)).slo
    assert EstimateWeights().slo_margin == 1.0
    assert room.ttft_room_ms == pytest.approx(400 - (30 + 236) - (40 + 0.5 * 20))
    assert room.tpot_room_ms == pytest.approx(25 - 10)
    assert (room.ttft_ms, room.tpot_ms, room.met) == (400.0, 25.0, True)
    bold = decided(view, wanting(ttft_ms=400.0), weights=EstimateWeights(slo_margin=0.0)).slo
    assert bold.ttft_room_ms == pytest.approx(400 - (30 + 236))


def test_each_limit_may_come_alone_and_either_can_be_missed():
    view = a_view(a_node())
    assert decided(view, wanting(ttft_ms=300.0)).slo.tpot_room_ms is None
    assert decided(view, wanting(tpot_ms=10.0)).slo.ttft_room_ms is None
    assert decided(view, wanting(ttft_ms=300.0, tpot_ms=9.0)).unmet.tpot_room_ms == pytest.approx(-1)
    assert decided(view, wanting(ttft_ms=200.0, tpot_ms=99.0)).unmet.ttft_room_ms == pytest.approx(-66)
    assert decided(view, wanting(ttft_ms=300.0, tpot_ms=10.0)).unmet is None


def test_an_answer_that_comes_whole_is_seen_with_its_last_token():
    room = decided(a_view(a_node()), wanting(A_REQUEST, ttft_ms=1000.0)).slo
    assert room.ttft_room_ms == pytest.approx(1000 - (30 + 236 + 500))


def test_an_answer_of_one_token_has_no_later_ones_to_be_late():
    assert decided(a_view(a_node()), wanting(replace(READER, output_tokens_max=1), tpot_ms=1e-3)).slo.met


def test_without_an_slo_nothing_is_said_of_one():
    assert decided(a_view(a_node()), READER).slo is None
    assert decided(a_view(a_node()), wanting(completion=True)).slo is None
    assert decided(a_view(a_node(unavailable="is leaving")), wanting(ttft_ms=1.0)).slo is None


def test_what_counts_can_be_said_against_the_stream():
    """The near node is slow to decode: a reader takes it, who wants the whole does not."""
    near = a_node("near", replace(A_MODEL, tpot_ms=20.0), rtt_ms=1.0)
    far = a_node("far", replace(A_MODEL, tpot_ms=5.0), rtt_ms=300.0)
    view = a_view(near, far)
    assert decided(view, READER).chosen.node == "near"
    assert decided(view, wanting(completion=True)).chosen.node == "far"
    assert decided(view, A_REQUEST).chosen.node == "far"
    assert decided(view, wanting(A_REQUEST, completion=False)).chosen.node == "near"


def test_who_has_time_to_spare_goes_where_nobody_else_does():
    wanted, spare = a_node("wanted", rtt_ms=1.0, inflow=0.8), a_node("spare", rtt_ms=150.0, inflow=0.0)
    view = a_view(wanted, spare)
    assert decided(view, READER).chosen.node == "wanted"
    assert decided(view, wanting(ttft_ms=1000.0)).chosen.node == "spare"
    assert decided(view, wanting(ttft_ms=1000.0), "soonest:slo=0").chosen.node == "wanted"


def test_who_has_none_takes_the_soonest():
    wanted, spare = a_node("wanted", rtt_ms=1.0, inflow=0.8), a_node("spare", rtt_ms=150.0)
    view = a_view(wanted, spare)
    assert decided(view, wanting(ttft_ms=390.0)).chosen.node == "wanted"
    assert decided(view, wanting(ttft_ms=390.0), "soonest:fill=1").chosen.node == "spare"
    assert decided(view, wanting(ttft_ms=240.0)).chosen.node == "wanted"


def test_nobody_has_a_model_loaded_who_has_time_to_spare():
    warm, other = a_node("warm", inflow=0.9), a_node("other", inflow=0.95)
    cold = a_node("cold", replace(A_MODEL, ready_in_s=1.0))
    assert decided(a_view(warm, other, cold), wanting(ttft_ms=1e6)).chosen.node == "warm"


def test_a_held_prefix_is_taken_from_nobody():
    """Equally busy, the prompt is computed where its beginning is held already."""
    request = wanting(replace(READER, blocks=replace(READER.blocks, hashes=(1, 2))), ttft_ms=1000.0)
    other = a_node("other", replace(A_MODEL, cached_prefix={}), rtt_ms=1.0, inflow=0.5)
    assert decided(a_view(other, a_node("holder", inflow=0.5)), request).chosen.node == "holder"


def test_when_none_keeps_it_the_soonest_is_taken_and_the_decision_says_so():
    view = a_view(a_node("a", rtt_ms=90.0), a_node("b", rtt_ms=40.0))
    decision = decided(view, wanting(ttft_ms=200.0))
    assert decision.chosen.node == "b"
    assert decision.unmet.ttft_room_ms == pytest.approx(200 - 276)
    assert decision.unmet.heeded
    careless = decided(view, wanting(ttft_ms=200.0), "nearest")
    assert careless.unmet is not None
    assert not careless.unmet.heeded


def test_whoever_has_time_to_spare_sees_our_nodes_beyond_the_best_few():
    front = [a_node(f"best{at}", rtt_ms=1.0, inflow=0.9) for at in range(4)]
    view = a_view(*front, *(a_node(f"spare{at}", rtt_ms=99.0) for at in range(4)))
    homes = Homes(np.arange(8), {}, {}, 100.0)
    view = replace(view, front=(0, 1, 2, 3), plan=a_plan(8, level_s=1e6, homes=homes))
    decision = decided(view, wanting(ttft_ms=1000.0))
    assert decision.chosen.node.startswith("spare")
    assert decision.origin is Origin.SPARE
    assert decided(view, READER).origin is Origin.OWN
    assert decided(view, wanting(ttft_ms=1000.0), "soonest:spares=0").chosen.node.startswith("best")


class NoColumns(Roll):
    """Fails whoever looks at all nodes."""

    @property
    def columns(self) -> Columns:
        raise AssertionError("all nodes were looked at")


@pytest.mark.parametrize("ttft_ms", [1000.0, 1.0])
def test_no_client_can_make_a_decision_look_at_all_nodes(ttft_ms):
    nodes = [a_node(f"n{at}", inflow=0.1 * at, kv_used=0.2) for at in range(20)]
    homes = Homes(np.arange(20), {}, {}, 100.0)
    plan = a_plan(20, level_s=1e6, homes=homes)
    view = replace(a_view(*nodes), nodes=NoColumns(MODEL, nodes), front=(0, 1, 2, 3), plan=plan)
    choice = a_choice(view, wanting(ttft_ms=ttft_ms))
    assert len(SOONEST.decide(choice, Random(1))) > 4


def test_the_decision_tells_where_the_choice_was_found():
    nodes = [
        a_node(name, replace(A_MODEL, cached_prefix={}), rtt_ms=rtt) for name, rtt in (("a", 9), ("b", 5))
    ]
    view = a_view(*nodes)
    assert decided(view, READER).origin is Origin.ALL
    holder = a_node("c", rtt_ms=1.0)
    request = replace(READER, blocks=replace(READER.blocks, hashes=(1, 2)))
    home = replace(a_view(*nodes, holder), front=(0,), plan=a_plan(3, level_s=1e6, draws=1.0))
    assert decided(home, request).origin is Origin.PREFIX
    drawn = replace(view, front=(), plan=a_plan(2, draws=1.0))
    assert decided(drawn, READER).origin is Origin.DRAWN
    assert decided(view, READER, "nearest").origin is None


def ms(most: float) -> st.SearchStrategy[float]:
    return st.floats(0.0, most, allow_nan=False)


@st.composite
def worlds(draw):
    """A view of a few nodes with or without a plan, and a request with an SLO."""
    nodes = [
        a_node(
            name,
            replace(
                A_MODEL,
                tpot_ms=draw(ms(100)),
                error_ms=draw(ms(300)),
                ready_in_s=draw(st.sampled_from((0.0, 0.0, 0.5))),
                prefill_ms_per_token=draw(ms(10)),
            ),
            rtt_ms=draw(ms(300)),
            wait_s=draw(ms(2)),
            inflow=draw(ms(2)),
            unavailable=draw(st.sampled_from((None, None, None, "is leaving"))),
        )
        for name in draw(st.sampled_from(("a", "ab", "abcdef")))
    ]
    view = a_view(replace(nodes[0], unavailable=None), *nodes[1:])
    if draw(st.booleans()):
        homes = Homes(np.arange(len(nodes)), {}, {}, 100.0)
        view = replace(view, front=(0,), plan=a_plan(len(nodes), homes=homes, level_s=draw(ms(5))))
    some = st.none() | st.floats(0.1, 3000.0)
    request = replace(
        A_REQUEST,
        stream=draw(st.booleans()),
        objective=Objective(draw(some), draw(some), draw(st.booleans())),
    )
    return view, request


@given(world=worlds(), seed=st.integers(0, 99))
@settings(max_examples=300)
def test_none_is_chosen_that_misses_while_a_candidate_keeps_it_and_unmet_is_said_just_then(world, seed):
    view, request = world
    choice = a_choice(view, request)
    order = SOONEST.decide(choice, Random(seed))
    if request.objective.has_slo:
        kept = [choice.slo_room(index).met for index in order]
        assert kept == sorted(kept, reverse=True)
    decision = route(view, request, Random(seed), Router(SOONEST))
    assert decision.chosen.node == view.nodes[order[0]].node
    if decision.slo is not None:
        assert (decision.unmet is None) == any(kept)
    else:
        assert not request.objective.has_slo


@given(world=worlds(), seed=st.integers(0, 99))
@settings(max_examples=50)
def test_with_objectives_off_an_slo_changes_nothing_but_what_is_said(world, seed):
    view, request = world
    off = Router(find_policy("soonest:slo=0"))
    plain = replace(request, objective=Objective(completion=request.objective.completion))
    with_slo, without = (route(view, each, Random(seed), off) for each in (request, plain))
    assert replace(with_slo, slo=None) == without


def test_a_fill_or_a_count_that_cannot_be_is_refused():
    for text in ("soonest:fill=1.5", "soonest:spares=-1", "soonest:slo=2"):
        with pytest.raises(KeyError, match="soonest"):
            find_policy(text)


def test_a_node_without_memory_to_spare_is_wanted_by_others():
    full, far = a_node("full", rtt_ms=1.0, kv_used=0.9), a_node("far", rtt_ms=150.0)
    assert decided(a_view(full, far), wanting(ttft_ms=1000.0)).chosen.node == "far"


def test_what_is_taken_from_nobody_is_taken_as_soon_as_can_be():
    near, far = a_node("near", rtt_ms=10.0), a_node("far", rtt_ms=90.0)
    assert decided(a_view(far, near), wanting(ttft_ms=1000.0)).chosen.node == "near"
    hurried = decided(a_view(a_node("near", inflow=0.2), far), wanting(ttft_ms=1000.0), "soonest:own=9")
    assert hurried.chosen.node == "near"


def test_where_models_compete_for_memory_nobody_is_sent_elsewhere():
    warm = [a_node("wanted", rtt_ms=1.0, inflow=0.8), a_node("spare", rtt_ms=150.0)]
    cold = [a_node(f"cold{at}", replace(A_MODEL, ready_in_s=9.0)) for at in range(3)]
    assert decided(a_view(*warm, cold[0]), wanting(ttft_ms=1000.0)).chosen.node == "spare"
    assert decided(a_view(*warm, *cold), wanting(ttft_ms=1000.0)).chosen.node == "wanted"
