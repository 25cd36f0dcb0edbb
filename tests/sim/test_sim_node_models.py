"""A simulated node's memory: weights, contexts, prefix caches, loads and evictions. Reckoned by hand."""

from math import inf

import pytest
from sim_node_nouns import PLAIN, REAL, a_job, a_node, dones, firsts, run_dry, timings

from isochrone.fleet.learn import Average
from isochrone.model import ModelState
from isochrone.nodes.inference.speeds import LOAD_MEMORY, expected_load_s
from isochrone.sim.node import ModelReady
from isochrone.sim.spec import ModelSpec

ABSENT, ON_DISK, LOADING, READY = ModelState.ABSENT, ModelState.ON_DISK, ModelState.LOADING, ModelState.READY


def near(expected):
    return pytest.approx(expected, abs=1e-9)


def states(node, now_s: float) -> dict[str, ModelState]:
    return {pulse.name: pulse.state for pulse in node.model_pulses(now_s)}


def ready_in_s(node, now_s: float) -> dict[str, float]:
    return {pulse.name: pulse.ready_in_s for pulse in node.model_pulses(now_s)}


# -- contexts --------------------------------------------------------------------------------------------

BIG = ModelSpec("m", weights_bytes=1000.0, kv_bytes_per_token=2.0)


def test_a_context_that_does_not_fit_waits_and_those_behind_it_too():
    node = a_node(BIG, speed=PLAIN, slots=8, memory_bytes=2000.0)
    node.submit(a_job(0, prompt=200, output=101), 0.0)
    node.submit(a_job(1, prompt=200, output=101), 0.0)
    node.submit(a_job(2, prompt=10, output=11), 0.0)
    assert node.load(0.0).kv_used == near(0.602)
    assert node.memory_free_bytes == 398
    events = run_dry(node)
    assert dones(events) == {0: near(1.0), 2: near(1.1), 1: near(2.0)}
    assert timings(events, 2).queue_ms == near(1000.0)
    assert node.memory_free_bytes == 1000


def test_a_context_that_can_never_fit_is_refused():
    node = a_node(BIG, memory_bytes=2000.0)
    assert node.submit(a_job(0, prompt=400, output=100), 0.0)
    assert not node.submit(a_job(1, prompt=400, output=101), 0.0)


def test_giving_up_frees_the_context():
    node = a_node(BIG, speed=PLAIN, slots=8, memory_bytes=2000.0)
    node.submit(a_job(0, prompt=200, output=201), 0.0)
    node.submit(a_job(1, prompt=200, output=101), 0.0)
    node.cancel(0, 0.5)
    assert dones(run_dry(node)) == {1: near(1.5)}


# -- prefixes --------------------------------------------------------------------------------------------


def a_caching_node(blocks: float = inf, **hardware):
    """Room for so many cached blocks of 25 tokens while nothing runs."""
    facts = {"memory_bytes": 25.0 * blocks, "prefix_block_tokens": 16, **hardware}
    return a_node(ModelSpec("m", 0.0, 1.0), **facts)


def cached(node, number: int, now_s: float, hashes, prompt: int | None = None) -> int:
    """Cached tokens of one more prompt made of these blocks and, unless told, half a block."""
    node.submit(a_job(number, 25 * len(hashes) + 12 if prompt is None else prompt, hashes=hashes), now_s)
    return timings(node.advance(now_s + 50.0), number).cached_tokens


def test_the_leading_blocks_that_are_cached_are_not_computed_again():
    node = a_caching_node()
    assert cached(node, 0, 0.0, (1, 2, 3)) == 0
    node.submit(a_job(1, 25 * 4, hashes=(1, 2, 9, 3)), 100.0)
    assert firsts(run_dry(node)) == {1: near(100.0 + 0.1 + 0.050)}
    assert cached(node, 2, 200.0, (8, 3)) == 0
    assert (node.tokens_prefilled, node.tokens_cached) == (87 + 50 + 62, 50)


