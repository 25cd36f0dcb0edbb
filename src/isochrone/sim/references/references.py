"""What no policy can beat, to tell a good result from an easy problem.

B0, the contention-free minimum: each request alone in the world, on the node that suits it best. B2, a fluid
(in `fluid`): the highest rate of good answers that the fleet's time and memory allow. B3, one pool: all nodes
as one server that always works on the request with least work left. (B1, a greedy that sees everything as it
is, is a policy and no bound.)

All three hold for requests that are answered by the nodes given at the speeds given. They leave out the way
from the client to its gateway, set-up of connections, loads of models, and memory for contexts, all of which
can only make answers later: what the client's way costs can be added to each request by the caller.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from isochrone.sim.spec import BYTES_PER_TOKEN, HardwareSpec, Job, NodeSpec, SpeedSpec

Floats = NDArray[np.float64]
RttMs = Callable[[str, str], float]
"""(region of a gateway, region of a node) -> milliseconds there and back."""


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked of which fleet.

    Attributes:
        jobs: the requests.
        gateways: region of the gateway that each came in at.
        nodes: the fleet.
        rtt_ms: round trips between regions.
        hits: grant each prompt the largest prefix that can be cached: its leading blocks that another request
            brought before. Without, no prefix is cached, and the results bound only engines without a cache.
    """

    jobs: Sequence[Job]
    gateways: Sequence[str]
    nodes: tuple[NodeSpec, ...]
    rtt_ms: RttMs
    hits: bool = True


@dataclass(frozen=True, slots=True)
class Alone:
    """B0, by request; inf for one that no node can run.

    Attributes:
        ttft_ms: least time to the first token.
        total_ms: least time to the last, perhaps on another node.
    """

    ttft_ms: Floats
    total_ms: Floats


@dataclass(frozen=True, slots=True)
class Pooled:
    """B3.

    Attributes:
        mean_total_ms: least mean time to the last token; NaN without requests that a node can run.
        jobs: requests that it is the mean of.
        speed: of the pool, in nodes that are each the best for every request.
        utilisation: work over the pool's capacity between the first and the last arrival; NaN for no time.
    """

    mean_total_ms: float
    jobs: int
    speed: float
    utilisation: float


@dataclass(frozen=True, slots=True)
class Asked:
    """The jobs as columns.

    Attributes:
        at_s: arrivals.
        uncached_tokens: prompt tokens that no cache can have.
        more_tokens: tokens of the answer after the first.
        pair: index into `pairs`.
        pairs: (region of a gateway, model).
    """

    at_s: Floats
    uncached_tokens: Floats
    more_tokens: Floats
    pair: NDArray[np.int64]
    pairs: list[tuple[str, str]]


def contention_free(question: Question) -> Alone:
    """B0: round trip + prefill + decode in a batch of one, at the best node that lists the model.

    It is a lower bound of any policy, request by request. A prefix that came in later can't have been
    computed before a request is at its node; to be safe, what came within the longest round trip after it
    counts.
    """
    asked = question_columns(question, _longest_rtt_s(question))
    ttft_ms = np.full(len(asked.at_s), math.inf)
    total_ms = ttft_ms.copy()
    for pair, (gateway, model) in enumerate(asked.pairs):
        rows = np.flatnonzero(asked.pair == pair)
        for rtt_ms, factor, speed in _ways(question, gateway, model):
            prompt_ms = speed.prefill_base_ms + asked.uncached_tokens[rows] * speed.prefill_ms_per_token
            first_ms = rtt_ms + prompt_ms / factor
            last_ms = first_ms + asked.more_tokens[rows] * speed.tpot_ms / factor
            ttft_ms[rows] = np.minimum(ttft_ms[rows], first_ms)
            total_ms[rows] = np.minimum(total_ms[rows], last_ms)
    return Alone(ttft_ms, total_ms)


def contention_free_ttft_ms(question: Question) -> Floats:
    """B0 of the time to the first token."""
    return contention_free(question).ttft_ms


def contention_free_total_ms(question: Question) -> Floats:
    """B0 of the time to the last token."""
    return contention_free(question).total_ms


