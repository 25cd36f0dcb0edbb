"""What is learned of one model on one node."""

from dataclasses import dataclass, field, replace
from math import exp

from isochrone.fleet.learn import Average, Line
from isochrone.fleet.prefix import PrefixCache, PrefixMemory
from isochrone.fleet.settings import FleetSettings
from isochrone.model import Estimate, ModelPulse, ModelState, ModelView, Outcome, Request, Timings

_PRIOR_PROMPT_TOKENS = (0.0, 256.0)
_PRIOR_CONCURRENCY = (1.0, 4.0)
_IDLE_WAIT_SHARE = 0.2
"""A wait below this share of the first token's time leaves the error to the speeds, not to the queue."""


@dataclass(slots=True)
class Speed:
    """Prefill, decode, prefix cache and the error of our predictions, for one model on one node."""

    settings: FleetSettings
    pulse: ModelPulse
    heard_at_s: float
    prefill: Line = field(init=False)
    decode: Line = field(init=False)
    prefix: PrefixCache = field(init=False)
    bias: Average = field(init=False)
    error: Average = field(init=False)
    bias_at_s: float = 0.0
    refused_until_s: float = 0.0
    answers: int = 0

    def __post_init__(self) -> None:
        memory = self.settings.samples_memory
        self.prefill, self.decode = Line(memory), Line(memory)
        self.prefix = PrefixCache(PrefixMemory(self.settings.prefix_blocks_max))
        self.bias, self.error = Average(memory / 4, 0.0, 1.0), Average(memory / 4)

    def hear(self, pulse: ModelPulse, now_s: float) -> None:
        """Fold in what the node says; a model that left memory took its prefix cache along."""
        if pulse.state is not ModelState.READY:
            self.prefix.clear()
        self.pulse, self.heard_at_s = pulse, now_s

    def expect_load(self, now_s: float) -> None:
        """We dispatched to a model that was not ready: it is loading from now on."""
        if self.pulse.state in (ModelState.ON_DISK, ModelState.ABSENT):
            self.pulse = replace(self.pulse, state=ModelState.LOADING)
            self.heard_at_s = now_s

    def learn(self, request: Request, estimate: Estimate, outcome: Outcome, now_s: float) -> None:
        """Fold in one answer and what was predicted of it."""
        self.answers += 1
        timings = outcome.timings
        if timings is not None:
            self._begin_from_claim()
            if timings.prefill_ms > 0 and timings.prompt_tokens > 0:
                computed_tokens = max(0, timings.prompt_tokens - timings.cached_tokens)
                self.prefill.add(computed_tokens, timings.prefill_ms)
            if timings.output_tokens > 1 and timings.decode_ms > 0:
                tpot_ms = timings.decode_ms / (timings.output_tokens - 1)
                self.decode.add(timings.concurrency, tpot_ms)
            self.prefix.learn(request.blocks, timings.cached_tokens)
        if outcome.ttft_ms is not None and estimate.cold_ms == 0:
            self.error.add(abs(outcome.ttft_ms - estimate.ttft_ms))
            if estimate.wait_ms <= _IDLE_WAIT_SHARE * estimate.ttft_ms:
                self._learn_bias(estimate, outcome.ttft_ms, timings, now_s)

    def view(self, concurrency: float, now_s: float) -> ModelView:
        """The belief as routing reads it, for a request that would be the `concurrency`-th in work."""
        waiting = self.pulse.state is ModelState.LOADING
        elapsed_s = now_s - self.heard_at_s if waiting else 0.0
        base_ms, ms_per_token = self._prefill()
        cached_base, cached_per_byte = self.prefix.tokens.fit()
        return ModelView(
            state=self.pulse.state,
            ready_in_s=max(0.0, self.pulse.ready_in_s - elapsed_s),
            prefill_base_ms=base_ms,
            prefill_ms_per_token=ms_per_token,
            tpot_ms=self.decode.at(concurrency) if self.decode.count else self.pulse.tpot_ms,
            cached_prefix=self.prefix.memory,
            cached_tokens_base=cached_base if self.prefix.memory else 0.0,
            cached_tokens_per_byte=cached_per_byte,
            bias_ms=self._faded_bias_ms(now_s),
            error_ms=self.error.value,
            observations=self.answers,
        )

    def _begin_from_claim(self) -> None:
        """Let the node's own claim count as a few samples before our first."""
        claim, samples = self.pulse, self.settings.prior_samples
        if not self.prefill.count and claim.prefill_ms_per_token > 0:
            self.prefill = Line(self.settings.samples_memory)
            self.prefill.expect(
                claim.prefill_base_ms, claim.prefill_ms_per_token, _PRIOR_PROMPT_TOKENS, samples
            )
        if not self.decode.count and claim.tpot_ms > 0:
            self.decode = Line(self.settings.samples_memory)
            self.decode.expect(claim.tpot_ms, 0.0, _PRIOR_CONCURRENCY, samples)

    def _prefill(self) -> tuple[float, float]:
        """Our own line once it has samples; until then the node's claim, which its first samples bend."""
        if not self.prefill.count:
            return self.pulse.prefill_base_ms, self.pulse.prefill_ms_per_token
        return self.prefill.fit()

    def _learn_bias(self, estimate: Estimate, ttft_ms: float, timings: Timings | None, now_s: float) -> None:
        """Learn what no other term explains, with what is known now of the others.

        Measured against the speeds as just learned, not as once predicted: an error that the speeds will not
        repeat must not be corrected twice. A node that claims to be faster than it is shows here.
        """
        prefill_ms = estimate.prefill_ms
        if timings is not None and self.prefill.count:
            prefill_ms = self.prefill.at(max(0, timings.prompt_tokens - timings.cached_tokens))
        self.bias.weight *= self._fade(now_s)  # an old belief yields sooner to a new sample
        self.bias.add(ttft_ms - estimate.rtt_ms - estimate.wait_ms - prefill_ms)
        self.bias_at_s = now_s

    def _faded_bias_ms(self, now_s: float) -> float:
        return self.bias.value * self._fade(now_s)

    def _fade(self, now_s: float) -> float:
        return exp(-(now_s - self.bias_at_s) / self.settings.bias_memory_s)
