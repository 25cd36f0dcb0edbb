"""When soonest leaves its own nodes for the rest of the fleet."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from routing_nouns import A_MODEL, A_REQUEST, a_choice, a_node, a_plan, a_view

from isochrone.model import FleetView, Homes, Origin, PromptBlocks, name_hash
from isochrone.routing import Router, find_policy, route
from isochrone.routing.estimate import DEFAULT_WEIGHTS, ServiceColumns, typical
from isochrone.routing.gathering import gather

LONG = replace(A_REQUEST, prompt_bytes=40_000)
FASTER = replace(A_MODEL, prefill_ms_per_token=1.0, cached_prefix={})


def a_home(prompt_bytes_mean: float, **beliefs) -> FleetView:
    """One node of our own and a stranger that claims to be faster; the level is half a second."""
    nodes = a_node("own", **beliefs), a_node("stranger", FASTER)
    homes = Homes(np.arange(1), {}, {}, 100.0)
    plan = a_plan(2, level_s=0.5, homes=homes)
    return replace(a_view(*nodes), front=(0,), plan=plan, prompt_bytes_mean=prompt_bytes_mean)


def chosen(view: FleetView, request=A_REQUEST) -> tuple[str, Origin | None]:
    decision = route(view, request, Random(1), Router(find_policy("soonest")))
    assert decision.chosen is not None
    return decision.chosen.node, decision.origin


def test_a_prompt_longer_than_usual_stays_at_home():
    assert a_choice(a_home(400.0), LONG).score_ms(0) > 2 * 500.0
    assert chosen(a_home(400.0), LONG) == ("own", Origin.OWN)


def test_where_a_usual_prompt_would_have_to_wait_a_long_one_leaves_too():
    assert chosen(a_home(400.0, wait_s=2.0), LONG) == ("stranger", Origin.ALL)


def test_where_a_usual_prompt_would_have_to_wait_it_leaves():
    assert chosen(a_home(400.0, wait_s=2.0)) == ("stranger", Origin.ALL)


def test_where_prompts_are_long_the_level_is_for_those():
    assert chosen(a_home(40_000.0), LONG) == ("stranger", Origin.ALL)


def test_a_short_prompt_that_is_well_served_stays_whatever_a_usual_one_would_meet():
    assert chosen(a_home(40_000.0)) == ("own", Origin.OWN)


def test_the_score_of_a_usual_prompt_is_the_one_that_plans_are_made_from():
    view = a_home(1234.0, wait_s=0.25)
    service = ServiceColumns(view, typical(view, LONG), DEFAULT_WEIGHTS)
    assert a_choice(view, LONG).typical_score_ms(0) == pytest.approx(service.score_ms[0])


# -- few nodes that many gateways share --------------------------------------------------------------

NAMES = "abcdefgh"


def shared(slow: str = "", gone: str = "", **beliefs) -> FleetView:
    """Eight nodes that all gateways share, each a bit farther than the last; `slow` ones ten times slower.

    Prompts that begin alike are gathered at all but those that are `gone`.
    """
    nodes = [a_node(name, rtt_ms=10.0 + at, free_slots=1) for at, name in enumerate(NAMES)]
    service_s = np.array([10.0 if name in slow else 1.0 for name in NAMES])
    hashes = np.array([name_hash(name) for name in NAMES], np.uint64)
    present = np.array([at for at, name in enumerate(NAMES) if name not in gone])
    gathering = gather(hashes, 1.0 / service_s, present)
    plan = a_plan(len(NAMES), level_s=1.0, gathering=gathering, service_s=service_s, draws=1.0)
    return replace(a_view(*nodes, **beliefs), plan=plan)


def beginning(*blocks: int, **facts):
    return replace(A_REQUEST, blocks=PromptBlocks(blocks, 64), prompt_bytes=64 * (len(blocks) + 1), **facts)


def gathered_at(view: FleetView, request, luck: int = 1) -> set[str]:
    """All candidates that are looked at."""
    decision = route(view, request, Random(luck), Router(find_policy("soonest")))
    return {candidate.node for candidate in decision.candidates}


def test_prompts_that_begin_alike_are_offered_to_the_same_few_nodes_whoever_asks():
    blocks = tuple(range(100, 108))
    first, second = beginning(*blocks, 7, id="one"), beginning(*blocks, 8, 9, id="two")
    assert gathered_at(shared(), first, luck=1) == gathered_at(shared(), second, luck=2)
    assert len(gathered_at(shared(), first)) == 3
    assert chosen(shared(), first)[1] is Origin.GATHERED


def test_of_those_few_the_soonest_is_taken():
    few = gathered_at(shared(), beginning(5))
    assert chosen(shared(), beginning(5))[0] == min(few)  # the nearest of them


def test_different_beginnings_use_all_nodes_and_slow_ones_less():
    firsts = [
        first
        for number in range(400)
        for first in gathered_at(shared(slow="ab"), beginning(number * 977 + 1))
    ]
    counts = {name: firsts.count(name) for name in NAMES}
    assert max(counts["a"], counts["b"]) < min(counts[name] for name in "cdefgh") / 2
    assert min(counts.values()) > 0


def test_when_one_node_leaves_only_its_own_prompts_move():
    prompts = [beginning(number * 31 + 5) for number in range(40)]
    before, after = ([gathered_at(shared(gone=gone), prompt) for prompt in prompts] for gone in ("", "a"))
    assert all(was == now for was, now in zip(before, after, strict=True) if "a" not in was)
    assert all(was - {"a"} < now for was, now in zip(before, after, strict=True) if "a" in was)


def test_when_the_few_are_crowded_others_are_drawn():
    view = shared()
    few = gathered_at(view, beginning(5))
    waits = [a_node(name, wait_s=60.0 if name in few else 0.0) for name in NAMES]
    crowded = replace(a_view(*waits), plan=view.plan)
    decisions = [
        route(crowded, beginning(5), Random(luck), Router(find_policy("soonest"))) for luck in range(20)
    ]
    assert {d.origin for d in decisions if d.chosen and d.chosen.node not in few} == {Origin.DRAWN}


def test_a_prompt_without_a_whole_block_is_drawn_by_lot():
    assert chosen(shared(), A_REQUEST)[1] is Origin.DRAWN


def test_nothing_is_gathered_where_that_is_switched_off():
    decision = route(shared(), beginning(5), Random(1), Router(find_policy("soonest:gather=0")))
    assert decision.origin is Origin.DRAWN


# -- a front that several gateways choose from -------------------------------------------------------


def crowd(nodes: int, lots: int) -> FleetView:
    """So many nodes of our company, each a bit farther than the last."""
    each = [a_node(f"n{at:02}", rtt_ms=10.0 + at) for at in range(nodes)]
    return replace(a_view(*each), front=tuple(range(nodes)), plan=a_plan(nodes, lots=lots, level_s=1e6))


def choices(view: FleetView, times: int = 200) -> list[str]:
    return [route(view, A_REQUEST, Random(luck), Router()).candidates[0].node for luck in range(times)]


def test_where_nobody_chooses_unheard_the_best_is_taken():
    assert set(choices(crowd(40, lots=1))) == {"n00"}


def test_where_others_choose_unheard_not_all_take_the_best():
    chosen = choices(crowd(40, lots=4))
    assert 0.15 < chosen.count("n00") / len(chosen) < 0.35
    assert chosen.count("n00") > chosen.count("n04") > chosen.count("n12")


def test_of_few_nodes_all_are_looked_at():
    decision = route(crowd(9, lots=4), A_REQUEST, Random(1), Router())
    assert len(decision.candidates) == 9
    assert decision.candidates[0].node == "n00"
    assert len(route(crowd(13, lots=1), A_REQUEST, Random(1), Router()).candidates) == 4