def pooled_srpt(question: Question) -> Pooled:
    """B3: a lower bound of the mean time to the last token over all requests.

    A request's work is the node-time that it takes of the node where it takes least, its tokens decoded in
    the batch that shares a step best. A node counts for as much of a pool as the request that suits it best
    makes of it. Any schedule of the fleet is then one of the pool, and of these shortest remaining processing
    time has the least mean (L. Schrage, Operations Research 16, 1968). A request reaches the pool half its
    least round trip after it came, and the answer takes the other half: ways there and back are taken to be
    equally long. Requests that no node can run are left out.
    """
    rtts_ms = _least_rtts_ms(question)
    runs = np.isfinite(rtts_ms)
    if not np.any(runs):
        return Pooled(math.nan, 0, 0.0, math.nan)
    asked = question_columns(question, 0.0, rtts_ms / 2e3)
    work_s, speed = _pool(question, asked)
    release_s, work_s = (asked.at_s + rtts_ms / 2e3)[runs], work_s[runs]
    ends_s = srpt_ends_s(release_s, work_s / speed if speed else work_s)
    mean_ms = float(np.mean((ends_s - release_s) * 1e3 + rtts_ms[runs]))
    span_s = float(np.ptp(release_s))
    utilisation = float(np.sum(work_s)) / speed / span_s if span_s and speed else math.nan
    return Pooled(mean_ms, int(np.sum(runs)), speed, utilisation)


def srpt_ends_s(release_s: Floats, work_s: Floats) -> Floats:
    """When each job ends on one server of speed 1 that always runs the job with least work left."""
    order = np.argsort(release_s, kind="stable")
    ends_s = np.empty(len(order))
    waiting: list[tuple[float, int]] = []
    now_s, upcoming = 0.0, 0
    while upcoming < len(order) or waiting:
        if not waiting:
            now_s = max(now_s, float(release_s[order[upcoming]]))
        while upcoming < len(order) and release_s[order[upcoming]] <= now_s:
            heappush(waiting, (float(work_s[order[upcoming]]), int(order[upcoming])))
            upcoming += 1
        left_s, job = heappop(waiting)
        next_s = float(release_s[order[upcoming]]) if upcoming < len(order) else math.inf
        if now_s + left_s <= next_s:
            now_s += left_s
            ends_s[job] = now_s
        else:
            heappush(waiting, (left_s - (next_s - now_s), job))
            now_s = next_s
    return ends_s


def hit_tokens(jobs: Sequence[Job], at_s: Floats, lead_s: float = 0.0) -> NDArray[np.int64]:
    """Most prompt tokens of each job that a cache can hold when it comes.

    Those are its leading blocks that another job for the same model brought until `lead_s` after `at_s`, in
    order of `at_s`, but never the whole prompt.
    """
    first: dict[tuple[str, int], tuple[float, int]] = {}
    second: dict[tuple[str, int], float] = {}
    order = np.lexsort((np.arange(len(jobs)), at_s)).tolist()
    for row in order:
        job = jobs[row]
        for block in job.blocks.hashes:
            key = job.model, block
            if key not in first:
                first[key] = float(at_s[row]), row
            else:
                second.setdefault(key, float(at_s[row]))
    tokens = np.zeros(len(jobs), dtype=np.int64)
    for row, job in enumerate(jobs):
        latest_s, blocks = float(at_s[row]) + lead_s, 0
        for block in job.blocks.hashes:
            key = job.model, block
            came_s, who = first[key]
            if who == row:
                came_s = second.get(key, math.inf) if lead_s else math.inf
            if came_s > latest_s:
                break
            blocks += 1
        cached = blocks * job.blocks.block_bytes // BYTES_PER_TOKEN
        tokens[row] = max(0, min(cached, job.prompt_tokens - 1))
    return tokens


def node_cost_s(
    hardware: HardwareSpec, speed: SpeedSpec, uncached_tokens: Floats, more_tokens: Floats
) -> Floats:
    """Least node-time of requests on a node of factor 1: seconds of the whole node, not of one slot.

    Decodes share steps, best in the fullest batch or alone. What every prompt costs first runs beside the
    decodes where prompts are computed in chunks, and so need not take any of the node's time.
    """
    batches = np.array([1.0, float(max(1, hardware.slots))])
    step_ms = float(np.min((speed.tpot_ms + speed.tpot_ms_per_sequence * (batches - 1)) / batches))
    base_ms = 0.0 if hardware.chunk_tokens else speed.prefill_base_ms
    return (base_ms + uncached_tokens * speed.prefill_ms_per_token + more_tokens * step_ms) / 1e3


