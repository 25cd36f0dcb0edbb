"""A simulated node's jobs: batches, prompts, slots, faults. All figures are reckoned by hand."""

from math import inf

import pytest
from sim_node_nouns import PLAIN, REAL, a_job, a_node, dones, firsts, run_dry, timings

from isochrone.model import ModelState
from isochrone.ports import SettingError
from isochrone.sim.node import Done, FirstToken, ModelReady
from isochrone.sim.spec import ModelSpec


def near(expected):
    return pytest.approx(expected, abs=1e-9)


# -- batches ---------------------------------------------------------------------------------------------


def test_a_job_alone_takes_its_prompt_and_then_a_step_for_each_further_token():
    node = a_node()
    assert node.next_event_s == inf
    assert node.submit(a_job(7, prompt=400, output=11), 1.0)
    assert node.next_event_s == near(1.5)
    assert node.advance(1.4) == []
    assert node.advance(1.5) == [FirstToken(7, near(1.5))]
    (done,) = node.advance(9.0)
    assert (done.job_id, done.at_s) == (7, near(1.6))
    told = done.timings
    assert (told.queue_ms, told.load_ms, told.prefill_ms, told.decode_ms) == near((0.0, 0.0, 500.0, 100.0))
    assert (told.prompt_tokens, told.cached_tokens, told.output_tokens) == (400, 0, 11)
    assert told.concurrency == near(1.0)
    assert node.next_event_s == inf


def test_an_answer_of_one_token_is_done_with_its_first():
    node = a_node()
    node.submit(a_job(0, prompt=100, output=1), 0.0)
    first, done = run_dry(node)
    assert first == FirstToken(0, near(0.2))
    assert isinstance(done, Done)
    assert done.at_s == first.at_s


def test_without_chunks_decodes_stand_still_while_a_prompt_is_computed():
    node = a_node(slots=4)
    node.submit(a_job(0, prompt=400, output=101), 0.0)
    node.advance(0.6)  # 10 of its 100 further tokens
    node.submit(a_job(1, prompt=100, output=6), 0.6)
    events = run_dry(node)
    assert firsts(events) == {1: near(0.8)}
    assert dones(events) == {1: near(0.8 + 5 * 0.012), 0: near(0.86 + 85 * 0.010)}
    assert timings(events, 1).concurrency == near(2.0)
    assert timings(events, 0).concurrency == near((0.6 + 2 * 0.26 + 0.85) / 1.71)


def test_in_chunks_prompt_and_decodes_slow_each_other():
    node = a_node(slots=4, chunk_tokens=50)
    node.submit(a_job(0, prompt=400, output=101), 0.0)
    node.advance(0.6)
    node.submit(a_job(1, prompt=100, output=6), 0.6)
    events = run_dry(node)
    # 100 ms that hold nobody up (10 tokens), then 2 steps of 10 + 50 ms (2 tokens), then both at 12 ms.
    assert firsts(events) == {1: near(0.82)}
    assert dones(events) == {1: near(0.82 + 5 * 0.012), 0: near(0.88 + 73 * 0.010)}


def test_prompts_are_computed_one_at_a_time_in_order():
    node = a_node(slots=4)
    for number in range(3):
        node.submit(a_job(number, prompt=100), 0.0)
    assert firsts(run_dry(node)) == {0: near(0.2), 1: near(0.4), 2: near(0.6)}


def test_a_step_grows_with_the_sequences_in_it():
    node = a_node(slots=3, speed=REAL.__class__(0, 0, 10.0, 5.0))
    for number, output in enumerate((11, 21, 31)):
        node.submit(a_job(number, output=output), 0.0)
    # 10 steps of 20 ms with three, 10 of 15 ms with two, 10 of 10 ms with one.
    assert dones(run_dry(node)) == {0: near(0.2), 1: near(0.35), 2: near(0.45)}


def test_models_with_work_share_the_compute():
    node = a_node(ModelSpec("a"), ModelSpec("b"), speed=PLAIN, slots=2, ready=("a", "b"))
    node.submit(a_job(0, output=101, model="a"), 0.0)
    node.advance(0.5)
    node.submit(a_job(1, output=101, model="b"), 0.5)
    assert dones(run_dry(node)) == {0: near(1.5), 1: near(2.0)}


def test_the_nodes_own_factor_divides_every_time():
    node = a_node(factor=2.0)
    node.submit(a_job(0, prompt=400, output=11), 0.0)
    events = run_dry(node)
    assert (firsts(events)[0], dones(events)[0]) == near((0.25, 0.30))


# -- slots and queue -------------------------------------------------------------------------------------