def told_together(*chains: tuple[int, ...], slots: int = 4, chunk_tokens: int = 16):
    """A node that was given a prompt of each of these chains at once, and half a block more for each."""
    node = a_caching_node(slots=slots, chunk_tokens=chunk_tokens)
    for number, hashes in enumerate(chains):
        assert node.submit(a_job(number, 25 * len(hashes) + 12, hashes=hashes), 0.0)
    return node


@pytest.mark.parametrize("slots", [1, 4])
def test_in_chunks_a_prompt_finds_what_was_computed_while_it_waited_for_its_turn(slots):
    events = run_dry(told_together((1, 2), (1, 2, 3), (1, 2, 3, 4), slots=slots))
    assert [timings(events, number).cached_tokens for number in range(3)] == [0, 50, 75]
    computed_s = [0.1 + tokens / 1000 for tokens in (62, 37, 37)]
    assert firsts(events) == {at: near(sum(computed_s[: at + 1])) for at in range(3)}


def test_in_one_piece_a_prompt_finds_what_was_there_when_it_got_its_slot():
    events = run_dry(told_together((1, 2), (1, 2, 3), chunk_tokens=0))
    assert [timings(events, number).cached_tokens for number in range(2)] == [0, 0]


def test_a_prompt_whose_turn_comes_as_another_is_given_up_is_looked_up_then():
    node = told_together((1, 2), (8, 9), (1, 2, 3))
    node.cancel(1, 0.2)
    events = run_dry(node)
    assert timings(events, 2).cached_tokens == 50
    assert firsts(events)[2] == near(0.2 + 0.1 + 0.037)


def test_a_prompt_under_way_goes_on_when_one_behind_it_is_given_up():
    node = told_together((1, 2), (8, 9))
    node.cancel(1, 0.1)
    assert firsts(run_dry(node)) == {0: near(0.162)}


def test_one_token_of_a_prompt_is_always_computed():
    node = a_caching_node()
    assert cached(node, 0, 0.0, (1, 2), prompt=50) == 0
    assert cached(node, 1, 100.0, (1, 2), prompt=50) == 49


def test_an_engine_without_a_prefix_cache_caches_nothing():
    node = a_node()
    assert cached(node, 0, 0.0, (1, 2)) == 0
    assert cached(node, 1, 100.0, (1, 2)) == 0


def test_the_least_recently_used_blocks_give_way_a_chains_end_first():
    node = a_caching_node(blocks=8)
    assert cached(node, 0, 0.0, (1, 2, 3)) == 0
    assert cached(node, 1, 100.0, (4, 5)) == 0
    # A context of 113 tokens leaves room for 3 blocks of the 5: of the first chain, only the beginning.
    assert cached(node, 2, 200.0, (), prompt=112) == 0
    assert cached(node, 3, 300.0, (1, 2, 3)) == 25
    # That one's context and its three blocks left room for one block more.
    assert cached(node, 4, 400.0, (4, 5)) == 25


def test_running_contexts_push_the_cache_out_of_memory():
    node = a_caching_node(blocks=4)
    assert cached(node, 0, 0.0, (1,)) == 0
    assert cached(node, 1, 100.0, (), prompt=99) == 0
    assert cached(node, 2, 200.0, (1,)) == 0


# -- loads -----------------------------------------------------------------------------------------------

A, B, C = (ModelSpec(name, weights_bytes=100.0, kv_bytes_per_token=1.0) for name in "abc")


def test_a_cold_model_is_fetched_and_loaded_for_the_job_that_asks_for_it():
    node = a_node(A, B, C, on_disk=("b",), slots=2)
    assert states(node, 0.0) == {"a": READY, "b": ON_DISK, "c": ABSENT}
    assert ready_in_s(node, 0.0) == {"a": 0.0, "b": near(2.0), "c": near(5.0)}
    node.submit(a_job(0, 100, 1, "c"), 1.0)
    assert states(node, 2.0)["c"] is LOADING
    assert node.models_version == 1
    assert ready_in_s(node, 2.0) == {"a": 0.0, "b": near(6.0), "c": near(4.0)}
    node.submit(a_job(1, 100, 1, "a"), 2.0)  # not held up by the one before
    events = run_dry(node)
    assert dones(events) == {1: near(2.2), 0: near(6.2)}
    assert ModelReady("c", near(6.0)) in events
    assert timings(events, 0).load_ms == near(5000.0)
    assert timings(events, 0).queue_ms == 0.0
    came_or_went_to_work = 4  # a and c, each once
    assert (node.models_version, states(node, 7.0)["c"]) == (2 + came_or_went_to_work, READY)


