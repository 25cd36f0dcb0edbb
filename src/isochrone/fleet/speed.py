"""What is learned of one model on one node."""

from dataclasses import dataclass, field, replace
from math import exp

from isochrone.fleet.kin import Kin, Kind, Point, decode_sample, prefill_sample
from isochrone.fleet.learn import Average, Effect, Peak
from isochrone.fleet.ledger import Flight
from isochrone.fleet.loading import Loads
from isochrone.fleet.owners import Owners
from isochrone.fleet.prefix import PrefixCache, PrefixMemory, Sent
from isochrone.fleet.settings import FleetSettings
from isochrone.fleet.shift import SpeedLine
from isochrone.fleet.tables import ModelTable
from isochrone.fleet.trial import caution
from isochrone.model import ModelPulse, ModelState, ModelView, Outcome, Request, Timings

_PRIOR_PROMPT_TOKENS = (0.0, 256.0)
_PRIOR_CONCURRENCY = (1.0, 4.0)
_IDLE_WAIT_SHARE = 0.2
"""A wait below this share of the first token's time leaves the error to the speeds, not to the queue."""


@dataclass(slots=True)
class Lore:
    """What our own answers taught: made with the first of them, for most models on most nodes have none."""

    settings: FleetSettings
    prefix: PrefixCache
    kin: Kin
    prefill: SpeedLine = field(init=False)
    decode: SpeedLine = field(init=False)
    bias: Average = field(init=False)
    error: Average = field(init=False)
    response: Average = field(init=False)
    service: Average = field(init=False)
    sharing: Average = field(init=False)
    sharing_effect: Effect = field(init=False)
    ttft_peak: Peak = field(init=False)
    loads: Loads = field(default_factory=Loads)
    bias_at_s: float = 0.0
    answers: int = 0

    def __post_init__(self) -> None:
        memory = self.settings.samples_memory
        self.prefill, self.decode = self._line(), self._line()
        self.bias, self.error = Average(memory / 4, 0.0, 1.0), Average(memory / 4)
        self.response, self.service = Average(memory / 4), Average(memory / 4)
        self.sharing, self.sharing_effect = Average(memory / 2, 1.0), Effect(2 * memory)
        self.ttft_peak = Peak(self.settings.peak_memory_s)

    def learn(self, request: Request, flight: Flight, outcome: Outcome, now_s: float) -> None:
        """Fold in one answer and what was predicted of it."""
        self.answers += 1
        estimate, sent = flight.estimate, flight.sent
        timings = outcome.timings
        if timings is not None:
            if flight.load_ms is not None and timings.load_ms > 0:
                self.loads.learn(flight.load_ms, timings.load_ms)
            self._learn_speeds(timings, estimate.sharing)
            self.prefix.learn(request.blocks, timings.cached_tokens, sent)
            self.service.add(timings.prefill_ms + timings.decode_ms)
        else:
            self.prefix.failed(request.blocks)
        response_ms = outcome.total_ms if outcome.ttft_ms is None else outcome.ttft_ms
        self.response.add(response_ms)
        self.ttft_peak.add(response_ms, now_s)
        if outcome.ttft_ms is not None and estimate.cold_ms == 0:
            error_ms = abs(outcome.ttft_ms - estimate.ttft_ms)
            self.error.add(error_ms)
            self.kin.error.add(error_ms)
            if timings is not None and timings.prefill_ms > 0:
                computed = max(0, timings.prompt_tokens - timings.cached_tokens)
                prefill_ms = timings.prefill_ms
                if self.prefill.count:
                    prefill_ms = self.prefill.at(computed) * self.slower(estimate.sharing)
                explained_ms = timings.queue_ms + timings.load_ms + prefill_ms
                self._learn_bias(outcome.ttft_ms - estimate.rtt_ms - explained_ms, now_s)
            elif estimate.wait_ms <= _IDLE_WAIT_SHARE * estimate.ttft_ms:
                explained_ms = estimate.wait_ms + estimate.prefill_ms
                self._learn_bias(outcome.ttft_ms - estimate.rtt_ms - explained_ms, now_s)

    def slower(self, sharing: float) -> float:
        """How many times as long as alone all takes with so many models at work."""
        return 1.0 + self.sharing_effect.value * (sharing - 1.0)

    def _learn_speeds(self, timings: Timings, sharing: float) -> None:
        """Learn the speeds alone on the node, by the models at work as predicted, not as claimed later.

        So a node that tells wrongly which are at work is learned as it will be predicted again.
        """
        prompt, answer = prefill_sample(timings), decode_sample(timings)
        if prompt is not None:
            alone_ms = self.prefill.at(prompt[0]) if self.prefill.count else 0.0
            if alone_ms > 0.0:
                self.sharing_effect.add(sharing - 1.0, prompt[1] / alone_ms - 1.0)
            self.prefill.add(prompt[0], prompt[1] / self.slower(sharing))
        if answer is not None:
            self.decode.add(answer[0], answer[1] / self.slower(sharing))
        self.sharing.add(sharing)

    def begin_from(self, prefill: Point, decode: Point) -> None:
        """Let the (base, slope) that the node claims, or its kin showed, count as a few samples."""
        samples = self.settings.prior_samples
        if not self.prefill.count and prefill[1] > 0:
            self.prefill = self._line()
            self.prefill.expect(*prefill, _PRIOR_PROMPT_TOKENS, samples)
        if not self.decode.count and decode[0] > 0:
            self.decode = self._line()
            self.decode.expect(*decode, _PRIOR_CONCURRENCY, samples)

    def _line(self) -> SpeedLine:
        return SpeedLine(self.settings.samples_memory, changed_samples=self.settings.changed_samples)

    def numbers(self) -> tuple[float, ...]:
        """What stands in the columns of a `ModelTable` from `bias_ms` on."""
        cached_base, cached_per_byte = self.prefix.tokens.fit()
        return (
            self.bias.value,
            self.bias_at_s,
            self.error.value if self.error.weight else -1.0,
            cached_base if self.prefix.memory else 0.0,
            cached_per_byte,
            self.ttft_peak.value,
            self.ttft_peak.at_s,
            self.response.value,
            self.service.value,
        )

    def bias_ms(self, now_s: float) -> float:
        """The bias, faded to now."""
        return self.bias.value * self._fade(now_s)

    def _learn_bias(self, unexplained_ms: float, now_s: float) -> None:
        """Learn what no term explains: what a first token took beyond its way, the wait told and the prompt.

        The wait as the node told it, not as predicted: one that nobody could foresee is no property of the
        node. The prompt by the speed as just learned, which follows slowly: the bias is quicker. A node that
        tells less time than it takes shows here.
        """
        self.bias.weight *= self._fade(now_s)  # an old belief yields sooner to a new sample
        self.bias.add(unexplained_ms)
        self.bias_at_s = now_s

    def _fade(self, now_s: float) -> float:
        return exp(-(now_s - self.bias_at_s) / self.settings.bias_memory_s)