def test_first_come_first_served_and_the_wait_is_told_apart_from_the_work():
    node = a_node(speed=PLAIN)
    for number in range(3):
        node.submit(a_job(number, output=101), 0.1 * number)
    events = run_dry(node)
    assert dones(events) == {0: near(1.0), 1: near(2.0), 2: near(3.0)}
    assert timings(events, 2).queue_ms == near(1800.0)
    assert timings(events, 2).decode_ms == near(1000.0)


def test_slots_and_queue_bound_what_is_taken_in():
    node = a_node(speed=PLAIN, slots=2, queue_max=1)
    assert [node.submit(a_job(n, output=101), 0.0) for n in range(5)] == [True, True, True, False, False]
    assert node.submit(a_job(9, output=101), 1.0)  # two have ended by then
    assert sorted(dones(run_dry(node))) == [0, 1, 2, 9]


def test_what_the_node_does_not_list_or_has_no_speed_for_is_refused():
    assert not a_node().submit(a_job(0, model="other"), 0.0)


def test_a_job_that_is_here_is_not_taken_twice():
    node = a_node()
    node.submit(a_job(0, prompt=5), 0.0)
    with pytest.raises(ValueError, match="job 0 is on n already"):
        node.submit(a_job(0, prompt=5), 0.0)


def test_what_ends_now_makes_place_for_what_comes_now():
    node = a_node(speed=PLAIN, queue_max=0)
    node.submit(a_job(0, output=101), 0.0)
    assert node.submit(a_job(1, output=101), 1.0)
    assert node.next_event_s == 0.0  # the first events were not yet asked for
    assert dones(node.advance(2.0)) == {0: near(1.0), 1: near(2.0)}


# -- giving up -------------------------------------------------------------------------------------------


def test_giving_up_a_job_that_waits_lets_the_next_move_up():
    node = a_node(speed=PLAIN)
    for number in range(3):
        node.submit(a_job(number, output=101), 0.0)
    node.cancel(1, 0.5)
    assert dones(run_dry(node)) == {0: near(1.0), 2: near(2.0)}


def test_giving_up_a_prompt_frees_its_slot_and_counts_what_was_computed():
    node = a_node()
    node.submit(a_job(0, prompt=400, output=11), 0.0)
    node.submit(a_job(1, prompt=100, output=1), 0.0)
    node.cancel(0, 0.3)  # 100 ms constant, then 200 tokens
    assert node.tokens_prefilled == 200
    assert dones(run_dry(node)) == {1: near(0.5)}
    assert (node.tokens_prefilled, node.tokens_decoded, node.jobs_done) == (300, 1, 1)


def test_giving_up_a_decode_makes_the_others_faster():
    node = a_node(slots=2, speed=REAL.__class__(0, 0, 10.0, 10.0))
    node.submit(a_job(0, output=101), 0.0)
    node.submit(a_job(1, output=101), 0.0)
    node.cancel(1, 1.0)  # 50 steps of 20 ms
    assert node.tokens_decoded == 51
    assert dones(run_dry(node)) == {0: near(1.5)}


def test_giving_up_what_is_not_here_is_no_error():
    node = a_node()
    node.cancel(3, 0.0)
    node.submit(a_job(3), 0.0)
    run_dry(node)
    node.cancel(3, 1.0)
    assert node.next_event_s == inf


# -- faults ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_tokens", [0, 64])
def test_a_change_of_speed_keeps_the_work_done(chunk_tokens):
    node = a_node(chunk_tokens=chunk_tokens)
    node.submit(a_job(0, prompt=400, output=101), 0.0)
    node.set_speed(0.1, 0.3)  # 200 ms of the prompt are left
    node.advance(2.8)  # first token at 2.3, then 5 tokens in half a second
    node.set_speed(1.0, 2.8)
    assert dones(run_dry(node)) == {0: near(2.8 + 95 * 0.010)}


def test_a_node_that_stands_still_goes_on_where_it_was():
    node = a_node(speed=PLAIN)
    node.submit(a_job(0, output=101), 0.0)
    node.advance(0.0)
    node.set_speed(0.0, 0.4)
    assert node.next_event_s == inf
    node.set_speed(1.0, 10.0)
    assert dones(run_dry(node)) == {0: near(10.6)}


def test_a_negative_speed_is_refused():
    with pytest.raises(ValueError, match="negative"):
        a_node().set_speed(-1.0, 0.0)


