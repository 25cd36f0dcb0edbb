"""Live beside simulated: a live session again in the simulator, and how far the two are apart.

The simulator is given what was measured: the engine's speeds, the arrivals, and of each request the lengths
of its prompt and of the answer that it got live. What it is not given is what it is to find out: waits,
cached prefixes, what gateways come to believe, and where each request goes, but for what was luck alone
(`luck.py`).
"""

import hashlib
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np

from isochrone.model import PromptBlocks
from isochrone.ports import SettingError
from isochrone.routing import Policy, find_policy
from isochrone.sim.live.luck import as_drawn_live
from isochrone.sim.live.words import TEMPLATE_TOKENS
from isochrone.sim.results.statistics import METRICS, Floats, block_ratio, mean, rank_agreement
from isochrone.sim.runner import Run, world_plan
from isochrone.sim.scenario.files import Scenario, build_nodes
from isochrone.sim.spec import BYTES_PER_TOKEN, Job, NodeSpec
from isochrone.sim.world.world import World

SETTLE_S = 20.0
"""Between two series: every answer of the one is complete, and cold models are unloaded."""

_SEED = 1

_FEW_TOKENS = 8
"""Prompts of which less is computed tell nothing of the time that a token takes."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request of a live session.

    Attributes:
        policy: that decided.
        round: of the session, 0 for the warm-up.
        at_s: arrival, since its series began.
        system: what the prompt begins with.
        text: what is asked.
        output_tokens_max: the client's limit.
        prompt_tokens: as the engine counted them.
        output_tokens: of the answer; the limit where there was none.
        node: that answered, "" for none.
        ttft_ms: at the client, NaN where there was no answer.
        prefill_ms: on its slot, NaN where it was not told.
        cached_tokens: likewise.
    """

    policy: str
    round: int
    at_s: float
    system: bytes
    text: bytes
    output_tokens_max: int
    prompt_tokens: int
    output_tokens: int
    node: str = ""
    ttft_ms: float = float("nan")
    prefill_ms: float = float("nan")
    cached_tokens: float = float("nan")


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of one request in the simulator; the same fields as in `Asked`."""

    node: str
    ttft_ms: float
    cached_tokens: float


@dataclass(frozen=True, slots=True)
class Figure:
    """One measure of TTFT, live beside simulated, in milliseconds.

    Attributes:
        live: all series of the policy together.
        live_low, live_high: its 95% interval by blocks of requests. It holds the luck of these requests, and
            nothing that a whole session has in common.
        simulated: mean over the simulator's seeds.
        simulated_low, simulated_high: the range of 95% of the seeds.
    """

    live: float
    live_low: float
    live_high: float
    simulated: float
    simulated_low: float
    simulated_high: float

    @property
    def error(self) -> float:
        """How far the simulator is off, relative to what was measured."""
        return self.simulated / self.live - 1.0


@dataclass(frozen=True, slots=True)
class NodeLine:
    """What one node did for one policy, live beside simulated; shares of requests, means in milliseconds.

    Attributes:
        slower: live time on prompts over that of an engine alone, for the same uncached tokens.
    """

    live_share: float
    simulated_share: float
    live_ttft_ms: float
    simulated_ttft_ms: float
    live_cached_tokens: float
    simulated_cached_tokens: float
    slower: float


@dataclass(frozen=True, slots=True)
class Line:
    """One policy, live beside simulated.

    Attributes:
        policy: which.
        requests: how many were sent live.
        unanswered: of these, without an answer.
        mean, p99: of TTFT at the client.
        same_node: share of requests that go to the same node in both.
        nodes: by name.
    """

    policy: str
    requests: int
    unanswered: int
    mean: Figure
    p99: Figure
    same_node: float
    nodes: Mapping[str, NodeLine]


# -- the session -------------------------------------------------------------------------------------


class SharedMachine:
    """Nodes that compute on one machine: how fast each is depends on how many have work.

    Nothing of the simulator's; it listens to a world's nodes and sets their speeds. A node that loads a model
    counts as one that computes.
    """

    def __init__(self, world: World, slowdowns: Sequence[float]) -> None:
        self._world, self._slowdowns, self._busy = world, slowdowns, 0
        world.yard.changed.append(self._look)

    def _look(self, _node: int, now_s: float) -> None:
        if self._count() != self._busy:
            self._world.agenda.note(now_s, self._set, None)  # not at once: a node may be in mid-change

    def _count(self) -> int:
        return sum(not self._world.yard.is_idle(index) for index in range(len(self._world.yard.nodes)))

    def _set(self, now_s: float, _subject: object) -> None:
        busy = self._count()
        if busy != self._busy:
            self._busy = busy
            for index in range(len(self._world.yard.nodes)):
                self._world.yard.set_speed(index, 1.0 / self._slowdowns[busy], now_s)


def simulate(
    scenario: Scenario, series: Sequence[Sequence[Asked]], slowdowns: Sequence[float], seed: int
) -> list[list[Answered]]:
    """The same session in the simulator: one world, series after series, each under its policy.

    `slowdowns` says how many times slower all nodes are while so many of them have work.

    Before each series cold models are unloaded, as the demo does. What gateways believe and what engines have
    cached goes on from series to series, as it does live, and the gateway hears who has room under every
    policy. Raises SettingError for a policy that probes, since probes are set up once for all.
    """
    for name in {each.policy for requests in series for each in requests}:
        if find_policy(name).probing.per_request:
            raise SettingError(f"{name} probes; this comparison can't switch to it")
    jobs, begins_s = _jobs(scenario, series, random.Random(f"{seed}/begins"))
    run = Run(scenario, series[0][0].policy, seed)
    world = World(world_plan(run, build_nodes(scenario, seed)))
    world.hear_idle_news()
    SharedMachine(world, slowdowns)
    every = (each for requests in series for each in requests)
    drawn = {str(number): each.node for number, each in enumerate(every) if each.node}
    for requests, begin_s in zip(series, begins_s, strict=True):
        policy = as_drawn_live(find_policy(requests[0].policy), drawn)
        world.agenda.note(begin_s - SETTLE_S / 4, _prepare, (world, scenario, policy))
    for _ in world.run(iter(jobs)):
        pass
    rows = world.recorder.columns(0.0)
    nodes, ttft_ms, cached = rows["node"], rows["ttft_ms"], rows["cached_tokens"]
    answered = [
        Answered(str(nodes[row]), float(ttft_ms[row]), float(cached[row])) for row in range(len(jobs))
    ]
    told, at = [], 0
    for requests in series:
        told.append(answered[at : at + len(requests)])
        at += len(requests)
    return told


def _prepare(now_s: float, subject: tuple[World, Scenario, Policy]) -> None:
    world, scenario, policy = subject
    for gateway in world.gateways:
        gateway.use(policy)
    for index, entry in enumerate(scenario.node):
        for model in entry.on_disk:
            world.yard.unload_model(index, model, now_s)


def _jobs(
    scenario: Scenario, series: Sequence[Sequence[Asked]], luck: random.Random
) -> tuple[list[Job], list[float]]:
    """The session's jobs in order of time, and when each series begins: in no step with the nodes' pulses."""
    told = [((each.system, each.text), each.prompt_tokens) for requests in series for each in requests]
    length = bytes_per_token(told)
    jobs: list[Job] = []
    begins_s, begin_s = [], SETTLE_S
    for requests in series:
        begin_s += luck.uniform(0.0, scenario.bus.pulse_s)
        begins_s.append(begin_s)
        for each in requests:
            jobs.append(
                Job(
                    id=len(jobs),
                    at_s=begin_s + each.at_s,
                    region=next(iter(scenario.traffic.regions)),
                    client=0,
                    model=scenario.traffic.models[0],
                    prompt_tokens=each.prompt_tokens,
                    output_tokens=each.output_tokens,
                    output_tokens_max=each.output_tokens_max,
                    blocks=token_chain((each.system, each.text), each.prompt_tokens, length),
                )
            )
        begin_s = jobs[-1].at_s + SETTLE_S
    return jobs, begins_s


def bytes_per_token(prompts: Iterable[tuple[tuple[bytes, bytes], int]]) -> float:
    """Median length of the texts' tokens, from ((system, text), tokens of the prompt with its template)."""
    template = sum(TEMPLATE_TOKENS)
    return median(sum(map(len, texts)) / max(1, tokens - template) for texts, tokens in prompts)


