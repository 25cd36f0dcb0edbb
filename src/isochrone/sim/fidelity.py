"""Live beside simulated: the demo network as a scenario of measured speeds, and how far the two are apart.

The simulator is given what was measured: the engine's speeds, the arrivals, and of each request the lengths
of its prompt and of the answer that it got live. What it is not given is what it is to find out: waits,
cached prefixes, what gateways come to believe, and where each request goes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean, median

import numpy as np

from isochrone.model import PromptBlocks
from isochrone.ports import SettingError
from isochrone.routing import find_policy
from isochrone.sim.runner import Run, world_plan
from isochrone.sim.scenario.files import Scenario, build_nodes, changed, load_scenario
from isochrone.sim.spec import BYTES_PER_TOKEN, HardwareSpec, Job, SpeedSpec
from isochrone.sim.statistics import Floats, Interval, block_ratio, mean, quantile, rank_agreement
from isochrone.sim.world.world import World
from isochrone.wire.openai import hash_blocks

SETTLE_S = 20.0
"""Between two series: every answer of the one is complete, and cold models are unloaded."""

_SEED = 1


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
class Line:
    """One policy, live beside simulated; times in milliseconds, NaN where nothing was answered.

    Attributes:
        policy: which.
        live_mean, live_p99: TTFT at the client.
        simulated_mean, simulated_p99: likewise.
        mean_ratio: simulated over live, with a 95% interval by blocks of requests: the luck of these
            requests, which does not hold what all of a session has in common.
        p99_ratio: likewise.
        live_shares, simulated_shares: of each node.
        same_node: share of requests that went to the same node in both.
    """

    policy: str
    live_mean: float
    live_p99: float
    simulated_mean: float
    simulated_p99: float
    mean_ratio: Interval
    p99_ratio: Interval
    live_shares: Mapping[str, float] = field(default_factory=dict)
    simulated_shares: Mapping[str, float] = field(default_factory=dict)
    same_node: float = 0.0


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

    Tokens are taken to be of equal length in all prompts, so that equal beginnings give equal blocks.
    """
    at = [text[: round(number * bytes_per_token)] for number in range(1, prompt_tokens + 1)]
    hashes = tuple(hash_blocks(each.ljust(64, b"\0")[-64:] + _length(each), "").hashes[-1] for each in at)
    return PromptBlocks(hashes, BYTES_PER_TOKEN)


# -- comparing ---------------------------------------------------------------------------------------


def compare(live: Sequence[Sequence[Asked]], simulated: Sequence[Sequence[Answered]]) -> list[Line]:
    """One line for each policy over all its series but the warm-up, in the order in which they came."""
    pairs: dict[str, list[tuple[Asked, Answered]]] = {}
    for requests, answers in zip(live, simulated, strict=True):
        if requests[0].round:
            pairs.setdefault(requests[0].policy, []).extend(zip(requests, answers, strict=True))
    return [_line_of(policy, both) for policy, both in pairs.items()]


def ranking_agreement(lines: Sequence[Line]) -> float:
    """Kendall's tau of the policies by mean TTFT."""
    return rank_agreement([line.live_mean for line in lines], [line.simulated_mean for line in lines])
