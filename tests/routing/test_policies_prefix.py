"""The policies that go by prompt, region or prediction: who is chosen in views worked out by hand."""

from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from routing_nouns import A_MODEL, A_REQUEST, a_node, a_view, first, ranked

from isochrone.model import ModelState, ModelView, PromptBlocks, Request
from isochrone.routing import find_policy

COLD = replace(A_MODEL, cached_prefix={})
WARM = replace(A_MODEL, cached_prefix={1: None, 2: None, 3: None, 4: None})
HALF = replace(A_MODEL, cached_prefix={1: None, 2: None})
PROMPT = Request("r", A_REQUEST.model, prompt_bytes=256, blocks=PromptBlocks((1, 2, 3, 4)))


def prompts(count: int) -> list[Request]:
    """Prompts without anything in common."""
    return [replace(PROMPT, blocks=PromptBlocks((at * 97 + 5, at * 97 + 6, at))) for at in range(count)]


def chosen(name: str, view, request: Request = PROMPT, luck: Random | None = None) -> str:
    return first(name, view, luck, request)


# -- bounded-load hash ---------------------------------------------------------------------------------

TEN = a_view(*(a_node(name) for name in "abcdefghij"))


def test_a_prefix_has_one_owner_and_prefixes_are_spread():
    owners = Counter(chosen("bounded-load-hash", TEN, request) for request in prompts(500))
    assert len(owners) == 10
    assert min(owners.values()) > 25
    longer = replace(PROMPT, id="s", blocks=PromptBlocks((1, 2, 9, 9, 9)))
    assert chosen("bounded-load-hash", TEN, longer) == chosen("bounded-load-hash", TEN)
    assert ranked("bounded-load-hash", TEN, request=longer) == ranked(
        "bounded-load-hash", TEN, request=PROMPT
    )


def test_how_much_of_the_prompt_belongs_together_can_be_set():
    others = [replace(PROMPT, blocks=PromptBlocks((1, 2, at, at))) for at in range(10, 40)]
    assert len({chosen("bounded-load-hash", TEN, other) for other in others}) == 1
    assert len({chosen("bounded-load-hash:prefix_blocks=3", TEN, other) for other in others}) > 5


def test_prompts_too_short_for_a_block_are_spread():
    owners = {chosen("bounded-load-hash", TEN, Request(f"r{at}", A_REQUEST.model)) for at in range(100)}
    assert len(owners) == 10


def test_who_comes_or_goes_moves_only_its_own_prefixes():
    fewer = TEN.without(frozenset("d"))
    for request in prompts(100):
        before = chosen("bounded-load-hash", TEN, request)
        assert before == "d" or chosen("bounded-load-hash", fewer, request) == before


def test_a_full_owner_hands_on_to_the_next_by_hash():
    """Five own requests on it and none elsewhere: ceil(1.25 * 6 / 10) is 1, so it takes no more."""
    order = ranked("bounded-load-hash", TEN, request=PROMPT)
    busy = a_view(*(a_node(name, own_in_flight=5 * (name == order[0])) for name in "abcdefghij"))
    assert ranked("bounded-load-hash", busy, request=PROMPT)[:8] == order[1:9]
    assert chosen("bounded-load-hash:eps=9", busy) == order[0]


def test_the_bound_counts_reports_and_capacity_when_asked():
    order = ranked("bounded-load-hash", TEN, request=PROMPT)
    busy = a_view(*(a_node(name, queued=5 * (name == order[0])) for name in "abcdefghij"))
    assert chosen("bounded-load-hash", busy) == order[0]
    assert chosen("bounded-load-hash:reported=1", busy) == order[1]
    large = a_view(*(replace(node, slots=1 + 99 * (node.node == order[0])) for node in busy.nodes))
    assert chosen("bounded-load-hash:reported=1,weighted=1", large) == order[0]


# -- two hashes ----------------------------------------------------------------------------------------


def owners_of(view, request: Request = PROMPT) -> tuple[str, str]:
    order = ranked("two-hash-prefix", view, request=request)
    return order[0], order[1]


def test_a_prefix_has_two_owners_whatever_their_load():
    pairs = {frozenset(owners_of(TEN, request)) for request in prompts(300)}
    assert len(pairs) > 35  # of 45
    assert all(len(pair) == 2 for pair in pairs)
    one, other = owners_of(TEN)
    slow_rest = a_view(*(replace(node, wait_s=9.0 * (node.node in {one, other})) for node in TEN.nodes))
    assert set(owners_of(slow_rest)) == {one, other}


