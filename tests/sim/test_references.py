"""Bounds that nothing beats: against hand loops, brute force, theory and the simulated node itself."""

import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone.model import PromptBlocks
from isochrone.sim.node import Done, FirstToken, SimNode
from isochrone.sim.references import (
    Question,
    Stream,
    Terms,
    contention_free,
    fluid_bound,
    fluid_goodput_per_s,
    hit_tokens,
    pooled_srpt,
    srpt_ends_s,
    streams_of,
)
from isochrone.sim.spec import HardwareSpec, Job, ModelSpec, NodeSpec, SpeedSpec

MODELS = {"m": ModelSpec("m", 10e9, 0.0), "n": ModelSpec("n", 30e9, 0.0)}
FAST = HardwareSpec(
    "fast",
    4,
    1000,
    math.inf,
    0,
    16,
    {"m": SpeedSpec(5.0, 0.1, 10.0, 1.0), "n": SpeedSpec(8.0, 0.3, 20.0, 2.0)},
)
CHUNKED = HardwareSpec("chunked", 8, 1000, math.inf, 64, 16, {"m": SpeedSpec(3.0, 0.2, 15.0, 0.5)})
RTT_MS = {("e", "e"): 2.0, ("e", "w"): 80.0, ("w", "e"): 80.0, ("w", "w"): 2.0}


def rtt_ms(gateway, node):
    return RTT_MS[gateway, node]


def node(name, region, hardware=FAST, models=("m",), *, speed=1.0):
    told = {model: MODELS[model] for model in models}
    return NodeSpec(name, region, hardware, told, ready=tuple(models), speed=speed)


def job(number, at_s=0.0, prompt=100, output=10, *, model="m", blocks=()):
    return Job(number, at_s, "e", 0, model, prompt, output, blocks=PromptBlocks(blocks, 64))


FLEET = (
    node("a", "e", speed=0.5),
    node("b", "w", models=("m", "n"), speed=2.0),
    node("c", "e", CHUNKED),
    node("d", "w", CHUNKED, speed=1.5),
)

jobs_drawn = st.lists(
    st.tuples(
        st.floats(0, 2), st.integers(1, 400), st.integers(1, 40), st.sampled_from("mn"), st.integers(0, 6),
        st.sampled_from("ew"),
    ),
    min_size=1,
    max_size=25,
)  # fmt: skip


def asked(drawn, nodes=FLEET, **others):
    drawn = sorted(drawn, key=lambda item: item[0])
    jobs = [
        job(number, at_s, prompt, output, model=model, blocks=tuple(range(shared)))
        for number, (at_s, prompt, output, model, shared, _) in enumerate(drawn)
    ]
    return Question(jobs, [item[5] for item in drawn], nodes, rtt_ms, **others)


@given(jobs_drawn)
def test_alone_in_the_world_is_the_best_node_of_a_hand_loop(drawn):
    question = asked(drawn, hits=False)
    found = contention_free(question)
    for row, (asked_job, gateway) in enumerate(zip(question.jobs, question.gateways, strict=True)):
        ttfts, totals = [], []
        for at in FLEET:
            if asked_job.model in at.models:
                speed = at.hardware.speeds[asked_job.model]
                first = speed.prefill_base_ms + speed.prefill_ms_per_token * asked_job.prompt_tokens
                last = first + (asked_job.output_tokens - 1) * speed.tpot_ms
                ttfts.append(rtt_ms(gateway, at.region) + first / at.speed)
                totals.append(rtt_ms(gateway, at.region) + last / at.speed)
        assert found.ttft_ms[row] == pytest.approx(min(ttfts))
        assert found.total_ms[row] == pytest.approx(min(totals))


def test_what_no_node_can_run_is_never_answered():
    question = Question([job(0, model="n"), job(1)], ["e", "e"], FLEET[:1], rtt_ms)
    found = contention_free(question)
    assert found.ttft_ms[0] == math.inf
    assert math.isfinite(found.ttft_ms[1])
    assert pooled_srpt(question).jobs == 1


def test_only_what_another_brought_before_can_be_cached_and_never_the_whole_prompt():
    jobs = [
        job(0, 0.0, 100, blocks=(1, 2)),
        job(1, 1.0, 100, blocks=(1, 2, 3)),
        job(2, 2.0, 40, blocks=(1, 2, 3)),
        job(3, 3.0, 100, model="n", blocks=(1,)),
        job(4, 4.0, 100, blocks=(9, 2)),
    ]
    at_s = np.array([asked_job.at_s for asked_job in jobs])
    assert hit_tokens(jobs, at_s).tolist() == [0, 32, 39, 0, 0]
    assert hit_tokens(jobs, at_s, 1.0).tolist() == [32, 48, 39, 0, 0]


