"""The policies that go by load: who is chosen in views small enough to work out by hand."""

from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from routing_nouns import A_MODEL, a_node, a_view, first, ranked

from isochrone.model import ModelView, NodeView, Probe
from isochrone.routing import find_policy

FLAT = replace(A_MODEL, prefill_base_ms=0.0, prefill_ms_per_token=1e-9, tpot_ms=20.0)
"""A second of service for an answer of 51 tokens, all of it decoding."""
FAST = replace(FLAT, tpot_ms=5.0)


def shares(name: str, view, draws: int = 1000) -> dict[str, float]:
    luck = Random(11)
    counts = Counter(first(name, view, luck) for _ in range(draws))
    return {node: count / draws for node, count in counts.items()}


# -- nearest-with-spill --------------------------------------------------------------------------------


def test_spill_passes_over_a_near_node_with_a_long_wait():
    view = a_view(
        a_node("n", rtt_ms=1.0, wait_s=0.6), a_node("m", rtt_ms=50.0, wait_s=0.5), a_node("f", rtt_ms=90.0)
    )
    assert ranked("nearest-with-spill", view) == "mfn"
    assert first("nearest-with-spill:wait_max_s=0.7", view) == "n"
    assert first("nearest-with-spill:wait_max_s=0.4", view) == "f"


def test_spill_takes_the_shortest_wait_when_all_are_over_the_bound():
    view = a_view(a_node("n", rtt_ms=1.0, wait_s=9.0), a_node("f", rtt_ms=900.0, wait_s=8.0))
    assert ranked("nearest-with-spill", view) == "fn"


def test_spill_can_go_by_what_was_last_heard():
    view = a_view(a_node("n", rtt_ms=1.0, wait_s=9.0, reported_wait_s=0.0), a_node("f", rtt_ms=90.0))
    assert first("nearest-with-spill", view) == "f"
    assert first("nearest-with-spill:corrected=0", view) == "n"


# -- power of d ----------------------------------------------------------------------------------------


def test_two_choices_find_the_idle_one_of_two():
    view = a_view(a_node("a", running=1, queued=2), a_node("b", running=2))
    assert {ranked("p2c", view, Random(seed)) for seed in range(20)} == {"ba"}


def test_two_choices_of_three_never_take_the_most_loaded():
    view = a_view(a_node("a", running=5), a_node("b", running=1), a_node("c", queued=3))
    got = shares("p2c", view)
    assert got.keys() == {"b", "c"}
    assert got["b"] == pytest.approx(2 / 3, abs=0.06)
    assert shares("p2c:d=3", view) == {"b": 1.0}
    assert shares("p2c:d=1", view).keys() == set("abc")


def test_own_requests_count_only_where_they_are_asked_for():
    view = a_view(a_node("a", running=1, own_unseen=5), a_node("b", running=2))
    assert first("p2c", view) == "a"
    assert first("p2c-own", view) == "b"


def test_by_capacity_a_busy_fast_node_beats_an_idle_slow_one():
    """Four times as fast and with two requests, it has three quarters of a request for each unit."""
    view = a_view(a_node("s", FLAT), a_node("f", FAST, running=2))
    assert first("p2c", view) == "s"
    assert first("p2c-weighted:d=2", view) == "f"
    with_own = a_view(a_node("s", FLAT), a_node("f", FAST, running=2, own_unseen=2))
    assert first("p2c-weighted", with_own) == "f"
    assert first("p2c-weighted-own", with_own) == "s"


def test_weighted_draws_go_by_capacity():
    """One draw of one: four slots at four times the speed are sixteen seventeenths of all capacity."""
    view = a_view(a_node("s", FLAT), a_node("f", FAST, slots=4))
    assert shares("p2c-weighted:d=1", view)["f"] == pytest.approx(16 / 17, abs=0.03)


# -- peak EWMA -----------------------------------------------------------------------------------------


def measured(peak_ms: float) -> ModelView:
    return replace(A_MODEL, ttft_peak_ms=peak_ms)