def test_the_warmer_of_the_two_is_taken_until_it_would_be_late():
    one, other = owners_of(TEN)
    for warm, cold in ((one, other), (other, one)):
        models = {warm: WARM}

        def view(wait_s: float, warm=warm, models=models):
            return a_view(
                *(a_node(n, models.get(n, COLD), wait_s=wait_s * (n == warm)) for n in "abcdefghij")
            )

        assert chosen("two-hash-prefix", view(0.0)) == warm
        assert chosen("two-hash-prefix", view(4.0)) == warm
        assert chosen("two-hash-prefix", view(6.0)) == cold
        assert chosen("two-hash-prefix:slo_ttft_ms=1000", view(4.0)) == cold


def test_two_equally_cold_owners_are_told_apart_by_time():
    one, other = owners_of(TEN)
    view = a_view(*(a_node(n, COLD, wait_s=0.01 * (n == one)) for n in "abcdefghij"))
    assert chosen("two-hash-prefix", view) == other


# -- weighted scorers ----------------------------------------------------------------------------------


def test_scorers_add_up_prefix_queue_and_cache():
    """a: 0.5 + 1 + 0.5 = 2. b: 1 + 0 + 0.9 = 1.9; with 3, 2, 2: a 4.5, b 4.8."""
    view = a_view(a_node("a", HALF, kv_used=0.5), a_node("b", WARM, queued=4, kv_used=0.1))
    assert chosen("gie-1-1-1", view) == "a"
    assert chosen("gie-3-2-2", view) == "b"


def test_the_queue_score_is_relative_to_all_usable_nodes():
    """b, halfway, scores 0.5 while c is there; c gone, it is the longest and scores 0."""
    a, b = a_node("a", COLD, kv_used=0.6), a_node("b", COLD, queued=5)
    c = a_node("c", COLD, queued=10, kv_used=1.0)
    assert chosen("gie-1-1-1", a_view(a, b, c)) == "b"
    assert chosen("gie-1-1-1", a_view(a, b, replace(c, unavailable="is leaving"))) == "a"
    assert chosen("gie-1-1-1", a_view(a, b, c).without(frozenset("c"))) == "a"


def test_scorers_do_not_see_own_requests_unless_asked():
    view = a_view(a_node("a", COLD, own_unseen=3), a_node("b", COLD, kv_used=0.1))
    assert chosen("gie-1-1-1", view) == "a"
    assert chosen("gie-1-1-1:own=1", view) == "b"


def test_scorers_draw_lots_between_equals():
    view, luck = a_view(*(a_node(name, COLD, queued=2) for name in "abc")), Random(3)
    drawn = Counter(chosen("gie-1-1-1", view, luck=luck) for _ in range(600))
    assert min(drawn[name] for name in "abc") > 150


# -- selective pushing ---------------------------------------------------------------------------------


def test_pushing_stays_in_the_region_while_a_node_there_has_no_queue():
    here, there = a_node("h", COLD, rtt_ms=2.0, running=7), a_node("t", WARM, rtt_ms=80.0)
    assert chosen("skylb", a_view(here, there)) == "h"
    assert chosen("skylb", a_view(replace(here, queued=1), there)) == "t"
    assert chosen("skylb:region_rtt_ms=100", a_view(here, there)) == "t"


def test_pushing_goes_on_to_the_nearest_region_with_room():
    regions = (
        a_node("h", COLD, rtt_ms=2.0, queued=1),
        a_node("n", COLD, rtt_ms=40.0, running=3),
        a_node("f", WARM, rtt_ms=90.0),
    )
    assert ranked("skylb", a_view(*regions), request=PROMPT) == "nfh"


def test_pushing_goes_by_hit_then_by_load():
    cold, warm = a_node("c", COLD), a_node("w", WARM, running=5)
    assert chosen("skylb", a_view(cold, warm)) == "w"
    assert chosen("skylb", a_view(cold, replace(warm, node="x", running=0))) == "x"
    half = a_node("h", HALF, running=5)
    assert chosen("skylb", a_view(cold, half)) == "h"
    assert chosen("skylb:hit_min=0.6", a_view(cold, half)) == "c"


def test_with_no_room_anywhere_it_waits_here():
    view = a_view(
        a_node("h", rtt_ms=2.0, queued=9),
        a_node("i", rtt_ms=3.0, queued=4),
        a_node("f", rtt_ms=80.0, queued=1),
    )
    assert ranked("skylb", view) == "ihf"


def test_pushing_can_count_what_was_just_pushed():
    view = a_view(a_node("h", rtt_ms=2.0, slots=2, own_in_flight=2), a_node("f", rtt_ms=80.0))
    assert chosen("skylb", view) == "h"
    assert chosen("skylb:own=1", view) == "f"


