"""A simulated node against the formulas of queueing theory and, path by path, against their recursions.

Prompts cost nothing here, so service is `output_tokens - 1` steps. Jobs come as a Poisson process and answers
are 2000 tokens long on average, so that whole tokens do not matter.

A mean over a busy queue converges slowly. It is corrected for the luck of the sample with control variates
whose true means are known, the gap, the service and its square: the mean responses of 100 batches of jobs are
regressed on theirs and read off at the true values (Asmussen and Glynn, Stochastic Simulation, 2007, V.2).
What luck remains must be small enough for the bound of 2 % to mean something. Where a recursion tells each
single job's time, no luck is in it at all.
"""

from dataclasses import dataclass
from heapq import heapify, heapreplace
from math import factorial

import numpy as np
import pytest
from sim_node_nouns import a_job, a_node

from isochrone.sim.node import Done, SimNode
from isochrone.sim.spec import SpeedSpec

MEAN_TOKENS = 2000
STEP_MS = 1.0
MEAN_S = MEAN_TOKENS * STEP_MS / 1e3
BATCHES = 100
WITHIN = 0.02
ERROR_MAX = 0.6 * WITHIN
"""Largest standard error of a mean that is held against theory."""

SIGMA = 1.0
"""Of the log-normal; its squared coefficient of variation is e - 1."""

FCFS = SpeedSpec(0.0, 0.0, STEP_MS)
SHARING = SpeedSpec(0.0, 0.0, STEP_MS, STEP_MS)


@dataclass(frozen=True)
class Sample:
    """Jobs to come.

    Attributes:
        gaps_s: from one job to the next.
        steps: decode steps of each.
    """

    gaps_s: np.ndarray
    steps: np.ndarray

    @property
    def services_s(self) -> np.ndarray:
        return self.steps * STEP_MS / 1e3

    @property
    def comes_s(self) -> np.ndarray:
        return np.cumsum(self.gaps_s)


def a_sample(kind: str, load: float, jobs: int, slots: int = 1) -> Sample:
    """Poisson arrivals that offer `load` of the slots, with answers of one of three kinds."""
    luck = np.random.default_rng([jobs, slots, round(100 * load)])
    gaps_s = luck.exponential(MEAN_S / (load * slots), jobs)
    drawn = {
        "exponential": lambda: luck.exponential(MEAN_TOKENS, jobs),
        "log-normal": lambda: luck.lognormal(np.log(MEAN_TOKENS) - SIGMA**2 / 2, SIGMA, jobs),
        "deterministic": lambda: np.full(jobs, float(MEAN_TOKENS)),
    }[kind]()
    return Sample(gaps_s, np.rint(drawn))


def a_queue(slots: int = 1, speed: SpeedSpec = FCFS) -> SimNode:
    return a_node(speed=speed, slots=slots, queue_max=10**9)


def responses_s(node: SimNode, sample: Sample) -> np.ndarray:
    """Each job's time from coming to going."""
    comes_s, goes_s = sample.comes_s, np.zeros(len(sample.steps))
    events = []
    for number, (at_s, steps) in enumerate(zip(comes_s.tolist(), sample.steps.tolist(), strict=True)):
        events += node.advance(at_s)
        assert node.submit(a_job(number, output=int(steps) + 1), at_s)
    events += node.advance(1e12)
    for event in events:
        if isinstance(event, Done):
            goes_s[event.job_id] = event.at_s
    assert node.jobs_done == len(goes_s)
    assert node.tokens_decoded == sample.steps.sum() + len(goes_s)
    return goes_s - comes_s


def corrected_mean(values: np.ndarray, sample: Sample, true_means: tuple[float, float, float]):
    """(mean, its standard error), with the luck in gaps, services and squared services taken out."""

    def batch_means(part: np.ndarray) -> np.ndarray:
        return part.reshape(BATCHES, -1).mean(axis=1)

    parts = (sample.gaps_s, sample.services_s, sample.services_s**2)
    luck = [
        batch_means(part) - mean for part, mean in zip(parts, true_means, strict=True) if np.ptp(part) > 0
    ]
    means, columns = batch_means(values), np.column_stack([np.ones(BATCHES), *luck])
    solution, *_ = np.linalg.lstsq(columns, means, rcond=None)
    spread = np.var(means - columns @ solution, ddof=columns.shape[1])
    return solution[0], np.sqrt(spread * np.linalg.inv(columns.T @ columns)[0, 0])


def erlang_c(slots: int, load: float) -> float:
    """Share of jobs that wait in M/M/k (Erlang 1917)."""
    offered = slots * load
    full = offered**slots / factorial(slots) / (1 - load)
    return full / (sum(offered**n / factorial(n) for n in range(slots)) + full)


def pollaczek_khinchine(load: float, scv: float) -> float:
    """Mean response of M/G/1, first come, first served; `scv`: squared coefficient of variation."""
    return MEAN_S * (1 + load * (1 + scv) / (2 * (1 - load)))


SCV = {"exponential": 1.0, "log-normal": np.exp(SIGMA**2) - 1, "deterministic": 0.0}
SLOTS_MANY = 10**6

