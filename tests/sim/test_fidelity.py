"""The demo network as a scenario of measured speeds, its session in the simulator, and the comparison."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from isochrone.ports import SettingError
from isochrone.routing import CATALOGUE, find_policy
from isochrone.sim.live.fidelity import (
    Answered,
    Asked,
    bytes_per_token,
    compare,
    ranking_agreement,
    simulate,
    token_chain,
)
from isochrone.sim.live.measured import Measured, Prefill, alike, measured_scenario, slowdowns
from isochrone.sim.scenario.files import Scenario

ALONE = Measured(
    prefills=[Prefill(tokens, 20.0 + 8.0 * tokens) for tokens in (20, 40, 60, 100)],
    step_ms_alone=[18.0, 20.0, 90.0],
    step_ms_together=[30.0, 31.0, 32.0],
    load_s=[0.8, 1.0],
    hop_ms=5.0,
)


def slowed(by: float) -> Measured:
    return Measured(
        prefills=[Prefill(each.uncached_tokens, each.ms * by) for each in ALONE.prefills],
        step_ms_alone=[ms * by for ms in ALONE.step_ms_alone],
        step_ms_together=[ms * by for ms in ALONE.step_ms_together],
        load_s=[s * by for s in ALONE.load_s],
        neighbour_prompt_tokens=[50, 60, 90],
        neighbour_output_tokens=[96, 96, 60],
    )


LEVELS = {1: ALONE, 2: slowed(1.1), 3: slowed(1.6)}
SLOWDOWNS = (1.0, 1.0, 1.1, 1.6)


def scenario() -> Scenario:
    return measured_scenario(LEVELS)


def series(
    policy: str, round_: int = 1, count: int = 12, node: str = "", ttft_ms: float = 500.0
) -> list[Asked]:
    return [
        Asked(
            policy=policy,
            round=round_,
            at_s=1.5 * number,
            system=f"you help client {number % 3} as well as you can".encode() * 3,
            text=f"question {number} in round {round_}".encode() * 4,
            output_tokens_max=16,
            prompt_tokens=50,
            output_tokens=12,
            node=node,
            ttft_ms=ttft_ms + number,
            prefill_ms=400.0,
            cached_tokens=0.0,
        )
        for number in range(count)
    ]


# -- measured ----------------------------------------------------------------------------------------


def test_a_speed_is_the_line_through_prompts_and_the_medians_of_steps() -> None:
    speed = ALONE.speed
    assert speed.prefill_base_ms == pytest.approx(20.0)
    assert speed.prefill_ms_per_token == pytest.approx(8.0)
    assert (speed.tpot_ms, speed.tpot_ms_per_sequence) == (20.0, 11.0)
    assert speed.load_s == pytest.approx(0.9)


def test_noise_can_make_neither_part_of_the_line_negative() -> None:
    falling = replace(ALONE, prefills=[Prefill(10, 200.0), Prefill(50, 190.0), Prefill(90, 170.0)])
    assert falling.speed.prefill_ms_per_token >= 0.0
    steep = replace(ALONE, prefills=[Prefill(10, 10.0), Prefill(50, 450.0)])
    assert steep.speed.prefill_base_ms == 0.0


def test_two_measurements_become_one() -> None:
    both = ALONE.with_more(slowed(2.0))
    assert both.step_ms_alone == [18.0, 20.0, 90.0, 36.0, 40.0, 180.0]
    assert len(both.prefills) == 8
    assert both.neighbour_output_tokens == [96, 96, 60]
    assert both.hop_ms == 5.0


def test_a_pause_of_the_machine_moves_the_line_by_little() -> None:
    prompts = [Prefill(tokens, 20.0 + 8.0 * tokens) for tokens in (5, 6, 20, 40, 60, 80, 100)]
    paused = replace(ALONE, prefills=[*prompts, Prefill(90, 1_500.0)])
    assert paused.speed.prefill_base_ms == pytest.approx(20.0, abs=2.0)
    assert paused.speed.prefill_ms_per_token == pytest.approx(8.0, rel=0.02)


def test_engines_with_cpu_time_of_their_own_are_measured_by_all_levels_together() -> None:
    levels = alike({1: ALONE, 2: slowed(1.0), 3: slowed(1.6)})
    speeds = [each.speed for each in levels.values()]
    assert speeds[0] == speeds[1] == speeds[2]
    assert speeds[0].load_s == pytest.approx((0.8 + 1.0) * 3.6 / 6)
    assert slowdowns(levels, 60, 16) == (1.0, 1.0, 1.0, 1.0)
    assert measured_scenario(levels).node[0].neighbour_prompt_tokens == 60
    assert levels[1].neighbour_prompt_tokens == ()


def test_all_become_slower_by_what_was_measured() -> None:
    assert slowdowns(LEVELS, 60, 16) == pytest.approx(SLOWDOWNS)


def test_the_scenario_has_what_was_measured() -> None:
    found = scenario()
    assert {entry.hardware for entry in found.node} == {"measured"}
    speed = found.hardware["measured"].speeds["smollm2-135m"]
    assert speed == replace(ALONE.speed, load_s=slowed(1.1).speed.load_s)
    assert found.network.same_region_rtt_ms == 5.0
    busy = found.node[0]
    assert (busy.neighbours, busy.neighbour_prompt_tokens, busy.neighbour_output_tokens) == (3, 60, 96)
    assert busy.neighbour_early_share == pytest.approx(1 / 3)


# -- the chain ---------------------------------------------------------------------------------------


def test_equal_beginnings_give_equal_chains_and_no_more() -> None:
    a = token_chain((b"the same beginning, ", b"then a question"), 23, 3.5)
    b = token_chain((b"the same beginning, ", b"then an answer!"), 23, 3.5)
    assert len(a.hashes) == len(set(a.hashes)) == 23
    assert a.prefix_bytes(set(b.hashes)) // a.block_bytes == 3 + 5 + int((20 + len("then a")) / 3.5)
    assert a == token_chain((b"the same beginning, ", b"then a question"), 23, 3.5)


def test_all_prompts_begin_with_the_template_and_go_on_with_it_after_the_system() -> None:
    a, b = (token_chain((system, b"?"), 20, 4.0) for system in (b"be kind" * 3, b"be wise" * 3))
    assert a.prefix_bytes(set(b.hashes)) // a.block_bytes == 3
    short, long = (token_chain((b"be kind.", text), 30, 4.0) for text in (b"!" * 40, b"?" * 40))
    assert short.prefix_bytes(set(long.hashes)) // short.block_bytes == 3 + 2 + 5


def test_the_length_of_a_token_is_that_of_the_texts_without_the_template() -> None:
    assert bytes_per_token([((b"a" * 40, b"b" * 60), 38), ((b"a" * 40, b"b" * 20), 28)]) == 4.0


def test_a_text_shorter_than_its_tokens_still_gives_a_block_for_each() -> None:
    assert len(set(token_chain((b"", b"short"), 20, 4.0).hashes)) == 20


# -- the session -------------------------------------------------------------------------------------


def test_a_session_is_answered_series_by_series_and_the_same_for_a_seed() -> None:
    live = [series("soonest", 0, 4), series("nearest"), series("soonest")]
    answers = simulate(scenario(), live, SLOWDOWNS, seed=3)
    assert [len(each) for each in answers] == [4, 12, 12]
    assert all(each.ttft_ms > 0 for part in answers for each in part)
    assert {each.node for each in answers[1]} == {"near-busy"}
    assert answers == simulate(scenario(), live, SLOWDOWNS, seed=3)
    assert answers != simulate(scenario(), live, SLOWDOWNS, seed=4)


def test_caches_go_on_from_series_to_series() -> None:
    one_each = series("nearest", count=3)
    first, second = simulate(scenario(), [one_each, one_each], SLOWDOWNS, seed=1)
    assert all(each.cached_tokens < 10 for each in first)  # the template, and "you help client "
    assert [each.cached_tokens for each in second] == [49, 49, 49]


def test_cold_models_are_unloaded_before_each_series() -> None:
    parts = simulate(
        scenario(), [series("round-robin", count=3), series("round-robin", count=3)], SLOWDOWNS, seed=1
    )
    for part in parts:
        cold = next(each for each in part if each.node == "near-cold")
        assert cold.ttft_ms > 900.0


def test_the_busy_node_makes_a_request_wait_for_its_neighbours() -> None:
    (answers,) = simulate(scenario(), [series("nearest")], SLOWDOWNS, seed=1)
    waits_ms = [each.ttft_ms for each in answers]
    assert min(waits_ms) > 400.0
    assert max(waits_ms) > 1_500.0


def test_nodes_slow_each_other_down_only_while_others_have_work() -> None:
    def mean_ms(slower: tuple[float, ...], policy: str) -> float:
        (answers,) = simulate(scenario(), [series(policy)], slower, seed=1)
        return sum(each.ttft_ms for each in answers) / len(answers)

    assert mean_ms((1.0, 1.0, 3.0, 9.0), "nearest") == mean_ms((1.0, 1.0, 1.0, 1.0), "nearest")
    assert mean_ms((1.0, 1.0, 3.0, 9.0), "round-robin") > 1.2 * mean_ms((1.0, 1.0, 1.0, 1.0), "round-robin")


@pytest.mark.parametrize("policy", [name for name in CATALOGUE if find_policy(name).probing.per_request])
def test_a_policy_that_probes_is_refused(policy: str) -> None:
    with pytest.raises(SettingError, match=f"^{policy} probes; .* can't switch"):
        simulate(scenario(), [series(policy)], SLOWDOWNS, seed=1)


def test_a_policy_that_hears_who_has_room_comes_after_one_that_does_not() -> None:
    assert find_policy("jiq").idle_news
    parts = [series("random", 0), series("jiq")]
    answers = simulate(scenario(), parts, SLOWDOWNS, seed=1)
    assert [len(each) for each in answers] == [len(each) for each in parts]
    assert all(each.ttft_ms > 0.0 for part in answers for each in part)


@pytest.mark.parametrize("policy", ["random", "least-request"])
def test_luck_falls_as_it_fell_live(policy: str) -> None:
    nodes = ("near-busy", "far-ready", "far-ready", "near-cold")
    live = [
        replace(each, node=nodes[number % 4], at_s=20.0 * number)
        for number, each in enumerate(series(policy, count=6))
    ]
    (answers,) = simulate(scenario(), [live], SLOWDOWNS, seed=1)
    assert [each.node for each in answers] == [each.node for each in live]


def test_luck_moves_no_policy_to_a_node_that_it_would_not_draw() -> None:
    crowd = [replace(each, at_s=0.01 * number) for number, each in enumerate(series("least-request"))]
    live = [replace(each, node="far-ready") for each in crowd]
    (answers,) = simulate(scenario(), [live], SLOWDOWNS, seed=1)
    assert {each.node for each in answers} == {"near-busy", "near-cold", "far-ready"}
    (answers,) = simulate(scenario(), [series("nearest", node="far-ready")], SLOWDOWNS, seed=1)
    assert {each.node for each in answers} == {"near-busy"}


def test_a_policy_by_lot_without_a_live_node_draws_by_itself() -> None:
    (answers,) = simulate(scenario(), [series("random")], SLOWDOWNS, seed=1)
    assert len({each.node for each in answers}) == 3


# -- comparing ---------------------------------------------------------------------------------------


def told(requests: Sequence[Asked], factor: float) -> list[Answered]:
    return [Answered(each.node, each.ttft_ms * factor, 10.0) for each in requests]


def test_the_comparison_tells_how_far_the_simulator_is_off() -> None:
    live = [series("soonest", 0), series("soonest", node="far-ready"), series("random", node="near-cold")]
    simulated = [[told(part, factor) for part in live] for factor in (1.1, 1.3)]
    soonest, random = compare(scenario(), live, simulated)
    assert (soonest.policy, random.policy) == ("soonest", "random")
    assert soonest.requests == 12
    assert soonest.mean.live == pytest.approx(505.5)
    assert soonest.mean.error == pytest.approx(0.2)
    assert soonest.p99.live == 511.0
    assert soonest.mean.live_low <= soonest.mean.live <= soonest.mean.live_high
    assert soonest.mean.simulated_low < soonest.mean.simulated < soonest.mean.simulated_high
    assert soonest.same_node == 1.0
    node = soonest.nodes["far-ready"]
    assert (node.live_share, node.simulated_share, node.simulated_cached_tokens) == (1.0, 1.0, 10.0)
    speed = ALONE.speed
    assert node.slower == pytest.approx(400.0 / (speed.prefill_base_ms + 50 * speed.prefill_ms_per_token))


def test_the_same_order_agrees_and_the_reverse_does_not() -> None:
    live = [
        series(policy, ttft_ms=ms) for policy, ms in (("soonest", 400), ("random", 600), ("nearest", 900))
    ]
    same = compare(scenario(), live, [[told(part, 1.5) for part in live]])
    assert ranking_agreement(same) == pytest.approx(1.0)
    reverse = [told(part, factor) for part, factor in zip(live, (9.0, 3.0, 1.0), strict=True)]
    assert ranking_agreement(compare(scenario(), live, [reverse])) == pytest.approx(-1.0)


def test_an_unanswered_request_is_counted_and_not_averaged() -> None:
    live = [series("soonest")]
    live[0][3] = replace(live[0][3], ttft_ms=float("nan"), node="")
    (line,) = compare(scenario(), live, [[told(series("soonest"), 1.0)]])
    assert line.unanswered == 1
    assert line.mean.live == pytest.approx((505.5 * 12 - 503.0) / 11)