def test_peak_ewma_multiplies_latency_by_requests_outstanding():
    view = a_view(a_node("a", measured(100.0), own_in_flight=2), a_node("b", measured(250.0)))
    assert ranked("peak-ewma", view) == "ba"
    assert ranked("peak-ewma", a_view(a_node("a", measured(100.0), own_in_flight=1), view.nodes[1])) == "ab"


def test_peak_ewma_tries_an_unmeasured_node_once():
    new, known = a_node("n", measured(0.0)), a_node("k", measured(100.0), own_in_flight=9)
    assert first("peak-ewma", a_view(new, known)) == "n"
    assert first("peak-ewma", a_view(replace(new, own_in_flight=1), known)) == "k"
    assert first("peak-ewma:prior_ms=30", a_view(replace(new, own_in_flight=1), known)) == "n"
    assert first("peak-ewma:prior_ms=600", a_view(replace(new, own_in_flight=1), known)) == "k"


# -- shortest expected delay ---------------------------------------------------------------------------


def test_expected_delay_counts_this_request_too():
    """(3 + 1) / 4 is as long as (0 + 1) / 1: one more and the slow one is shorter."""
    slow = a_node("s", FLAT)
    assert first("shortest-expected-delay", a_view(slow, a_node("f", FAST, running=2))) == "f"
    assert first("shortest-expected-delay", a_view(slow, a_node("f", FAST, running=2, queued=2))) == "s"
    assert first("shortest-expected-delay", a_view(slow, a_node("f", FAST, own_unseen=4))) == "s"


def test_expected_delay_of_virtual_server_knows_its_own_connections_only():
    view = a_view(a_node("a", FLAT, running=9), a_node("b", FLAT, own_unseen=1, own_in_flight=1))
    assert first("shortest-expected-delay", view) == "b"
    assert first("shortest-expected-delay:reported=0", view) == "a"


# -- Join-Idle-Queue -----------------------------------------------------------------------------------


def test_jiq_takes_idle_nodes_first_come_first():
    view = a_view(*(a_node(name) for name in "abcd"), idle=(2, 0))
    for seed in range(10):
        order = ranked("jiq", view, Random(seed))
        assert order[:2] == "ca"
        assert sorted(order) == list("abcd")


def test_jiq_passes_over_idle_nodes_that_are_gone_or_tried():
    view = a_view(a_node("a", unavailable="is leaving"), *(a_node(name) for name in "bc"), idle=(0, 1, 2))
    assert first("jiq", view) == "b"
    assert first("jiq", view.without(frozenset("b"))) == "c"


def test_jiq_without_an_idle_node_goes_by_lot():
    view = a_view(a_node("s", FLAT), a_node("f", FAST))
    assert shares("jiq", view)["f"] == pytest.approx(0.5, abs=0.06)
    assert shares("jiq:weighted=1", view)["f"] == pytest.approx(0.8, abs=0.06)


# -- C3 ------------------------------------------------------------------------------------------------


def c3_node(name: str, response_ms: float, service_ms: float, **beliefs) -> NodeView:
    return a_node(name, replace(A_MODEL, response_ms=response_ms, service_ms=service_ms), **beliefs)


def test_c3_is_response_beside_service_plus_the_cube_of_the_queue():
    """a: 130 - 10 + 8 * 10 = 200. b: 150 - 50 + 1 * 50 = 150. With one more ahead, b: 100 + 8 * 50 = 500."""
    a = c3_node("a", 130.0, 10.0, queued=1)
    assert ranked("c3", a_view(a, c3_node("b", 150.0, 50.0))) == "ba"
    assert ranked("c3", a_view(a, c3_node("b", 150.0, 50.0, own_in_flight=1))) == "ab"
    assert ranked("c3:exponent=0", a_view(a, c3_node("b", 120.0, 50.0, own_in_flight=9))) == "ba"


def test_c3_lets_own_requests_stand_for_those_of_other_clients():
    """a: 10 + 2 ** 3 * 10 = 90 against b's 100 + 10; with four clients a: 10 + 5 ** 3 * 10."""
    view = a_view(c3_node("a", 20.0, 10.0, own_in_flight=1), c3_node("b", 110.0, 10.0))
    assert first("c3", view) == "a"
    assert first("c3:clients_weight=4", view) == "b"


