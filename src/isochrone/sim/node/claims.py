"""What a simulated node believes of one of its models: learned from its own answers, as a live node learns.

It begins with the speeds of its hardware's class at its own factor, as a node that has answered before the
simulation began. Of what changes then, such as a fault that makes it slow, its answers tell it.

Two things are simpler than on a live node: it counts a prompt's tokens instead of guessing them from its
bytes, and looks into its prefix cache instead of remembering what was sent.
"""

from dataclasses import dataclass, field

from isochrone.fleet.learn import Average, Line
from isochrone.fleet.output import OutputLength
from isochrone.model import Timings
from isochrone.nodes.inference.desk import Job as DeskJob
from isochrone.nodes.inference.speeds import LOAD_MEMORY
from isochrone.sim.spec import Job, SpeedSpec

_MEMORY = 40.0
"""Answers that count, as on a live node."""

_PRIOR_ANSWERS = 1.0
_PRIOR_PROMPTS = (0.0, 256.0)
_PRIOR_CONCURRENCIES = (1.0, 4.0)


@dataclass(slots=True)
class Claims:
    """Learned speeds and lengths of one model.

    Attributes:
        prefill: milliseconds to the first token over prompt tokens not cached.
        decode: milliseconds for a token over concurrency.
        output: length of answers.
        load: seconds that loads took.
        answers: how many have been learned from.
    """

    prefill: Line = field(default_factory=lambda: Line(_MEMORY))
    decode: Line = field(default_factory=lambda: Line(_MEMORY))
    output: OutputLength = field(default_factory=OutputLength)
    load: Average = field(default_factory=lambda: Average(LOAD_MEMORY))
    answers: int = 0

    @classmethod
    def of(cls, speed: SpeedSpec, factor: float) -> "Claims":
        """The claims of a node that runs the model `factor` times as fast as its class."""
        claims, ms_per_sequence = cls(), speed.tpot_ms_per_sequence / factor
        base_ms, ms_per_token = speed.prefill_base_ms / factor, speed.prefill_ms_per_token / factor
        claims.prefill.expect(base_ms, ms_per_token, _PRIOR_PROMPTS, _PRIOR_ANSWERS)
        alone_ms = speed.tpot_ms / factor - ms_per_sequence
        claims.decode.expect(alone_ms, ms_per_sequence, _PRIOR_CONCURRENCIES, _PRIOR_ANSWERS)
        return claims

    def expect(self, job: Job, uncached_tokens: int, concurrency: int) -> DeskJob:
        """The job as the desk is told of it."""
        return DeskJob(
            id=str(job.id),
            model=job.model,
            prefill_s=self.prefill.at(max(1, uncached_tokens)) / 1e3,
            tpot_s=self.decode.at(concurrency) / 1e3,
            output_tokens=self.output.expect(job.output_tokens_max),
            output_tokens_max=job.output_tokens_max,
        )

    def learn(self, job: Job, timings: Timings) -> None:
        """Fold in one answer."""
        self.answers += 1
        if timings.prefill_ms > 0 and timings.prompt_tokens > 0:
            self.prefill.add(timings.prompt_tokens - timings.cached_tokens, timings.prefill_ms)
        if timings.output_tokens > 1 and timings.decode_ms > 0:
            self.decode.add(timings.concurrency, timings.decode_ms / (timings.output_tokens - 1))
        self.output.learn(job.output_tokens_max, timings.output_tokens)
