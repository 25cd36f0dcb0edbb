"""The demo network as a scenario of measured speeds.

The engines of one small machine slow each other down, and the simulator knows nothing of that: a node's speed
does not depend on what others do. So an engine is measured while one, two and three of them compute, and each
node gets the speed for as many as compute beside it in the mean.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median

import numpy as np
from scipy.optimize import nnls

from isochrone.sim.scenario.files import Scenario, build_nodes, changed, load_scenario
from isochrone.sim.spec import HardwareSpec, SpeedSpec


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
        neighbour_prompt_tokens: of each request of the users that kept other engines busy, those that were
            not cached: all of these users' prompts begin with the same words of the engine's own.
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


def busy_engines(
    levels: Mapping[int, Measured], lengths: Sequence[tuple[int, int]], rate_per_s: float
) -> dict[str, float]:
    """How many engines compute at once, as each node sees it while it computes itself, in the mean.

    One engine always does, for users of its own. The requests' work, at the speeds of two engines at once, is
    `rate_per_s` times their mean time on a slot; half of it is on each of the other two. No policy is
    asked for this: it is a mean over what policies could do.

    Args:
        levels: what was measured, by number of engines at work.
        lengths: of each request, tokens of its prompt and of its answer.
        rate_per_s: requests a second.
    """
    speed = levels[2].speed
    work_s = fmean(
        (speed.prefill_base_ms + speed.prefill_ms_per_token * prompt + speed.tpot_ms * (output - 1)) / 1e3
        for prompt, output in lengths
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
    base = build_nodes(laptop, seed=1)[0].hardware
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


def _line(prefills: Sequence[Prefill]) -> tuple[float, float]:
    """(milliseconds of an empty prompt, for each token), least squares, neither negative."""
    tokens = np.array([each.uncached_tokens for each in prefills], dtype=np.float64)
    ms = np.array([each.ms for each in prefills])
    design = np.stack([np.ones_like(tokens), tokens], axis=1)
    base_ms, ms_per_token = nnls(design, ms)[0]
    return float(base_ms), float(ms_per_token)