def test_models_at_work_are_told_where_there_are_several():
    node = a_node(A, B, ready=("a", "b"), slots=2)
    node.submit(a_job(0, 100, 1, "a"), 1.0)
    before = node.models_version
    assert {pulse.name: pulse.at_work for pulse in node.model_pulses(1.1)} == {"a": True, "b": False}
    node.submit(a_job(1, 100, 1, "b"), 1.1)
    assert {pulse.name: pulse.at_work for pulse in node.model_pulses(1.15)} == {"a": True, "b": True}
    assert node.models_version > before
    run_dry(node)
    assert not any(pulse.at_work for pulse in node.model_pulses(9.0))


def test_a_model_alone_on_its_node_does_not_tell_that_it_is_at_work():
    node = a_node(A, ready=("a",))
    node.submit(a_job(0, 100, 1, "a"), 1.0)
    assert [pulse.at_work for pulse in node.model_pulses(1.1)] == [False]
    assert node.models_version == 0


def test_loads_go_one_at_a_time_in_the_order_of_asking():
    node = a_node(A, B, C, ready=(), on_disk=("a", "b", "c"))
    for number, model in enumerate("cab"):
        node.submit(a_job(number, 0, 1, model), 0.0)
    assert ready_in_s(node, 0.5) == {"c": near(1.5), "a": near(3.5), "b": near(5.5)}
    assert dones(run_dry(node)) == {0: near(2.1), 1: near(4.1), 2: near(6.1)}


def test_the_least_recently_used_idle_model_is_evicted():
    node = a_node(A, B, C, ready=("a", "b"), on_disk=("c",), memory_bytes=250.0)
    node.submit(a_job(0, 10, 1, "a"), 0.0)
    node.submit(a_job(1, 10, 1, "b"), 1.0)
    node.submit(a_job(2, 10, 1, "a"), 2.0)
    run_dry(node)
    assert ready_in_s(node, 3.0)["c"] == near(2.0 + 0.5 * 2.0)
    node.submit(a_job(3, 10, 1, "c"), 3.0)
    assert states(node, 3.0) == {"a": READY, "b": ON_DISK, "c": LOADING}
    assert dones(run_dry(node)) == {3: near(5.11)}


def test_a_load_waits_until_a_model_is_idle():
    node = a_node(A, B, on_disk=("b",), memory_bytes=250.0, speed=REAL, slots=2)
    node.submit(a_job(0, 10, 90, "a"), 0.0)  # 0.11 + 89 steps of 10 ms: until 1.0
    node.submit(a_job(1, 10, 1, "b"), 0.5)
    assert states(node, 0.5) == {"a": READY, "b": ON_DISK}
    assert ready_in_s(node, 0.5)["b"] == near(62.0)
    assert dones(run_dry(node)) == {0: near(1.0), 1: near(3.11)}


def test_a_load_that_lacks_only_memory_of_contexts_is_not_put_off_by_new_ones():
    node = a_node(
        A, B, on_disk=("b",), memory_bytes=300.0, speed=PLAIN.__class__(0, 0, 10.0, load_s=2.0), slots=2
    )
    node.submit(a_job(0, 49, 101, "a"), 0.0)
    node.submit(a_job(1, 10, 1, "b"), 0.5)  # 50 bytes are free, 100 needed
    node.submit(a_job(2, 1, 31, "a"), 0.6)  # would fit, but comes after the load
    assert dones(run_dry(node)) == {0: near(1.0), 2: near(1.3), 1: near(3.0)}