def test_power_off_loses_every_job_and_what_was_loaded_since():
    node = a_node(ModelSpec("m"), ModelSpec("cold"), slots=1, on_disk=("cold",))
    node.load_model("cold", 0.0)
    node.advance(2.0)
    for number in range(3):
        node.submit(a_job(number, prompt=400, output=11), 2.0)
    assert node.fail(2.55) == [0, 1, 2]
    assert node.next_event_s == 2.5
    assert node.advance(2.55) == [FirstToken(0, near(2.5))]
    assert (node.next_event_s, node.true_wait_s(2.6)) == (inf, inf)
    assert not node.submit(a_job(3), 3.0)
    assert node.load(3.0).running == 0
    node.revive(4.0)
    assert [pulse.state for pulse in node.model_pulses(4.0)] == [ModelState.READY, ModelState.ON_DISK]
    node.submit(a_job(4, prompt=400, output=11), 4.0)
    assert dones(run_dry(node)) == {4: near(4.6)}
    assert node.busy_s == near(0.55 + 0.6)
    assert (node.tokens_prefilled, node.tokens_decoded) == (800, 6 + 11)


def test_while_power_is_off_nothing_is_loaded():
    node = a_node(ModelSpec("m"), ModelSpec("cold"))
    node.fail(1.0)
    node.load_model("cold", 1.0)
    node.unload_model("m", 1.0)
    assert node.next_event_s == inf
    node.revive(2.0)
    node.revive(2.0)
    assert node.fail(3.0) == []


# -- what it tells ---------------------------------------------------------------------------------------


def test_a_node_tells_expected_lengths_not_true_ones():
    node = a_node(speed=PLAIN)
    node.submit(a_job(0, output=1001), 0.0)
    assert node.load(0.0).backlog_s == near(1.27)  # 128 tokens are expected of the first
    assert node.true_backlog_s(0.0) == near(10.0)
    node.advance(20.0)
    node.submit(a_job(1, output=11), 20.0)
    assert node.load(20.0).backlog_s == near(((128 + 1001) / 2 - 1) * 0.01)
    assert node.load(20.0).wait_s == node.load(20.0).backlog_s
    assert node.true_wait_s(20.0) == near(0.1)


def test_a_node_that_turned_slow_learns_it_from_its_answers():
    node = a_node()
    before = node.model_pulses(0.0)
    assert (before[0].prefill_base_ms, before[0].prefill_ms_per_token, before[0].tpot_ms) == near(
        (100, 1, 10)
    )
    node.set_speed(0.1, 0.0)
    assert node.model_pulses(1.0) is before
    for number in range(60):
        node.submit(a_job(number, prompt=100 + number, output=11), 100.0 * number)
        node.advance(100.0 * number + 99.0)
    (after,) = node.model_pulses(6000.0)
    assert after.tpot_ms == pytest.approx(100.0, rel=0.05)
    at_100_ms = after.prefill_base_ms + 100 * after.prefill_ms_per_token
    assert at_100_ms == pytest.approx(2000.0, rel=0.05)


def test_pulses_are_the_same_object_until_something_is_learned():
    node = a_node()
    before = node.model_pulses(0.0)
    assert node.model_pulses(5.0) is before
    node.submit(a_job(0, prompt=10, output=3), 5.0)
    node.advance(6.0)
    after = node.model_pulses(6.0)
    assert after[0].prefill_base_ms == near(before[0].prefill_base_ms)
    assert node.model_pulses(9.0) is after
    assert node.models_version == 0


def test_true_wait_counts_prompts_under_way_when_slots_are_free():
    node = a_node(slots=4)
    node.submit(a_job(0, prompt=400, output=2), 0.0)
    node.submit(a_job(1, prompt=100, output=2), 0.0)
    assert node.true_wait_s(0.1) == near(0.6)
    assert node.true_wait_s(5.0) == 0.0


def test_true_wait_with_several_slots_of_constant_speed_is_when_the_next_begins():
    node = a_node(speed=PLAIN, slots=2)
    for number, output in enumerate((101, 301, 201, 51)):
        node.submit(a_job(number, output=output), 0.0)
    # 0 ends at 1, 2 at 3, 1 at 3, 3 at 3.5
    assert node.true_wait_s(0.5) == near(2.5)
    assert node.true_backlog_s(0.5) == near(0.5 + 2.5 + 2.0 + 0.5)


def test_a_spec_that_cannot_be_is_told_in_one_line():
    with pytest.raises(SettingError, match="node n: ready names 'x'"):
        a_node(ready=("x",))
    with pytest.raises(
        SettingError, match=r"node n: ready names models of 2.0 GB together, and small has 1.5 GB"
    ):
        a_node(ModelSpec("m", 2e9), memory_bytes=1.5e9)


def test_events_of_a_load_are_told():
    node = a_node(ready=())
    node.load_model("m", 0.0)
    assert node.advance(10.0) == [ModelReady("m", near(5.0))]
