"""Live beside simulated: the demo network as a scenario of measured speeds, and how far the two are apart.

The simulator is given what was measured: the engine's speeds, the arrivals, and of each request the lengths
of its prompt and of the answer that it got live. What it is not given is what it is to find out: waits,
cached prefixes, what gateways come to believe, and where each request goes.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median

import numpy as np
from scipy.optimize import nnls

from isochrone.model import PromptBlocks
from isochrone.ports import SettingError
from isochrone.routing import find_policy
from isochrone.sim.runner import Run, world_plan
from isochrone.sim.scenario.files import Scenario, build_nodes, changed, load_scenario
from isochrone.sim.spec import BYTES_PER_TOKEN, HardwareSpec, Job, NodeSpec, SpeedSpec
from isochrone.sim.statistics import METRICS, Floats, block_ratio, mean, rank_agreement
from isochrone.sim.world.world import World

SETTLE_S = 20.0
"""Between two series: every answer of the one is complete, and cold models are unloaded."""

_SEED = 1

_FEW_TOKENS = 8
"""Prompts of which less is computed tell nothing of the time that a token takes."""


@dataclass(frozen=True, slots=True)
class Prefill:
    """One prompt: how many of its tokens were computed, and the time to its first token on a slot."""

    uncached_tokens: int
    ms: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of one engine while so many engines computed on the machine.

    Attributes:
        prefills: prompts, one at a time.
        step_ms_alone: mean time between tokens, of each answer that ran alone.
        step_ms_together: likewise of pairs that ran side by side.
        load_s: of each load from disk.
        hop_ms: what client and gateway add to a node's own time to first token.
        neighbour_prompt_tokens: of each request of the users that kept other engines busy.
        neighbour_output_tokens: of each of their answers.
    """

    prefills: Sequence[Prefill]
    step_ms_alone: Sequence[float]
    step_ms_together: Sequence[float]
    load_s: Sequence[float]
    hop_ms: float = 0.0
    neighbour_prompt_tokens: Sequence[int] = ()
    neighbour_output_tokens: Sequence[int] = ()

    @property
    def speed(self) -> SpeedSpec:
        """The engine as the simulator takes it: straight lines, least squares, neither part negative."""
        base_ms, ms_per_token = _line(self.prefills)
        alone_ms = median(self.step_ms_alone)
        return SpeedSpec(
            prefill_base_ms=base_ms,
            prefill_ms_per_token=ms_per_token,
            tpot_ms=alone_ms,
            tpot_ms_per_sequence=max(0.0, median(self.step_ms_together) - alone_ms),
            load_s=fmean(self.load_s),
        )


@dataclass(frozen=True, slots=True)
class Asked:
    """One request of a live session.

    Attributes:
        policy: that decided.
        round: of the session, 0 for the warm-up.
        at_s: arrival, since its series began.
        text: the prompt as the gateway hashes it.
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
        slower: live time on prompts over that of the scenario's speed for the same uncached tokens.
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


# -- the scenario ------------------------------------------------------------------------------------


def busy_engines(
    levels: Mapping[int, Measured], asked: Sequence[Asked], rate_per_s: float
) -> dict[str, float]:
    """How many engines compute at once, as each node sees it while it computes itself, in the mean.

    One engine always does, for users of its own. The requests' work, at the speeds of two engines at once, is
    `rate_per_s` times their mean time on a slot; half of it is on each of the other two. No policy is
    asked for this: it is a mean over what policies could do.
    """
    speed = levels[2].speed
    work_s = fmean(
        (speed.prefill_base_ms + speed.prefill_ms_per_token * each.prompt_tokens) / 1e3
        + speed.tpot_ms * (each.output_tokens - 1) / 1e3
        for each in asked
    )
    busy = min(2.0, rate_per_s * work_s)
    return {"near-busy": min(3.0, 1.0 + busy), "near-cold": 2.0 + busy / 2, "far-ready": 2.0 + busy / 2}


def speed_between(levels: Mapping[int, Measured], engines: float) -> SpeedSpec:
    """The speed while so many engines compute: linear between what was measured."""
    low = max(1, min(len(levels) - 1, int(engines)))
    share = min(1.0, engines - low)
    ours, theirs = asdict(levels[low].speed), asdict(levels[low + 1].speed)
    return SpeedSpec(**{key: ours[key] + share * (theirs[key] - ours[key]) for key in ours})


def measured_scenario(levels: Mapping[int, Measured], engines: Mapping[str, float]) -> Scenario:
    """`laptop` with the measured speeds, each node's for as many engines as compute beside it."""
    laptop = load_scenario("laptop")
    told = [each for level in levels.values() for each in level.neighbour_prompt_tokens]
    answers = [each for level in levels.values() for each in level.neighbour_output_tokens]
    model = laptop.traffic.models[0]
    base = build_nodes(laptop, _SEED)[0].hardware
    changes: dict[str, object] = {
        "network.same_region_rtt_ms": levels[1].hop_ms,
        "bus.jitter": 0.0,
        "node.0.neighbour_prompt_tokens": round(median(told)) if told else 40,
        "node.0.neighbour_output_tokens": round(fmean(answers)) if answers else 96,
    }
    for number, entry in enumerate(laptop.node):
        speed = speed_between(levels, engines[entry.name])
        own = HardwareSpec(
            name="",
            slots=base.slots,
            queue_max=base.queue_max,
            memory_bytes=base.memory_bytes,
            chunk_tokens=base.chunk_tokens,
            prefix_block_tokens=1,
            speeds={model: speed},
        )
        fields = asdict(own)
        del fields["name"]
        changes[f"hardware.{entry.name}"] = fields
        changes[f"node.{number}.hardware"] = entry.name
    return changed(laptop, changes)


