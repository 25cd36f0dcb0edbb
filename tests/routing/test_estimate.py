"""The time model: each term alone, and the sum."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from routing_nouns import A_MODEL, A_REQUEST, MODEL, a_node, a_plan, a_view, numbers

from isochrone.model import ModelState, ModelView, NodeView, PromptBlocks, Request, Roll
from isochrone.routing.estimate import (
    PRIOR_PREFILL_BASE_MS,
    PRIOR_PREFILL_MS_PER_TOKEN,
    PRIOR_TPOT_MS,
    EstimateWeights,
    ServiceColumns,
    estimate,
)

WEIGHTS = EstimateWeights()
PREFIXED = replace(A_REQUEST, blocks=PromptBlocks((1, 2, 3), block_bytes=64))


def told(node=None, request=A_REQUEST, view=None, weights=WEIGHTS):
    return estimate(view or a_view(), request, numbers(node or a_node(), request), weights)


def test_every_term_in_its_unit():
    model = replace(A_MODEL, ready_in_s=0.25, bias_ms=7.0, error_ms=12.0)
    got = told(a_node(model=model, wait_s=1.5, age_s=2.0))
    assert (got.rtt_ms, got.wait_ms, got.cold_ms, got.bias_ms) == (30.0, 1500.0, 250.0, 7.0)
    assert got.prompt_tokens == 8 + 400 / 4
    assert got.prefill_ms == 20 + 2 * 108
    assert got.decode_ms == 10 * (51 - 1)
    assert got.uncertainty_ms == 12 + 2 * WEIGHTS.uncertainty_ms_per_s
    assert got.ttft_ms == pytest.approx(30 + 1500 + 250 + 236 + 7)
    assert got.total_ms == pytest.approx(got.ttft_ms + 500)
    assert got.service_s == pytest.approx(0.736)


def test_cached_tokens_are_taken_off_the_prefill():
    got = told(request=PREFIXED)
    assert got.cached_tokens == 128 / 4
    assert got.prefill_ms == 20 + 2 * (108 - 32)


def test_the_last_token_is_always_computed():
    model = replace(A_MODEL, cached_tokens_base=1e6)
    assert told(a_node(model=model)).prefill_ms == 20 + 2 * 1
    assert told(a_node(model=model)).cached_tokens == 107


def test_rounding_does_not_cache_the_whole_prompt():
    model = replace(A_MODEL, cached_tokens_base=9.0)
    got = told(a_node(model=model), view=a_view(prompt_tokens_base=2.5, prompt_tokens_per_byte=0.0))
    assert got.cached_tokens < got.prompt_tokens


@pytest.mark.parametrize("price", [0.0, 0.5, 3.0])
def test_prompt_processing_has_the_price_that_the_plan_tells(price):
    """It is paid for others: the score knows it, the times do not."""
    free, priced = told(), told(view=a_view(plan=a_plan(token_price_ms=price)))
    paid_ms = WEIGHTS.congestion * price * 108
    assert priced.congestion_ms == pytest.approx(paid_ms)
    assert priced.score_ms == pytest.approx(free.score_ms + paid_ms)
    assert (priced.ttft_ms, priced.total_ms) == (free.ttft_ms, free.total_ms)
    careless = replace(WEIGHTS, congestion=0.0)
    assert told(view=a_view(plan=a_plan(token_price_ms=price)), weights=careless).score_ms == free.score_ms


def test_a_token_costs_others_the_same_on_a_slow_node_and_nothing_where_it_is_cached():
    view, slow = a_view(plan=a_plan(token_price_ms=2.0)), replace(A_MODEL, prefill_ms_per_token=20.0)
    paid_ms = told(view=view).congestion_ms
    assert told(a_node(model=slow), view=view).congestion_ms == paid_ms
    warm = told(a_node(model=replace(A_MODEL, cached_tokens_base=54.0)), view=view)
    assert warm.congestion_ms == pytest.approx(paid_ms / 2)


def a_shared_node(models_at_work=2, running=5, effect=1.0, **facts):
    model = replace(A_MODEL, **{"sharing_effect": effect} | facts)
    return a_node(model=model, models_at_work=models_at_work, slots=8, running=running)


def test_with_one_more_model_at_work_all_takes_longer():
    alone, third = told(a_shared_node(0, 0)), told(a_shared_node())
    assert (alone.sharing, third.sharing) == (1.0, 3.0)
    assert third.prefill_ms == pytest.approx(3 * alone.prefill_ms)
    assert third.decode_ms == pytest.approx(3 * alone.decode_ms)
    usual = told(a_shared_node(sharing=3.0))
    assert (usual.prefill_ms, usual.decode_ms) == pytest.approx((alone.prefill_ms, alone.decode_ms))
    half = told(a_shared_node(effect=0.5))
    assert half.prefill_ms == pytest.approx(2 * alone.prefill_ms)


def test_a_model_that_is_not_at_work_takes_its_time_alone_from_each_request_there():
    alone, third = told(a_shared_node(0, 0)), told(a_shared_node())
    assert third.congestion_ms == pytest.approx(WEIGHTS.mixing * 5 * (alone.prefill_ms + alone.decode_ms))
    assert told(a_shared_node(at_work=True)).congestion_ms == pytest.approx(0.0)
    assert told(a_shared_node(effect=0.0)).congestion_ms == pytest.approx(0.0)
    heedless = told(a_shared_node(), weights=replace(WEIGHTS, mixing=0.0))
    assert heedless.congestion_ms == pytest.approx(0.0)
    assert heedless.ttft_ms == third.ttft_ms


def test_later_tokens_weigh_less_in_a_stream():
    whole, stream = told(), told(request=replace(A_REQUEST, stream=True))
    assert whole.total_ms == stream.total_ms
    assert whole.score_ms == pytest.approx(whole.ttft_ms + WEIGHTS.beta_whole * 500)
    assert stream.score_ms == pytest.approx(stream.ttft_ms + WEIGHTS.beta_stream * 500)


def test_a_reader_minds_the_first_token_and_a_waiter_the_last():
    near_slow = a_node("near", replace(A_MODEL, tpot_ms=20.0), rtt_ms=1.0)
    far_fast = a_node("far", replace(A_MODEL, tpot_ms=5.0), rtt_ms=300.0)
    stream = replace(A_REQUEST, stream=True)
    assert told(near_slow, stream).score_ms < told(far_fast, stream).score_ms
    assert told(near_slow).score_ms > told(far_fast).score_ms


def test_uncertainty_costs_by_kappa():
    model = replace(A_MODEL, error_ms=100.0)
    for kappa in (0.0, 0.5):
        got = told(a_node(model=model), weights=replace(WEIGHTS, kappa=kappa))
        assert got.score_ms == pytest.approx(got.total_ms + kappa * 100)


@pytest.mark.parametrize(("limit", "tokens"), [(None, 51), (10, 10), (1, 1), (100, 45), (500, 125)])
def test_the_answer_is_as_long_as_learned_and_no_longer_than_allowed(limit, tokens):
    """The line learned: 25 tokens, and a fifth of the limit."""
    view = a_view(a_node(), output_tokens_base=25.0, output_tokens_per_limit=0.2)
    got = estimate(
        view, replace(A_REQUEST, output_tokens_max=limit), view.nodes.numbers(0, A_REQUEST.blocks), WEIGHTS
    )
    assert got.output_tokens == tokens
    assert got.decode_ms == 10 * (tokens - 1)


@pytest.mark.parametrize(
    ("client", "limit", "tokens"),
    [("", None, 51), ("b", None, 51), ("a", None, 102), ("a", 100, 90), ("a", 30, 30), ("c", 100, 1)],
)
def test_a_clients_share_counts_within_its_limit(client, limit, tokens):
    """As long as learned of all (51, or 25 and a fifth of the limit), times what is believed of it."""
    view = a_view(
        a_node(),
        output_tokens_base=25.0,
        output_tokens_per_limit=0.2,
        output_share={"a": 2.0, "c": 0.001},
    )
    request = replace(A_REQUEST, client=client, output_tokens_max=limit)
    assert told(request=request, view=view).output_tokens == tokens


def test_a_node_of_which_nothing_is_known_has_prior_speeds():
    got = told(a_node(model=ModelView(ModelState.READY)))
    assert got.prefill_ms == PRIOR_PREFILL_BASE_MS + PRIOR_PREFILL_MS_PER_TOKEN * 108
    assert got.decode_ms == PRIOR_TPOT_MS * 50


def test_a_learned_zero_is_no_unknown():
    """A line through the origin, or a flat one, is what was measured: no prior may come in its place."""
    through_origin = replace(A_MODEL, prefill_base_ms=0.0)
    assert told(a_node(model=through_origin)).prefill_ms == 2 * 108
    flat = replace(A_MODEL, prefill_ms_per_token=0.0)
    assert told(a_node(model=flat)).prefill_ms == 20


def ms(most: float = 1e5) -> st.SearchStrategy[float]:
    return st.floats(0.0, most, allow_nan=False)


@st.composite
def worlds(draw):
    """(view, request, node), anything possible in it."""
    model = ModelView(
        ModelState.READY,
        ready_in_s=draw(ms(100)),
        prefill_base_ms=draw(ms()),
        prefill_ms_per_token=draw(ms(100)),
        tpot_ms=draw(ms(1000)),
        cached_prefix=dict.fromkeys(range(draw(st.integers(0, 6)))),
        cached_tokens_base=draw(ms(50)),
        cached_tokens_per_byte=draw(ms(1)),
        bias_ms=draw(st.floats(-1e5, 1e5)),
        error_ms=draw(ms()),
        observations=draw(st.integers(0, 3)),
    )
    node = NodeView(
        "a", "u", rtt_ms=draw(ms()), wait_s=draw(ms(1e3)), age_s=draw(ms(100)), models={MODEL: model}
    )
    request = Request(
        "r",
        MODEL,
        prompt_bytes=draw(st.integers(0, 10_000)),
        blocks=PromptBlocks(tuple(range(draw(st.integers(0, 6))))),
        output_tokens_max=draw(st.none() | st.integers(1, 1000)),
        stream=draw(st.booleans()),
    )
    view = a_view(prompt_tokens_base=draw(ms(100)), output_tokens_mean=draw(ms(1000)))
    return replace(view, prompt_tokens_per_byte=draw(ms(1))), request, node


def with_model(node: NodeView, **changes) -> NodeView:
    return replace(node, models={MODEL: replace(node.models[MODEL], **changes)})


@given(worlds())
def test_no_estimate_is_impossible(world):
    view, request, node = world
    got = estimate(view, request, numbers(node, request), WEIGHTS)
    assert got.ttft_ms >= 0
    assert min(got.wait_ms, got.cold_ms, got.prefill_ms, got.decode_ms, got.uncertainty_ms) >= 0
    assert got.total_ms >= got.ttft_ms
    assert got.score_ms >= got.ttft_ms - 1e-6  # the same terms, added in another order
    assert got.output_tokens >= 1
    assert got.cached_tokens >= 0
    assert got.cached_tokens < max(1, got.prompt_tokens)


@given(worlds(), ms(), st.sampled_from(["rtt_ms", "wait_s", "age_s"]))
def test_more_of_what_delays_is_never_sooner(world, more, term):
    view, request, node = world
    later = replace(node, **{term: getattr(node, term) + more})
    before, after = (estimate(view, request, numbers(n, request), WEIGHTS) for n in (node, later))
    assert after.score_ms >= before.score_ms
    assert after.ttft_ms >= before.ttft_ms


@given(
    worlds(),
    ms(),
    st.sampled_from(
        ["ready_in_s", "prefill_base_ms", "prefill_ms_per_token", "tpot_ms", "error_ms", "bias_ms"]
    ),
)
def test_a_slower_model_is_never_sooner(world, more, term):
    view, request, node = world
    node = with_model(node, prefill_base_ms=1.0, prefill_ms_per_token=1.0, tpot_ms=1.0)
    later = with_model(node, **{term: getattr(node.models[MODEL], term) + more})
    before, after = (estimate(view, request, numbers(n, request), WEIGHTS) for n in (node, later))
    assert after.score_ms >= before.score_ms
    assert after.total_ms >= before.total_ms


@given(worlds(), st.integers(0, 6), ms(50))
def test_more_cached_is_never_later(world, blocks, base):
    view, request, node = world
    model = node.models[MODEL]
    warmer = with_model(
        node,
        cached_prefix=model.cached_prefix | dict.fromkeys(range(blocks)),
        cached_tokens_base=model.cached_tokens_base + base,
    )
    before, after = (estimate(view, request, numbers(n, request), WEIGHTS) for n in (node, warmer))
    assert after.cached_tokens >= before.cached_tokens
    assert after.ttft_ms <= before.ttft_ms


def test_one_more_second_of_wait_is_a_thousand_milliseconds():
    assert told(a_node(wait_s=1.0)).ttft_ms - told(a_node()).ttft_ms == pytest.approx(1000)
    assert told(a_node(rtt_ms=31.0)).ttft_ms - told(a_node(rtt_ms=30.0)).ttft_ms == pytest.approx(1)
    cold = a_node(model=replace(A_MODEL, ready_in_s=1.0))
    assert told(cold).ttft_ms - told(a_node()).ttft_ms == pytest.approx(1000)


@given(st.lists(worlds(), min_size=1, max_size=4), worlds())
def test_columns_estimate_what_single_nodes_do_when_nothing_is_cached(others, world):
    view, request, _ = world
    request = replace(request, blocks=PromptBlocks())
    nodes = [
        with_model(replace(node, node=f"n{at}"), cached_tokens_base=0.0, cached_prefix={})
        for at, (_, _, node) in enumerate(others)
    ]
    view = replace(view, nodes=Roll(MODEL, nodes), plan=a_plan(token_price_ms=0.5))
    columns = ServiceColumns(view, request, WEIGHTS)
    for index, node in enumerate(nodes):
        one = estimate(view, request, numbers(node, request), WEIGHTS)
        assert columns.ttft_ms[index] == pytest.approx(one.ttft_ms)
        assert columns.score_ms[index] == pytest.approx(one.score_ms)
        assert columns.service_s[index] == pytest.approx(one.service_s)


@pytest.mark.parametrize("busy", [0.0, 0.25, 0.9])
def test_the_busier_the_fleet_the_less_a_later_token_weighs_for_who_waits_for_the_last(busy):
    """On a fleet at rest a second is a second; a reader's weight stays as it is; the times never change."""
    view, reader = a_view(plan=a_plan(busy=busy)), replace(A_REQUEST, stream=True)
    assert told(view=view).score_ms == pytest.approx(told().ttft_ms + (1.0 - busy) * 500)
    assert told(view=view).total_ms == told().total_ms
    assert told(view=view, request=reader).score_ms == told(request=reader).score_ms
