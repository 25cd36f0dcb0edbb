"""Whatever is asked of a simulated node, no job is lost or told twice and memory keeps its bound."""

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sim_node_nouns import REAL, a_job, a_node, dones, firsts, run_dry, timings

from isochrone.sim.node import Done, FirstToken, NodeEvent, SimNode
from isochrone.sim.spec import ModelSpec

MEMORY_BYTES = 1000.0
MODELS = (ModelSpec("a", 200.0, 1.0), ModelSpec("b", 300.0, 2.0), ModelSpec("c", 450.0, 0.5))

gaps_s = st.sampled_from((0.0, 0.01, 0.1, 0.35, 1.0, 4.0))
names = st.sampled_from("abc")
submits = st.tuples(
    st.just("submit"), names, st.integers(0, 150), st.integers(1, 120), st.integers(0, 5), st.integers(0, 3)
)
others = st.one_of(
    st.tuples(st.just("cancel"), st.integers(0, 12)),
    st.tuples(st.sampled_from(("load_model", "unload_model")), names),
    st.tuples(st.just("set_speed"), st.sampled_from((0.1, 1.0, 3.0))),
)
faults = st.tuples(st.sampled_from(("fail", "revive")))
scripts = st.lists(st.tuples(gaps_s, st.one_of(submits, submits, submits, others, faults)), max_size=40)
nodes = st.fixed_dictionaries(
    {
        "slots": st.integers(1, 4),
        "queue_max": st.integers(0, 6),
        "chunk_tokens": st.sampled_from((0, 16, 64)),
        "prefix_block_tokens": st.sampled_from((0, 16)),
    }
)


@dataclass
class Played:
    """What came of a script."""

    node: SimNode
    events: list[NodeEvent] = field(default_factory=list)
    taken: list[int] = field(default_factory=list)
    cancelled: set[int] = field(default_factory=set)
    lost: list[int] = field(default_factory=list)
    now_s: float = 0.0


def play(script, hardware, *, steps: bool) -> Played:
    """Do as the script says; with `steps`, look at the node again and again between its lines."""
    node = a_node(*MODELS, speed=REAL, on_disk=("b",), memory_bytes=MEMORY_BYTES, **hardware)
    played = Played(node)
    for number, (gap_s, line) in enumerate(script):
        if steps:
            for part in range(1, 5):
                played.events += node.advance(played.now_s + gap_s * part / 5)
                look_at(node, played.now_s + gap_s * part / 5)
            while node.next_event_s <= played.now_s + gap_s:
                played.events += node.advance(node.next_event_s)
        played.now_s += gap_s
        obey(played, number, *line)
        check_memory(node)
    node.revive(played.now_s)
    played.events += run_dry(node) if steps else node.advance(1e9)
    return played


def obey(played: Played, number: int, verb: str, *what) -> None:
    node, now_s = played.node, played.now_s
    if verb == "submit":
        model, prompt, output, blocks, chain = what
        hashes = range(100 * chain, 100 * chain + blocks)
        if node.submit(a_job(number, prompt, output, model, hashes=hashes), now_s):
            played.taken.append(number)
    elif verb == "cancel":
        node.cancel(number - what[0], now_s)
        played.cancelled.add(number - what[0])
    elif verb == "fail":
        played.lost += node.fail(now_s)
    else:
        getattr(node, verb)(*what, now_s)


def look_at(node: SimNode, now_s: float) -> None:
    """Reading must change nothing."""
    assert node.load(now_s).backlog_s >= 0.0
    assert node.true_backlog_s(now_s) >= 0.0
    assert node.true_wait_s(now_s) >= 0.0
    assert len(node.model_pulses(now_s)) == len(MODELS)


def check_memory(node: SimNode) -> None:
    memory = node._memory
    held = memory.weights_bytes + memory.contexts_bytes
    assert min(memory.weights_bytes, memory.contexts_bytes, memory.cached_bytes) >= 0.0
    assert held + memory.cached_bytes <= MEMORY_BYTES
    assert node.memory_free_bytes == MEMORY_BYTES - held


@settings(max_examples=150, deadline=None)
@given(scripts, nodes)
def test_no_job_is_lost_or_told_twice_and_memory_keeps_its_bound(script, hardware):
    played = play(script, hardware, steps=True)
    ended = Counter(event.job_id for event in played.events if isinstance(event, Done))
    begun = Counter(event.job_id for event in played.events if isinstance(event, FirstToken))
    assert set(ended.values()) | set(begun.values()) <= {1}
    assert not set(ended) & set(played.lost)
    assert set(played.taken) - played.cancelled - set(played.lost) <= set(ended) <= set(begun)
    assert set(begun) <= set(played.taken)
    assert played.node.jobs_done == len(ended)
    assert played.node.load(1e9).running == played.node.load(1e9).queued == 0
    assert played.node._memory.contexts_bytes == 0.0
    times = [event.at_s for event in played.events]
    assert times == sorted(times)


@settings(max_examples=150, deadline=None)
@given(scripts, nodes)
def test_one_leap_is_the_same_as_many_steps(script, hardware):
    leap, steps = (play(script, hardware, steps=steps) for steps in (False, True))
    assert leap.events == steps.events
    assert (leap.taken, leap.lost) == (steps.taken, steps.lost)
    for meter in ("tokens_prefilled", "tokens_decoded", "tokens_cached", "jobs_done"):
        assert getattr(leap.node, meter) == getattr(steps.node, meter)
    assert leap.node.busy_s == pytest.approx(steps.node.busy_s)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(gaps_s, submits), max_size=30), nodes)