def question_columns(question: Question, lead_s: float = 0.0, later_s: Floats | None = None) -> Asked:
    """The question's jobs, each `later_s` after its arrival; `lead_s` as in `hit_tokens`."""
    jobs = question.jobs
    if len(question.gateways) != len(jobs):
        raise ValueError(f"{len(jobs)} jobs have {len(question.gateways)} gateways")
    at_s = np.array([job.at_s for job in jobs], dtype=np.float64)
    come_s = at_s if later_s is None else at_s + np.where(np.isfinite(later_s), later_s, 0.0)
    cached = hit_tokens(jobs, come_s, lead_s) if question.hits else np.zeros(len(jobs), dtype=np.int64)
    numbers: dict[tuple[str, str], int] = {}
    pair = [
        numbers.setdefault((gateway, job.model), len(numbers))
        for gateway, job in zip(question.gateways, jobs, strict=True)
    ]
    return Asked(
        at_s=at_s,
        uncached_tokens=np.array([job.prompt_tokens for job in jobs], dtype=np.float64) - cached,
        more_tokens=np.array([job.output_tokens - 1 for job in jobs], dtype=np.float64),
        pair=np.array(pair, dtype=np.int64),
        pairs=list(numbers),
    )


def _ways(question: Question, gateway: str, model: str) -> Iterable[tuple[float, float, SpeedSpec]]:
    """(round trip, factor, speed) of every different way to have `model`; nearest only, for each kind."""
    nearest: dict[tuple[int, float], tuple[float, float, SpeedSpec]] = {}
    for key, (node, regions) in _kinds(question.nodes, model).items():
        rtt_ms = min(question.rtt_ms(gateway, region) for region in regions)
        nearest[key] = rtt_ms, node.speed, node.hardware.speeds[model]
    return nearest.values()


def _kinds(
    nodes: Iterable[NodeSpec], model: str
) -> Mapping[tuple[int, float], tuple[NodeSpec, dict[str, None]]]:
    """Nodes that can run `model`, by hardware and factor, each with the regions where such stand."""
    kinds: dict[tuple[int, float], tuple[NodeSpec, dict[str, None]]] = {}
    for node in nodes:
        if model in node.models and model in node.hardware.speeds and node.speed > 0:
            kinds.setdefault((id(node.hardware), node.speed), (node, {}))[1][node.region] = None
    return kinds


def _least_rtts_ms(question: Question) -> Floats:
    """Round trip of each job to the nearest node that can run it, inf for none."""
    least: dict[tuple[str, str], float] = {}
    for gateway, job in zip(question.gateways, question.jobs, strict=True):
        if (gateway, job.model) not in least:
            ways = _ways(question, gateway, job.model)
            least[gateway, job.model] = min((rtt_ms for rtt_ms, _, _ in ways), default=math.inf)
    keys = zip(question.gateways, question.jobs, strict=True)
    return np.array([least[gateway, job.model] for gateway, job in keys], dtype=np.float64)


def _longest_rtt_s(question: Question) -> float:
    gateways, regions = dict.fromkeys(question.gateways), dict.fromkeys(n.region for n in question.nodes)
    return max((question.rtt_ms(g, r) for g in gateways for r in regions), default=0.0) / 1e3


def _pool(question: Question, asked: Asked) -> tuple[Floats, float]:
    """(work of each job in seconds of its best node, speed of all nodes together in such nodes)."""
    rows_of: dict[str, list[int]] = {}
    for row, job in enumerate(question.jobs):
        rows_of.setdefault(job.model, []).append(row)
    work_s = np.zeros(len(question.jobs))
    share_of: dict[tuple[int, str], float] = {}
    for model, rows in rows_of.items():
        fastest: dict[int, NodeSpec] = {}
        for node, _ in _kinds(question.nodes, model).values():
            known = fastest.setdefault(id(node.hardware), node)
            if node.speed > known.speed:
                fastest[id(node.hardware)] = node
        tokens = asked.uncached_tokens[rows], asked.more_tokens[rows]
        cost_s = {
            key: node_cost_s(node.hardware, node.hardware.speeds[model], *tokens)
            for key, node in fastest.items()
        }
        if not cost_s:
            continue
        least_s = np.min(np.stack([cost_s[key] / fastest[key].speed for key in cost_s]), axis=0)
        work_s[rows] = least_s
        for key, cost in cost_s.items():
            shares = np.divide(least_s, cost, out=np.zeros(len(cost)), where=cost > 0)
            share_of[key, model] = float(np.max(shares))
    speeds = (
        node.speed
        * max((share_of.get((id(node.hardware), model), 0.0) for model in node.models), default=0.0)
        for node in question.nodes
    )
    return work_s, math.fsum(speeds)