def run_greedily(question, seed):
    """TTFT and total of each job, each sent to a node by lot, with the ways there and back."""
    luck = random.Random(seed)
    nodes = [SimNode(spec) for spec in question.nodes]
    arrivals = []
    for asked_job, gateway in zip(question.jobs, question.gateways, strict=True):
        able = [index for index, spec in enumerate(question.nodes) if asked_job.model in spec.models]
        index = luck.choice(able)
        way_s = rtt_ms(gateway, question.nodes[index].region) / 2e3
        arrivals.append((asked_job.at_s + way_s, asked_job.id, index, way_s))
    first, last = {}, {}
    for index, sim in enumerate(nodes):
        events = []
        for at_s, number, where, _ in sorted(arrivals):
            if where == index:
                events += sim.advance(at_s)
                assert sim.submit(question.jobs[number], at_s)
        while sim.next_event_s < math.inf:
            events += sim.advance(sim.next_event_s)
        for event in events:
            if isinstance(event, FirstToken):
                first[event.job_id] = event.at_s
            elif isinstance(event, Done):
                last[event.job_id] = event.at_s
    rows = sorted((number, way_s) for _, number, _, way_s in arrivals)
    came_s = [asked_job.at_s for asked_job in question.jobs]
    ttft_ms = [(first[number] + way_s - came_s[number]) * 1e3 for number, way_s in rows]
    total_ms = [(last[number] + way_s - came_s[number]) * 1e3 for number, way_s in rows]
    return np.array(ttft_ms), np.array(total_ms)


@given(jobs_drawn, st.integers(0, 100), st.sampled_from([FLEET, FLEET[1:2], FLEET[1:4]]))
@settings(max_examples=150, deadline=None)
def test_no_simulated_node_is_sooner_than_the_bounds(drawn, seed, nodes):
    question = asked(drawn, nodes)
    ttft_ms, total_ms = run_greedily(question, seed)
    alone = contention_free(question)
    assert np.all(ttft_ms >= alone.ttft_ms - 1e-6)
    assert np.all(total_ms >= alone.total_ms - 1e-6)
    pooled = pooled_srpt(question)
    assert pooled.jobs == len(drawn)
    assert pooled.mean_total_ms <= np.mean(total_ms) + 1e-6


def least_mean_s(release_s, work_s):
    """Brute force in steps of 1: the least mean response of whole jobs on one preemptive server."""
    best = math.inf
    horizon = int(max(release_s) + sum(work_s))
    for order in itertools.permutations(range(len(work_s))):  # a priority order suffices on one server
        left, ends = list(work_s), [0] * len(work_s)
        for now in range(horizon):
            ready = [number for number in order if release_s[number] <= now and left[number]]
            if ready:
                left[ready[0]] -= 1
                ends[ready[0]] = now + 1
        best = min(best, sum(e - r for e, r in zip(ends, release_s, strict=True)) / len(ends))
    return best


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 5)), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_srpt_is_as_good_as_the_best_of_all_orders(drawn):
    release_s = np.array([float(item[0]) for item in drawn])
    work_s = np.array([float(item[1]) for item in drawn])
    ends_s = srpt_ends_s(release_s, work_s)
    best = least_mean_s([item[0] for item in drawn], [item[1] for item in drawn])
    assert np.mean(ends_s - release_s) == pytest.approx(best)


def test_srpt_meets_the_formula_of_schrage_and_miller_for_poisson_and_exponential():
    # L. Schrage and L. Miller, "The Queue M/G/1 with the Shortest Remaining Processing Time Discipline",
    # Operations Research 14, 1966, with service exponential of mean 1 and load rho.
    rho, jobs = 0.7, 120_000
    x = np.linspace(0.0, 40.0, 400_001)
    step = x[1] - x[0]
    density = np.exp(-x)
    load = rho * (1 - np.exp(-x) * (1 + x))
    second = 2 - np.exp(-x) * (x**2 + 2 * x + 2)
    waiting = rho * (second + x**2 * np.exp(-x)) / (2 * (1 - load) ** 2)
    residence = np.concatenate(([0.0], np.cumsum((1 / (1 - load[1:]) + 1 / (1 - load[:-1])) / 2) * step))
    theory = float(np.sum((waiting + residence) * density) * step)
    luck = np.random.default_rng(11)
    release_s = np.cumsum(luck.exponential(1 / rho, jobs))
    ends_s = srpt_ends_s(release_s, luck.exponential(1.0, jobs))
    assert np.mean(ends_s - release_s) == pytest.approx(theory, rel=0.03)


def test_a_pool_of_one_node_without_contention_takes_the_time_of_the_work():
    found = pooled_srpt(Question([job(0, prompt=100, output=1)], ["e"], (node("x", "w"),), rtt_ms))
    assert found.mean_total_ms == pytest.approx(80.0 + 5.0 + 10.0)
    assert found.speed == 1.0