def test_every_token_of_every_job_is_counted_once(script, hardware):
    played = play(script, hardware, steps=False)
    told = [event.timings for event in played.events if isinstance(event, Done)]
    assert len(told) == len(played.taken)
    node = played.node
    assert node.tokens_cached == sum(one.cached_tokens for one in told)
    assert node.tokens_prefilled + node.tokens_cached == sum(one.prompt_tokens for one in told)
    assert node.tokens_decoded == sum(one.output_tokens for one in told)
    assert all(0 <= one.cached_tokens <= max(0, one.prompt_tokens - 1) for one in told)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(gaps_s, st.integers(0, 300), st.integers(1, 100)), min_size=1, max_size=15))
def test_with_one_slot_the_true_wait_is_when_the_next_job_begins(script):
    node, now_s, events, waits_s = a_node(), 0.0, [], {}
    for number, (gap_s, prompt, output) in enumerate(script):
        now_s += gap_s
        waits_s[number] = node.true_wait_s(now_s)
        assert node.submit(a_job(number, prompt, output), now_s)
    events += run_dry(node)
    queued_s = {number: timings(events, number).queue_ms / 1e3 for number in waits_s}
    assert queued_s == pytest.approx(waits_s, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(gaps_s, st.integers(1, 100)), min_size=1, max_size=20), st.integers(1, 4))
def test_the_true_backlog_of_a_single_slot_is_when_all_is_done(script, chunk_tokens):
    node, now_s = a_node(chunk_tokens=chunk_tokens), 0.0
    for number, (gap_s, output) in enumerate(script):
        now_s += gap_s
        node.submit(a_job(number, 7 * output, output), now_s)
    backlog_s = node.true_backlog_s(now_s)
    ends = [event.at_s for event in run_dry(node) if isinstance(event, Done)]
    assert max(now_s, *ends, now_s) - now_s == pytest.approx(backlog_s, abs=1e-6)


def naive_ends_s(jobs, slots: int, chunk_tokens: int) -> tuple[dict[int, float], dict[int, float]]:
    """When first tokens and answers are there, by taking from each sequence its part from event to event.

    `jobs`: (when, prompt tokens, output tokens) in order of time. Speeds are those of REAL.
    """
    now_s, firsts_s, dones_s = 0.0, {}, {}
    coming, waiting, prompts, decodes = list(enumerate(jobs)), [], [], {}
    while coming or waiting or prompts or decodes:
        while waiting and len(prompts) + len(decodes) < slots:
            number, (_, prompt, output) = waiting.pop(0)
            prompts.append([number, REAL.prefill_base_ms, float(prompt), output])
        step_ms = REAL.tpot_ms + REAL.tpot_ms_per_sequence * (len(decodes) - 1) if decodes else 0.0
        todo_ms, token_ms = coming[0][1][0] * 1e3 - now_s * 1e3 if coming else 1e15, step_ms
        if prompts and (not chunk_tokens or (prompts[0][1] <= 0 and decodes)):
            token_ms = step_ms + chunk_tokens * REAL.prefill_ms_per_token if chunk_tokens else 1e15
        per_prompt_token_ms = (
            token_ms / chunk_tokens if chunk_tokens and decodes else REAL.prefill_ms_per_token
        )
        if prompts:
            _, base_ms, tokens, _ = prompts[0]
            todo_ms = min(todo_ms, base_ms if base_ms > 0 else tokens * per_prompt_token_ms)
        if decodes:
            todo_ms = min(todo_ms, min(decodes.values()) * token_ms)
        now_s += todo_ms / 1e3
        decodes = {number: left - todo_ms / token_ms for number, left in decodes.items()}
        if prompts and prompts[0][1] > 0:
            prompts[0][1] -= todo_ms if prompts[0][1] - todo_ms > 1e-9 else prompts[0][1]
        elif prompts:
            prompts[0][2] -= todo_ms / per_prompt_token_ms
        if prompts and prompts[0][1] <= 0 and prompts[0][2] <= 1e-9:
            number, _, _, output = prompts.pop(0)
            firsts_s[number], decodes[number] = now_s, output - 1
        dones_s |= {number: now_s for number, left in decodes.items() if left <= 1e-9}
        decodes = {number: left for number, left in decodes.items() if left > 1e-9}
        while coming and coming[0][1][0] <= now_s + 1e-12:
            waiting.append(coming.pop(0))
    return firsts_s, dones_s


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0.0, 1.5), st.integers(0, 300), st.integers(1, 100)), min_size=1, max_size=12
    ),
    st.integers(1, 4),
    st.sampled_from((0, 16, 200)),
)
def test_a_batch_is_what_taking_its_part_from_each_sequence_gives(script, slots, chunk_tokens):
    node, now_s, jobs = a_node(slots=slots, chunk_tokens=chunk_tokens), 0.0, []
    for number, (gap_s, prompt, output) in enumerate(script):
        now_s += gap_s
        jobs.append((now_s, prompt, output))
        node.submit(a_job(number, prompt, output), now_s)
    events = run_dry(node)
    firsts_s, dones_s = naive_ends_s(jobs, slots, chunk_tokens)
    assert firsts(events) == pytest.approx(firsts_s, abs=1e-6)
    assert dones(events) == pytest.approx(dones_s, abs=1e-6)


def test_a_failure_between_two_events_of_one_job_is_told_once():
    script = [(0.0, ("submit", "a", 100, 50, 2, 0)), (0.3, ("fail",)), (1.0, ("revive",))]
    played = play(script, {"slots": 1, "queue_max": 0, "chunk_tokens": 0}, steps=True)
    assert played.lost == [0]
    assert played.events == [FirstToken(0, pytest.approx(0.2))]