@dataclass(slots=True)
class Speed:
    """One model on one node: what the node says of it, and what our answers taught.

    Attributes:
        kin: the same model on all nodes.
        kind: which of them this node is like.
        in_flight: requests of ours on their way.
    """

    settings: FleetSettings
    pulse: ModelPulse
    heard_at_s: float
    owners: Owners | None = None
    kin: Kin = field(default_factory=Kin)
    kind: Kind = ""
    node: int = 0
    refused_until_s: float = 0.0
    in_flight: int = 0
    lore: Lore | None = None

    def knows(self, pulse: ModelPulse) -> bool:
        """Whether that changes nothing, as most pulses: all was said before, and no kin stands in for it."""
        claims = pulse.prefill_ms_per_token > 0.0 and pulse.tpot_ms > 0.0
        return claims and pulse == self.pulse and pulse.state is not ModelState.LOADING

    def hear(self, pulse: ModelPulse, now_s: float) -> None:
        """Fold in what the node says; a model that left memory took its prefix cache along."""
        if pulse.state is not ModelState.READY:
            self.forget_prefix()
        if pulse.state is ModelState.LOADING and self.pulse.state is not ModelState.LOADING and self.lore:
            self.lore.loads.begin(pulse.ready_in_s, now_s)
        self.pulse, self.heard_at_s = pulse, now_s

    @property
    def load_ms(self) -> float | None:
        """How long the node claims that a load would take, None while none is to begin."""
        unloaded = self.pulse.state in (ModelState.ON_DISK, ModelState.ABSENT)
        return self.pulse.ready_in_s * 1e3 if unloaded else None

    def expect_load(self, now_s: float) -> bool:
        """We dispatched to it: if it was not ready, it is loading from now on; whether that is news."""
        if self.load_ms is None:
            return False
        self._lore().loads.begin(self.pulse.ready_in_s, now_s)
        self.pulse = replace(self.pulse, state=ModelState.LOADING)
        self.heard_at_s = now_s
        return True

    def balked(self, flight: Flight, ready_in_s: float, now_s: float) -> None:
        """The node did not take a request, and said after how long the model would have been ready.

        So nothing is loading on our behalf, and what is not ready is not in memory, or is loading for others.
        """
        state = ModelState.READY
        if ready_in_s > 0.0:
            loads = self.pulse.state is ModelState.LOADING and flight.load_ms is None
            state = ModelState.LOADING if loads else ModelState.ON_DISK
        if state is not self.pulse.state or state is not ModelState.READY:
            self.hear(replace(self.pulse, state=state, ready_in_s=ready_in_s), now_s)

    def sent(self, request: Request) -> Sent:
        """A request is on its way there: from now on the node is believed to hold its prompt."""
        self.in_flight += 1
        return self._lore().prefix.sent(request.blocks)

    def ended(self) -> bool:
        """One of those is on its way no more, whatever came of it; whether that changes a trial."""
        self.in_flight = max(0, self.in_flight - 1)
        return self.on_trial

    @property
    def at_work(self) -> bool:
        """Whether the node works on requests for it, as it told or as we sent it some."""
        return self.pulse.at_work or (self.in_flight > 0 and self.pulse.state is ModelState.READY)

    @property
    def on_trial(self) -> bool:
        """Whether no request of ours was ever answered there."""
        return self.lore is None or not self.lore.answers

    def _crowd(self) -> float:
        """Requests of ours beyond the room of the trial, one more counted; 0 when there is none."""
        if not self.on_trial:
            return 0.0
        return float(max(0, self.in_flight + 1 - self.settings.trial_requests))

    @property
    def _sharing(self) -> tuple[float, float]:
        """(how many times as long as alone all usually takes, effect of sharing: -1 until learned)."""
        lore = self.lore
        if lore is None or not lore.prefill.count:
            return 1.0, -1.0
        return lore.slower(lore.sharing.value), lore.sharing_effect.value

    def learn(self, request: Request, flight: Flight, outcome: Outcome, now_s: float) -> None:
        """Fold in one answer and what was predicted of it."""
        lore = self._lore()
        if outcome.timings is not None:
            if not (lore.prefill.count and lore.decode.count):
                lore.begin_from(self._prefill(), self._tpot())
            self.kin.learn_speeds(self.kind, outcome.timings)
        lore.learn(request, flight, outcome, now_s)

    def failed(self, request: Request) -> None:
        """A request sent there brought no answer."""
        if self.lore is not None:
            self.lore.prefix.failed(request.blocks)

    def _lore(self) -> Lore:
        if self.lore is None:
            memory = PrefixMemory(self.settings.prefix_blocks_max, self.owners, self.node)
            self.lore = Lore(self.settings, PrefixCache(memory), self.kin)
        return self.lore

    def forget_prefix(self) -> None:
        """The node holds no prefix any more."""
        if self.lore is not None:
            self.lore.prefix.clear()

    def view(self, concurrency: float, now_s: float) -> ModelView:
        """The belief as routing reads it, for a request that would be the `concurrency`-th in work."""
        waiting = self.pulse.state is ModelState.LOADING
        ready_in_s = max(0.0, self._ready_in_s() - (now_s - self.heard_at_s if waiting else 0.0))
        base_ms, ms_per_token = self._prefill()
        tpot_ms, tpot_ms_slope = self._tpot()
        tpot_ms += tpot_ms_slope * concurrency
        lore = self.lore
        error_ms = lore.error.value if lore is not None and lore.error.weight else self.kin.error.value
        error_ms += caution(self._crowd(), scarce=self.kin.scarce) * self.kin.trial_ms(
            self.settings.trial_share
        )
        if lore is None:
            return ModelView(
                self.pulse.state,
                ready_in_s,
                base_ms,
                ms_per_token,
                tpot_ms,
                *self._sharing,
                self.at_work,
                error_ms=error_ms,
            )
        cached_base, cached_per_byte = lore.prefix.tokens.fit()
        return ModelView(
            state=self.pulse.state,
            ready_in_s=ready_in_s,
            prefill_base_ms=base_ms,
            prefill_ms_per_token=ms_per_token,
            tpot_ms=tpot_ms,
            sharing=self._sharing[0],
            sharing_effect=self._sharing[1],
            at_work=self.at_work,
            cached_prefix=lore.prefix.memory,
            cached_tokens_base=cached_base if lore.prefix.memory else 0.0,
            cached_tokens_per_byte=cached_per_byte,
            bias_ms=lore.bias_ms(now_s),
            error_ms=error_ms,
            observations=lore.answers,
            ttft_peak_ms=lore.ttft_peak.at(now_s),
            response_ms=lore.response.value,
            service_ms=lore.service.value,
        )

    def write(self, table: ModelTable) -> None:
        """Put the numbers of the belief into their columns."""
        row = table.row_of(self.node)
        if row is None:
            return
        table.loading[row] = self.pulse.state is ModelState.LOADING
        told = (self._ready_in_s(), self.heard_at_s, self.refused_until_s, *self._prefill(), *self._tpot())
        now = (*told, float(self.at_work), *self._sharing)
        table.write(row, now if self.lore is None else (*now, self._crowd(), *self.lore.numbers()))

    def _ready_in_s(self) -> float:
        """Seconds from `heard_at_s` until ready: the node's claim, and how late its loads lately were."""
        if self.lore is None:
            return self.pulse.ready_in_s
        return self.lore.loads.ready_in_s(self.pulse, self.heard_at_s)

    def _prefill(self) -> tuple[float, float]:
        """Our own line once it has samples; until then the node's claim, without one what its kin showed."""
        if self.lore is not None and self.lore.prefill.count:
            (base_ms, ms_per_token), slower = self.lore.prefill.fit(), self._sharing[0]
            return slower * base_ms, slower * ms_per_token
        if self.pulse.prefill_base_ms > 0 or self.pulse.prefill_ms_per_token > 0:
            return self.pulse.prefill_base_ms, self.pulse.prefill_ms_per_token
        return self.kin.prefill(self.kind)

    def _tpot(self) -> tuple[float, float]:
        """(base, slope over concurrency), likewise."""
        if self.lore is not None and self.lore.decode.count:
            (base_ms, slope_ms), slower = self.lore.decode.fit(), self._sharing[0]
            return slower * base_ms, slower * slope_ms
        return (self.pulse.tpot_ms, 0.0) if self.pulse.tpot_ms > 0 else self.kin.decode(self.kind)