def test_c3_shares_the_service_time_among_the_slots():
    view = a_view(c3_node("a", 100.0, 40.0, running=1), c3_node("b", 100.0, 40.0, running=1, slots=4))
    assert first("c3", view) == "b"


def test_c3_takes_the_estimate_where_nothing_was_measured():
    near = a_node("n", replace(FLAT, response_ms=0.0, service_ms=0.0), rtt_ms=5.0)
    assert first("c3", a_view(near, replace(near, node="f", rtt_ms=200.0))) == "n"


# -- Prequal -------------------------------------------------------------------------------------------


def probe(index: int, in_flight: int, latency_ms: float) -> Probe:
    return Probe(index, in_flight, latency_ms, at_s=99.9)


FOUR = tuple(a_node(name) for name in "abcd")
RECENT = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
"""Of these, 8 is the 0.84 quantile."""


def test_prequal_takes_the_least_latency_of_the_cold():
    pool = (probe(0, 8, 300.0), probe(1, 2, 400.0), probe(2, 9, 10.0))
    view = a_view(*FOUR, probes=pool, probed_in_flight=RECENT)
    assert ranked("prequal", view) == "abc"


def test_prequal_takes_the_least_loaded_when_all_are_hot():
    pool = (probe(0, 12, 300.0), probe(1, 11, 400.0), probe(2, 13, 10.0))
    assert ranked("prequal", a_view(*FOUR, probes=pool, probed_in_flight=RECENT)) == "bac"


def test_prequal_by_latency_alone_and_by_load_alone():
    view = a_view(*FOUR, probes=(probe(0, 12, 300.0), probe(1, 1, 400.0)), probed_in_flight=RECENT)
    assert first("prequal", view) == "b"
    assert first("prequal:q_rif=1", view) == "a"
    latent = a_view(*FOUR, probes=(probe(0, 2, 1.0), probe(1, 1, 400.0)), probed_in_flight=RECENT)
    assert first("prequal", latent) == "a"
    assert first("prequal:q_rif=0", latent) == "b"


def test_prequal_draws_when_fewer_than_two_answers_are_left():
    view = a_view(*FOUR, probes=(probe(0, 1, 5.0), probe(1, 1, 4.0)), probed_in_flight=RECENT)
    assert first("prequal", view) == "b"
    assert shares("prequal", view.without(frozenset("b"))).keys() == set("acd")
    assert shares("prequal", a_view(*FOUR)).keys() == set("abcd")


def test_prequal_says_how_to_probe():
    assert find_policy("prequal").probing.per_request == 3.0
    tuned = find_policy("prequal:q_rif=0.9,pool_max=6,per_request=1.5")
    assert (tuned.probing.pool_max, tuned.probing.per_request, tuned.parameters.q_rif) == (6, 1.5, 0.9)
    assert find_policy("soonest").probing.per_request == 0.0


# -- least delay, drawn --------------------------------------------------------------------------------


def test_stale_greedy_believes_what_it_last_heard():
    view = a_view(a_node("a", reported_wait_s=0.1, wait_s=4.0), a_node("b", reported_wait_s=0.2, wait_s=0.3))
    assert first("stale-greedy", view) == "a"
    assert first("corrected", view) == "b"
    assert first("drawn", view) == "b"
    assert first("drawn:corrected=0", view) == "a"


def test_delay_is_wait_and_service_and_the_round_trip_only_when_asked():
    """1 s of service against 0.25 s and half a second of wait."""
    near, far = a_node("n", FLAT, rtt_ms=1.0), a_node("f", FAST, wait_s=0.5, rtt_ms=300.0)
    for name in ("corrected", "drawn"):
        assert first(name, a_view(near, far)) == "f"
        assert first(f"{name}:rtt_weight=1", a_view(near, far)) == "n"


def test_one_draw_is_a_draw_by_capacity():
    view = a_view(a_node("s", FLAT), a_node("f", FAST))
    assert shares("drawn:d=1", view)["f"] == pytest.approx(0.8, abs=0.05)
    assert shares("drawn:d=1,weighted=0", view)["f"] == pytest.approx(0.5, abs=0.06)