# -- the session -------------------------------------------------------------------------------------


def simulate(scenario: Scenario, series: Sequence[Sequence[Asked]], seed: int) -> list[list[Answered]]:
    """The same session in the simulator: one world, series after series, each under its policy.

    Before each series cold models are unloaded, as the demo does. What gateways believe and what engines have
    cached goes on from series to series, as it does live. Raises SettingError for a policy that listens
    to more than pulses and answers, since one gateway cannot begin to listen between two series.
    """
    for policy in {each.policy for requests in series for each in requests}:
        found = find_policy(policy)
        if found.idle_news or found.probing.per_request:
            raise SettingError(
                f"{policy} probes or listens for idle nodes; this comparison can't switch to it"
            )
    jobs, begins_s = _jobs(scenario, series)
    run = Run(scenario, series[0][0].policy, seed)
    world = World(world_plan(run, build_nodes(scenario, seed)))
    for requests, begin_s in zip(series, begins_s, strict=True):
        world.agenda.note(begin_s - SETTLE_S / 4, _prepare, (world, scenario, requests[0].policy))
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


def _prepare(now_s: float, subject: tuple[World, Scenario, str]) -> None:
    world, scenario, policy = subject
    for gateway in world.gateways:
        gateway.use(find_policy(policy))
    for index, entry in enumerate(scenario.node):
        for model in entry.on_disk:
            world.yard.unload_model(index, model, now_s)


def _jobs(scenario: Scenario, series: Sequence[Sequence[Asked]]) -> tuple[list[Job], list[float]]:
    """The session's jobs in order of time, and when each series begins."""
    bytes_per_token = median(len(e.text) / e.prompt_tokens for requests in series for e in requests)
    jobs: list[Job] = []
    begins_s, begin_s = [], SETTLE_S
    for requests in series:
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
                    blocks=token_chain(each.text, each.prompt_tokens, bytes_per_token),
                )
            )
        begin_s = jobs[-1].at_s + SETTLE_S
    return jobs, begins_s


def token_chain(text: bytes, prompt_tokens: int, bytes_per_token: float) -> PromptBlocks:
    """The prompt's hash chain, a block for each token, as our engine's cache compares prompts.

    Tokens are taken to be of one length in all prompts, so that equal beginnings give equal blocks.
    """
    chain, hashes, at = hashlib.blake2b(digest_size=8), [], 0
    for number in range(1, prompt_tokens + 1):
        end = round(number * bytes_per_token)
        chain.update(text[at:end])
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


def _line(prefills: Sequence[Prefill]) -> tuple[float, float]:
    """(milliseconds of an empty prompt, for each token), least squares, neither negative."""
    tokens = np.array([each.uncached_tokens for each in prefills], dtype=np.float64)
    ms = np.array([each.ms for each in prefills])
    design = np.stack([np.ones_like(tokens), tokens], axis=1)
    base_ms, ms_per_token = nnls(design, ms)[0]
    return float(base_ms), float(ms_per_token)