# -- GORGO ---------------------------------------------------------------------------------------------

PREFILL = ModelView(ModelState.READY, prefill_ms_per_token=1.0, tpot_ms=10.0)
"""64 tokens of prompt and 8 of template: 72 ms of prefill."""


def test_gorgo_adds_round_trip_prefill_and_what_is_ahead():
    """h: 10 + 72 * (1 + 1) = 154; f: 100 + 72 = 172, which a running request here makes the less."""
    here, there = a_node("h", PREFILL, rtt_ms=10.0, queued=1), a_node("f", PREFILL, rtt_ms=100.0)
    assert chosen("gorgo", a_view(here, there)) == "h"
    assert chosen("gorgo", a_view(replace(here, running=1), there)) == "f"
    assert chosen("gorgo:rtt_weight=0", a_view(here, there)) == "f"
    assert chosen("gorgo:running_weight=0.1", a_view(replace(here, running=1), there)) == "h"
    assert chosen("gorgo:own=1", a_view(replace(here, own_unseen=1), there)) == "f"


def test_gorgo_takes_off_what_is_cached():
    warm = replace(PREFILL, cached_prefix=WARM.cached_prefix)
    here, there = a_node("h", PREFILL, rtt_ms=10.0), a_node("f", warm, rtt_ms=80.0)
    assert chosen("gorgo", a_view(here, there)) == "f"
    assert chosen("gorgo:prefill_ms_per_token=0.5", a_view(here, there)) == "h"


# -- predicted latency ---------------------------------------------------------------------------------


def timed(name: str, ttft_ms: float, tpot_ms: float = 10.0):
    """A node whose first token is predicted after this: all of it round trip."""
    return a_node(name, ModelView(ModelState.READY, prefill_base_ms=1e-6, tpot_ms=tpot_ms), rtt_ms=ttft_ms)


STEADY = "predicted-latency:explore=0"


def test_headroom_is_packed_or_spread():
    view = a_view(timed("a", 200.0), timed("b", 900.0), timed("c", 1100.0), timed("d", 500.0))
    assert ranked(STEADY, view) == "bdac"
    assert ranked(f"{STEADY},most=1", view) == "adbc"
    assert ranked(f"{STEADY},slo_ttft_ms=600", view) == "dabc"


def test_headroom_in_one_of_the_two_is_none():
    view = a_view(timed("a", 900.0, tpot_ms=200.0), timed("b", 100.0))
    assert ranked(STEADY, view) == "ba"
    assert ranked(f"{STEADY},slo_tpot_ms=300", view)[0] == "a"


def test_without_objectives_the_soonest_wins():
    view = a_view(timed("a", 300.0), timed("b", 100.0), timed("c", 200.0))
    assert ranked(f"{STEADY},slo_ttft_ms=0,slo_tpot_ms=0", view) == "bca"


def test_a_warm_node_goes_first():
    warm = replace(WARM, prefill_base_ms=1.0)
    view = a_view(timed("a", 900.0), a_node("w", warm))
    assert first(STEADY, view, request=PROMPT) == "w"
    assert first(f"{STEADY},hit_min=2", view, request=PROMPT) == "a"


def test_a_lot_is_drawn_among_those_with_headroom():
    view, luck = a_view(timed("a", 200.0), timed("b", 900.0), timed("c", 1100.0)), Random(4)
    drawn = Counter(first(f"{STEADY},lot=1", view, luck) for _ in range(500))
    assert drawn["c"] == 0
    assert drawn["b"] > drawn["a"] > 0
    spread = Counter(first(f"{STEADY},lot=1,most=1", view, luck) for _ in range(500))
    assert spread["a"] > spread["b"] > 0


def test_now_and_then_a_node_without_headroom_is_tried():
    view, luck = a_view(timed("a", 200.0), timed("z", 5000.0)), Random(4)
    drawn = Counter(first("predicted-latency:explore=0.25", view, luck) for _ in range(800))
    assert drawn["z"] / 800 == pytest.approx(0.25, abs=0.05)
    assert find_policy("predicted-latency").parameters.explore == 0.01


def test_the_least_miss_is_what_is_tried_now_and_then():
    view = a_view(timed("a", 200.0), timed("y", 3000.0), timed("z", 5000.0))
    assert ranked("predicted-latency:explore=1", view) == "yza"
    assert ranked("predicted-latency:explore=1", view.without(frozenset("yz"))) == "a"
    both_meet = a_view(timed("a", 200.0), timed("b", 900.0))
    assert ranked("predicted-latency:explore=1", both_meet) == "ba"