def token_chain(texts: tuple[bytes, bytes], prompt_tokens: int, length: float) -> PromptBlocks:
    """The hash chain of a prompt, (system, text), a block for each token, as our engine compares prompts.

    Tokens of texts are taken to be of one length, in bytes, in all prompts, so that equal beginnings give
    equal blocks; those of the chat template stand where it puts them.
    """
    before, between, _ = (b"\0" * round(tokens * length) for tokens in TEMPLATE_TOKENS)
    rendered = before + texts[0] + between + texts[1]
    chain, hashes, at = hashlib.blake2b(digest_size=8), [], 0
    for number in range(1, prompt_tokens + 1):
        end = round(number * length)
        chain.update(rendered[at:end])
        hashes.append(int.from_bytes(chain.digest(), "big") ^ number)
        at = end
    return PromptBlocks(tuple(hashes), BYTES_PER_TOKEN)


# -- comparing ---------------------------------------------------------------------------------------


def compare(
    scenario: Scenario, live: Sequence[Sequence[Asked]], simulated: Sequence[Sequence[Sequence[Answered]]]
) -> list[Line]:
    """One line for each policy, over all its series but the warm-up, in the order in which they came.

    `simulated` holds a session for each seed.
    """
    asked: dict[str, list[Asked]] = {}
    answers: dict[str, list[list[Answered]]] = {}
    for number, requests in enumerate(live):
        if requests[0].round:
            policy = requests[0].policy
            asked.setdefault(policy, []).extend(requests)
            by_seed = answers.setdefault(policy, [[] for _ in simulated])
            for each, session in zip(by_seed, simulated, strict=True):
                each.extend(session[number])
    return [_line_of(scenario, policy, asked[policy], answers[policy]) for policy in asked]