def test_a_load_that_nobody_wants_any_more_is_not_begun():
    node = a_node(A, B, on_disk=("b",), memory_bytes=150.0)
    node.submit(a_job(0, 10, 11, "a"), 0.0)
    node.submit(a_job(1, 10, 1, "b"), 0.0)
    node.cancel(1, 0.1)
    run_dry(node)
    assert states(node, 9.0) == {"a": READY, "b": ON_DISK}


def test_a_load_once_begun_is_finished_though_its_job_is_given_up():
    node = a_node(A, B, on_disk=("b",))
    node.submit(a_job(0, 10, 1, "b"), 0.0)
    node.cancel(0, 0.1)
    assert run_dry(node) == [ModelReady("b", near(2.0))]


def test_a_jobs_context_may_cost_an_idle_model_its_place():
    node = a_node(A, B, ready=("a", "b"), memory_bytes=250.0)
    node.submit(a_job(0, 99, 1, "a"), 0.0)
    assert states(node, 0.0) == {"a": READY, "b": ON_DISK}
    assert dones(run_dry(node)) == {0: near(0.199)}


def test_jobs_that_do_not_fit_beside_the_other_model_do_not_wait_for_each_other():
    node = a_node(A, B, ready=("a", "b"), memory_bytes=220.0)
    for number in range(4):
        node.submit(a_job(number, 99, 1, "ab"[number % 2]), 0.0)
    events = run_dry(node)
    assert sorted(dones(events)) == [0, 1, 2, 3]
    assert firsts(events)[0] == near(0.199)


# -- placement -------------------------------------------------------------------------------------------


def test_a_placed_model_is_loaded_without_a_job():
    node = a_node(A, B, on_disk=("b",), memory_bytes=150.0)
    node.load_model("b", 1.0)
    node.load_model("b", 1.5)
    node.load_model("nobody", 1.5)
    assert states(node, 1.5) == {"a": ON_DISK, "b": LOADING}
    assert run_dry(node) == [ModelReady("b", near(3.0))]
    node.load_model("b", 4.0)
    assert node.next_event_s == inf


def test_an_idle_model_is_unloaded_and_its_cache_with_it():
    node = a_node(ModelSpec("m", 100.0, 1.0), memory_bytes=1000.0, prefix_block_tokens=16)
    assert cached(node, 0, 0.0, (1, 2)) == 0
    node.unload_model("m", 60.0)
    assert (states(node, 60.0)["m"], node.memory_free_bytes) == (ON_DISK, 1000)
    assert cached(node, 1, 100.0, (1, 2)) == 0
    assert cached(node, 2, 200.0, (1, 2)) == 50


def test_a_model_in_use_is_not_unloaded():
    node = a_node(A)
    node.submit(a_job(0, 100, 1, "a"), 0.0)
    node.unload_model("a", 0.1)
    assert states(node, 0.1)["a"] is READY
    assert dones(run_dry(node)) == {0: near(0.2)}


def test_a_placement_taken_back_before_its_turn_is_not_loaded():
    node = a_node(A, B, C, ready=(), on_disk=("a", "b"))
    node.load_model("a", 0.0)
    node.load_model("b", 0.0)
    node.unload_model("b", 1.0)
    assert run_dry(node) == [ModelReady("a", near(2.0))]


# -- what is claimed of loads ----------------------------------------------------------------------------


def test_a_node_that_does_not_know_its_loads_claims_a_guess_until_it_has_loaded_once():
    models = (ModelSpec("a", weights_bytes=100e6), ModelSpec("b", weights_bytes=100e6))
    node = a_node(*models, ready=("a",), on_disk=("b",), loads_known=False)
    guess_s = expected_load_s(Average(LOAD_MEMORY), 100e6)
    assert guess_s != near(REAL.load_s)
    assert ready_in_s(node, 0.0) == {"a": 0.0, "b": near(guess_s)}
    node.load_model("b", 0.0)
    run_dry(node)
    for model in ("a", "b"):  # the one in memory at the start was loaded before that
        node.unload_model(model, 10.0)
    assert ready_in_s(node, 10.0) == {"a": near(2.0), "b": near(2.0)}