def test_a_fluid_serves_what_is_asked_when_there_is_room_and_its_capacity_when_not():
    # One job: 5 + 100 * 0.1 + 9 * (10 + 3) / 4 = 44.25 ms of a node; slots would do 4 / (15 + 90) ms.
    nodes = (node("a", "e"), node("b", "w"))
    room = fluid_goodput_per_s((Stream("e", "m", 10.0, 100.0, 9.0),), nodes, rtt_ms)
    assert room.goodput_per_s == pytest.approx(10.0)
    assert room.scarcity_per_s == {}
    full = fluid_goodput_per_s((Stream("e", "m", 1000.0, 100.0, 9.0),), nodes, rtt_ms)
    assert full.goodput_per_s == pytest.approx(2 * 1e3 / 44.25)
    assert full.scarcity_per_s[("e", "fast")] == pytest.approx(1e3 / 44.25)
    assert full.offered_per_s == 1000.0


def test_ways_that_cannot_meet_the_slo_are_closed_to_the_fluid():
    nodes = (node("a", "e"), node("b", "w"))
    stream = (Stream("e", "m", 1000.0, 100.0, 9.0, 100.0),)
    near = fluid_goodput_per_s(stream, nodes, rtt_ms, Terms(slo_ttft_ms=50.0))
    assert near.goodput_per_s == pytest.approx(1e3 / 44.25)
    assert fluid_goodput_per_s(stream, nodes, rtt_ms, Terms(slo_ttft_ms=5.0)).goodput_per_s == 0.0
    assert fluid_goodput_per_s(stream, nodes, rtt_ms, Terms(slo_tpot_ms=5.0)).goodput_per_s == 0.0


def test_memory_bounds_how_many_models_the_fluid_may_hold():
    small = HardwareSpec("small", 4, 9, 30e9, 0, 16, dict(FAST.speeds))
    nodes = (node("a", "e", small, ("m", "n")),)
    streams = (Stream("e", "m", 5.0, 100.0, 9.0), Stream("e", "n", 1000.0, 100.0, 9.0))
    found = fluid_goodput_per_s(streams, nodes, rtt_ms)
    # Holding a part z of n leaves (1 - z) * 30 / 10 of m, at most all of it: all of m's 5/s need 0.22125 of
    # the node, so z is at most 1 - 0.22125 / 3 for memory and 0.77875 for time, which binds.
    n_ms = 8.0 + 30.0 + 9 * (20.0 + 6.0) / 4
    assert found.goodput_per_s == pytest.approx(5.0 + (1 - 0.22125) * 1e3 / n_ms)
    tight = HardwareSpec("tight", 4, 9, 15e9, 0, 16, dict(FAST.speeds))
    held = fluid_goodput_per_s(streams[1:], (node("a", "e", tight, ("n",)),), rtt_ms)
    assert held.goodput_per_s == pytest.approx(0.5 * 1e3 / n_ms)
    assert held.memory_scarcity_per_s[("e", "tight")] == pytest.approx(1e3 / n_ms / 30)


def test_models_that_stay_where_they_are_can_be_served_only_there():
    spec = NodeSpec("a", "e", FAST, MODELS, ready=("m",))
    stream = (Stream("e", "n", 10.0, 100.0, 9.0),)
    assert fluid_goodput_per_s(stream, (spec,), rtt_ms).goodput_per_s > 0
    assert fluid_goodput_per_s(stream, (spec,), rtt_ms, Terms(placeable=False)).goodput_per_s == 0.0


@given(jobs_drawn, st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_no_fleet_serves_more_than_its_fluid(drawn, seed):
    question = asked(drawn, hits=True)
    _, total_ms = run_greedily(question, seed)
    came_s = np.array([asked_job.at_s for asked_job in question.jobs])
    window_s = float(np.max(came_s + total_ms / 1e3))
    bound = fluid_goodput_per_s(streams_of(question, window_s, sizes=1), question.nodes, rtt_ms)
    assert len(drawn) / window_s <= bound.goodput_per_s * (1 + 1e-9)


@given(jobs_drawn)
@settings(max_examples=30, deadline=None)
def test_without_distances_a_fluid_serves_no_less(drawn):
    question, terms = asked(drawn, hits=True), Terms(slo_ttft_ms=100.0)
    whole, here = (fluid_bound(question, 1.0, terms, ways_max).goodput_per_s for ways_max in (10_000, 0))
    assert here >= whole - 1e-9


def test_without_distances_what_is_too_far_for_the_slo_is_served():
    question = asked([(0.1 * n, 10, 5, "n", 0, "e") for n in range(10)])
    terms = Terms(slo_ttft_ms=50.0)
    assert fluid_bound(question, 5.0, terms).goodput_per_s == 0.0
    assert fluid_bound(question, 5.0, terms, ways_max=0).goodput_per_s == pytest.approx(2.0)


def test_streams_add_up_to_the_jobs():
    question = asked([(0.1 * n, 10 + n, 5, "m", 0, "e") for n in range(10)])
    streams = streams_of(question, 5.0, sizes=4)
    assert sum(stream.rate_per_s for stream in streams) == pytest.approx(2.0)
    assert len(streams) == 4
    assert streams[0].uncached_tokens < streams[-1].uncached_tokens