def ranking_agreement(lines: Sequence[Line]) -> float:
    """Kendall's tau of the policies by mean TTFT."""
    return rank_agreement([line.mean.live for line in lines], [line.mean.simulated for line in lines])


def _line_of(
    scenario: Scenario, policy: str, asked: Sequence[Asked], by_seed: Sequence[Sequence[Answered]]
) -> Line:
    live_ms = np.array([each.ttft_ms for each in asked])
    simulated_ms = [np.array([each.ttft_ms for each in answers]) for answers in by_seed]
    same = [
        ours.node == theirs.node for answers in by_seed for ours, theirs in zip(asked, answers, strict=True)
    ]
    return Line(
        policy=policy,
        requests=len(asked),
        unanswered=int(np.isnan(live_ms).sum()),
        mean=_figure(live_ms, simulated_ms, "mean"),
        p99=_figure(live_ms, simulated_ms, "p99"),
        same_node=fmean(same),
        nodes={
            spec.name: _node_line(spec, asked, [each for answers in by_seed for each in answers])
            for spec in build_nodes(scenario, _SEED)
        },
    )


def _figure(live_ms: Floats, simulated_ms: Sequence[Floats], metric: str) -> Figure:
    live = block_ratio(live_ms, np.ones(len(live_ms)), metric)
    seeds = np.array([METRICS[metric](each) for each in simulated_ms])
    low, high = np.quantile(seeds, (0.025, 0.975))
    return Figure(live.ratio, live.low, live.high, float(np.mean(seeds)), float(low), float(high))


def _node_line(spec: NodeSpec, asked: Sequence[Asked], answers: Sequence[Answered]) -> NodeLine:
    ours = [each for each in asked if each.node == spec.name]
    theirs = [each for each in answers if each.node == spec.name]
    speed = next(iter(spec.hardware.speeds.values()))
    slower = [
        each.prefill_ms / (speed.prefill_base_ms + speed.prefill_ms_per_token * uncached)
        for each in ours
        if (uncached := each.prompt_tokens - each.cached_tokens) > _FEW_TOKENS
    ]
    return NodeLine(
        live_share=len(ours) / len(asked),
        simulated_share=len(theirs) / len(answers),
        live_ttft_ms=mean(np.array([each.ttft_ms for each in ours])),
        simulated_ttft_ms=mean(np.array([each.ttft_ms for each in theirs])),
        live_cached_tokens=mean(np.array([each.cached_tokens for each in ours])),
        simulated_cached_tokens=mean(np.array([each.cached_tokens for each in theirs])),
        slower=mean(np.array(slower)),
    )