CASES = {
    "M/M/1 at 0.5": ("exponential", 0.5, 1, 80_000, MEAN_S / (1 - 0.5)),
    "M/M/1 at 0.8": ("exponential", 0.8, 1, 400_000, MEAN_S / (1 - 0.8)),
    "M/M/4 at 0.7": ("exponential", 0.7, 4, 80_000, MEAN_S * (1 + erlang_c(4, 0.7) / (4 * (1 - 0.7)))),
    "M/D/1 at 0.7": ("deterministic", 0.7, 1, 80_000, pollaczek_khinchine(0.7, 0.0)),
    "M/G/1 at 0.5": ("log-normal", 0.5, 1, 120_000, pollaczek_khinchine(0.5, SCV["log-normal"])),
    "M/M/1 sharing at 0.5": ("exponential", 0.5, SLOTS_MANY, 80_000, MEAN_S / (1 - 0.5)),
    "M/G/1 sharing at 0.5": ("log-normal", 0.5, SLOTS_MANY, 80_000, MEAN_S / (1 - 0.5)),
}


@pytest.mark.parametrize(("kind", "load", "slots", "jobs", "theory_s"), CASES.values(), ids=CASES)
def test_mean_response_is_that_of_theory(kind, load, slots, jobs, theory_s):
    sharing = slots == SLOTS_MANY
    servers = 1 if sharing else slots
    sample = a_sample(kind, load, jobs, servers)
    took_s = responses_s(a_queue(slots, SHARING if sharing else FCFS), sample)
    true_means = MEAN_S / (load * servers), MEAN_S, MEAN_S**2 * (1 + SCV[kind])
    mean_s, error_s = corrected_mean(took_s, sample, true_means)
    assert error_s < ERROR_MAX * theory_s
    assert mean_s == pytest.approx(theory_s, rel=WITHIN)


# -- path by path ----------------------------------------------------------------------------------------

PATHS = [(kind, slots) for kind in SCV for slots in (1, 4)]


@pytest.mark.parametrize(("kind", "slots"), PATHS)
def test_first_come_first_served_follows_the_recursion_of_its_waits(kind, slots):
    """Lindley 1952 for one slot, Kiefer and Wolfowitz 1955 for more."""
    sample = a_sample(kind, 0.8, 3000, slots)
    free_s, expected_s = [0.0] * slots, []
    heapify(free_s)
    for at_s, service_s in zip(sample.comes_s, sample.services_s, strict=True):
        goes_s = max(at_s, free_s[0]) + service_s
        heapreplace(free_s, goes_s)
        expected_s.append(goes_s - at_s)
    assert responses_s(a_queue(slots), sample) == pytest.approx(np.array(expected_s), abs=1e-6)


@pytest.mark.parametrize("kind", SCV)
def test_sharing_gives_all_present_the_same_at_every_moment(kind):
    """Against the plain way to do it: from event to event, take from every job its part."""
    sample = a_sample(kind, 0.7, 1000)
    left_s: dict[int, float] = {}
    comes_s, goes_s, now_s = sample.comes_s, np.zeros(1000), 0.0
    for number, at_s in enumerate([*comes_s, 1e12]):
        while left_s and now_s + (least_s := min(left_s.values())) * len(left_s) <= at_s:
            now_s += least_s * len(left_s)
            left_s = {job: one_s - least_s for job, one_s in left_s.items()}
            for job in [job for job, one_s in left_s.items() if one_s <= 1e-9]:
                goes_s[job] = now_s
                del left_s[job]
        left_s = {job: one_s - (at_s - now_s) / len(left_s) for job, one_s in left_s.items()}
        now_s = at_s
        if number < 1000:
            left_s[number] = sample.services_s[number]
    assert responses_s(a_queue(SLOTS_MANY, SHARING), sample) == pytest.approx(goes_s - comes_s, abs=1e-5)


@pytest.mark.parametrize(("slots", "chunk_tokens"), [(1, 0), (4, 0), (4, 128)])
def test_littles_law_holds_with_prompts_too(slots, chunk_tokens):
    """Number present, added up over time from event to event, is the sum of times told (Little 1961)."""
    sample = a_sample("exponential", 0.6, 5000, slots)
    speed = SpeedSpec(50.0, 0.5, STEP_MS, 0.1 * STEP_MS)
    node = a_node(speed=speed, slots=slots, queue_max=10**9, chunk_tokens=chunk_tokens)
    comes_s, present, now_s, present_s, told_s = sample.comes_s.tolist(), 0, 0.0, 0.0, 0.0
    number = 0
    while number < len(comes_s) or present:
        at_s = min(node.next_event_s, comes_s[number] if number < len(comes_s) else np.inf)
        present_s += present * (at_s - now_s)
        now_s = at_s
        if at_s == node.next_event_s:
            ended = [event.timings for event in node.advance(at_s) if isinstance(event, Done)]
            present -= len(ended)
            told_s += sum(one.queue_ms + one.load_ms + one.prefill_ms + one.decode_ms for one in ended) / 1e3
        else:
            assert node.submit(a_job(number, prompt=number % 700, output=int(sample.steps[number]) + 1), at_s)
            present, number = present + 1, number + 1
    assert node.jobs_done == len(comes_s)
    assert present_s == pytest.approx(told_s, rel=1e-9)


def test_a_busy_slot_is_busy_for_its_share_of_the_time():
    sample = a_sample("log-normal", 0.6, 20_000)
    node = a_queue()
    responses_s(node, sample)
    assert node.busy_s == pytest.approx(sample.services_s.sum(), rel=1e-6)
