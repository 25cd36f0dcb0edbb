"""The demo network as a scenario of measured speeds.

The engines of one small machine slow each other down. So an engine is measured while one, two and three of
them compute: the first gives the speeds of the scenario, the others how much slower all become.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean, median

import numpy as np

from isochrone.sim.scenario.files import Scenario, build_nodes, changed, load_scenario
from isochrone.sim.spec import SpeedSpec

_TICK_S = 0.01
"""Live news wait for no tick; with three nodes short ones cost little."""


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

    def with_more(self, other: "Measured") -> "Measured":
        """Both measurements as one."""
        return Measured(
            prefills=[*self.prefills, *other.prefills],
            step_ms_alone=[*self.step_ms_alone, *other.step_ms_alone],
            step_ms_together=[*self.step_ms_together, *other.step_ms_together],
            load_s=[*self.load_s, *other.load_s],
            hop_ms=self.hop_ms,
            neighbour_prompt_tokens=[*self.neighbour_prompt_tokens, *other.neighbour_prompt_tokens],
            neighbour_output_tokens=[*self.neighbour_output_tokens, *other.neighbour_output_tokens],
        )

    @property
    def speed(self) -> SpeedSpec:
        """The engine as the simulator takes it: medians, so that one pause of the machine moves nothing."""
        base_ms, ms_per_token = _line(self.prefills)
        alone_ms = median(self.step_ms_alone)
        return SpeedSpec(
            prefill_base_ms=base_ms,
            prefill_ms_per_token=ms_per_token,
            tpot_ms=alone_ms,
            tpot_ms_per_sequence=max(0.0, median(self.step_ms_together) - alone_ms),
            load_s=fmean(self.load_s),
        )


def alike(levels: Mapping[int, Measured]) -> dict[int, Measured]:
    """Engines that have CPU time of their own are as fast whatever others do: each level becomes all of them.

    What is told of the users that kept others busy stays with its level.
    """
    first, *others = levels.values()
    every = first
    for other in others:
        every = every.with_more(other)
    return {
        level: replace(
            every,
            neighbour_prompt_tokens=own.neighbour_prompt_tokens,
            neighbour_output_tokens=own.neighbour_output_tokens,
        )
        for level, own in levels.items()
    }


def slowdowns(
    levels: Mapping[int, Measured], prompt_tokens: float, output_tokens: float
) -> tuple[float, ...]:
    """How many times longer a mean request takes while 0, 1, 2, ... engines compute, over while one does.

    Prompts, single answers and answers side by side slow down by different factors; a node of the simulator
    has one. It is that of a request of mean length whose answer runs half alone and half beside another.
    """

    def request_ms(speed: SpeedSpec) -> float:
        step_ms = speed.tpot_ms + 0.5 * speed.tpot_ms_per_sequence
        prompt_ms = speed.prefill_base_ms + speed.prefill_ms_per_token * prompt_tokens
        return prompt_ms + step_ms * (output_tokens - 1)

    alone_ms = request_ms(levels[1].speed)
    return 1.0, *(request_ms(levels[level].speed) / alone_ms for level in sorted(levels))


def measured_scenario(levels: Mapping[int, Measured]) -> Scenario:
    """`laptop` with the speeds of an engine that computes alone; loads as beside one other."""
    laptop = load_scenario("laptop")
    told = [each for level in levels.values() for each in level.neighbour_prompt_tokens]
    answers = [each for level in levels.values() for each in level.neighbour_output_tokens]
    base = build_nodes(laptop, seed=1)[0].hardware
    own = replace(
        base,
        prefix_block_tokens=1,
        speeds={laptop.traffic.models[0]: replace(levels[1].speed, load_s=levels[2].speed.load_s)},
    )
    fields = asdict(own)
    del fields["name"]
    changes: dict[str, object] = {
        "hardware.measured": fields,
        "network.same_region_rtt_ms": levels[1].hop_ms,
        "bus.jitter": 0.0,
        "bus.tick_s": _TICK_S,
        "node.0.neighbour_prompt_tokens": round(median(told)) if told else 40,
    }
    if answers:
        longest = max(answers)
        changes["node.0.neighbour_output_tokens"] = longest
        changes["node.0.neighbour_early_share"] = fmean(tokens < longest for tokens in answers)
    changes |= {f"node.{number}.hardware": "measured" for number in range(len(laptop.node))}
    return changed(laptop, changes)


def _line(prefills: Sequence[Prefill]) -> tuple[float, float]:
    """(milliseconds of an empty prompt, for each token), neither negative.

    The median of the slopes between all pairs (Theil 1950, Sen 1968), and of what it leaves of each prompt.
    """
    tokens = np.array([each.uncached_tokens for each in prefills], dtype=np.float64)
    ms = np.array([each.ms for each in prefills])
    one, other = np.triu_indices(len(prefills), 1)
    differ = tokens[one] != tokens[other]
    one, other = one[differ], other[differ]
    slopes = (ms[other] - ms[one]) / (tokens[other] - tokens[one])
    ms_per_token = max(0.0, float(np.median(slopes))) if len(slopes) else 0.0
    return max(0.0, float(np.median(ms - ms_per_token * tokens))), ms_per_token
