"""The beliefs of all nodes, and how events change them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from isochrone.fleet import effects as eff
from isochrone.fleet import events as ev
from isochrone.fleet.effects import Effect
from isochrone.fleet.learn import Line
from isochrone.fleet.node import NodeBelief
from isochrone.fleet.output import OutputLength
from isochrone.fleet.settings import DEFAULT_SETTINGS, FleetSettings
from isochrone.fleet.speed import Speed
from isochrone.model import Estimate, FleetView, ModelPulse, OutcomeKind, Pulse, Request, Timings

RttPrior = Callable[[str], float | None]
"""Round trip in milliseconds from this gateway to a region, or None when the table does not know it."""

_PRIOR_BYTES_PER_TOKEN = 4.0
_PRIOR_TEMPLATE_TOKENS = 16.0
_PRIOR_PROMPT_BYTES = (0.0, 1024.0)
_UNKNOWN_RTT_MS = 50.0
_TEMPLATE_TOKENS_MAX = 8192
"""More tokens than a prompt has bytes can only come from the chat template."""
_OUTPUT_TOKENS_MAX = 131_072


@dataclass(frozen=True, slots=True)
class _Flight:
    """A dispatched request: where it went and what was predicted."""

    node: str
    estimate: Estimate


@dataclass(slots=True)
class _ModelLore:
    """What is known of a model wherever it runs: how long its prompts and its answers are."""

    tokens: Line
    output: OutputLength
    turn: int = 0


class Fleet:
    """Beliefs of one gateway. Not for use from several threads."""

    def __init__(
        self, settings: FleetSettings = DEFAULT_SETTINGS, rtt_prior: RttPrior = lambda _region: None
    ) -> None:
        self._settings = settings
        self._rtt_prior = rtt_prior
        self._nodes: dict[str, NodeBelief] = {}
        self._lore: dict[str, _ModelLore] = {}
        self._flights: dict[str, _Flight] = {}
        self._ever_listed: dict[str, None] = {}
        self._bus_up = True

    # -- what others read ----------------------------------------------------------------------------

    def view(self, model: str, now_s: float) -> FleetView:
        """The snapshot that routing reads to place a request for `model` now."""
        lore = self._lore.get(model) or self._new_lore()
        base, per_byte = lore.tokens.fit()
        output_base, output_per_limit = lore.output.limited.fit()
        listed = (node for name, node in sorted(self._nodes.items()) if node.known and model in node.speeds)
        return FleetView(
            now_s=now_s,
            model=model,
            nodes=tuple(node.view(model, now_s, bus_up=self._bus_up) for node in listed),
            prompt_tokens_base=base,
            prompt_tokens_per_byte=per_byte,
            output_tokens_mean=lore.output.unlimited.value,
            output_tokens_base=output_base,
            output_tokens_per_limit=output_per_limit,
            output_tokens_most=lore.output.most,
            turn=lore.turn,
        )

    def beliefs(self) -> Iterator[NodeBelief]:
        """Every known node, in order of name; to look at, not to change."""
        return (node for _, node in sorted(self._nodes.items()) if node.known)

    def belief(self, node: str) -> NodeBelief | None:
        """What is believed of the node called `node`, or None while it is not known."""
        belief = self._nodes.get(node)
        return belief if belief is not None and belief.known else None

    def models(self) -> tuple[str, ...]:
        """Every model that some known node lists, in order of name."""
        return tuple(sorted({name for node in self.beliefs() for name in node.speeds}))

    def surely_unknown(self, model: str) -> bool:
        """Whether no node ever listed `model`, though we have heard of the fleet."""
        heard = self._bus_up and any(node.known for node in self._nodes.values())
        return heard and model not in self._ever_listed

    @property
    def in_flight(self) -> int:
        """Requests dispatched and not yet finished."""
        return len(self._flights)

    @property
    def bus_up(self) -> bool:
        """Whether the message bus was there when last heard of."""
        return self._bus_up

    # -- events --------------------------------------------------------------------------------------

    def step(self, event: ev.Event, now_s: float) -> tuple[Effect, ...]:
        """Fold one event in; returns what is to be done about it."""
        match event:
            case ev.PulseReceived(pulse):
                return self._pulse(pulse, now_s)
            case ev.CardReceived():
                return self._card(event, now_s)
            case ev.LoadReported(name, load):
                if (node := self._nodes.get(name)) is not None:
                    node.hear_load(load, now_s)
                    return self._speaks_again(node)
            case ev.RttMeasured(name, rtt_ms):
                if (node := self._nodes.get(name)) is not None:
                    node.rtt.add(rtt_ms)
                    node.heard_at_s = now_s
                    return self._speaks_again(node)
            case ev.Blamed(name, why):
                if (node := self._nodes.get(name)) is not None:
                    return self._blame(node, why, now_s)
            case ev.Dispatched():
                self._dispatch(event, now_s)
            case ev.Finished():
                return self._finish(event, now_s)
            case ev.BusChanged(connected):
                self._bus(connected=connected, now_s=now_s)
            case ev.Tick():
                return self._tick(now_s)
        return ()

    def _pulse(self, pulse: Pulse, now_s: float) -> tuple[Effect, ...]:
        node = self._nodes.get(pulse.node)
        if node is None:
            if len(self._nodes) >= self._settings.nodes_max:
                return ()
            node = self._nodes[pulse.node] = NodeBelief(self._settings, pulse.node)
        known_before, last = node.known, node.pulse
        if last is not None and (pulse.epoch, pulse.seq) <= (last.epoch, last.seq):
            return ()
        if last is not None and pulse.epoch > last.epoch:
            self._reborn(node)
        node.pulse = pulse
        node.hear_load(pulse.load, now_s)
        self._hear_models(node, pulse.models, now_s)
        effects = list(self._speaks_again(node))
        if pulse.card_digest != node.card_digest and self._may_ask_card(node, now_s):
            effects.append(eff.CardWanted(node.name))
        if node.known and not known_before:
            effects.append(eff.NodeJoined(node.name))
        return tuple(effects)

    def _speaks_again(self, node: NodeBelief) -> tuple[Effect, ...]:
        if not node.health.silent:
            return ()
        node.health.silent = False
        return (eff.NodeReturned(node.name),)

    def _may_ask_card(self, node: NodeBelief, now_s: float) -> bool:
        if now_s - node.card_asked_at_s < self._settings.card_retry_s:
            return False
        node.card_asked_at_s = now_s
        return True

    def _reborn(self, node: NodeBelief) -> None:
        """The node's process is a new one: what we learned of the old one's memory is void."""
        for speed in node.speeds.values():
            speed.prefix.clear()
        node.health.failures = node.health.ejections = 0
        node.health.ejected_until_s = 0.0

    def _hear_models(self, node: NodeBelief, models: tuple[ModelPulse, ...], now_s: float) -> None:
        while len(self._ever_listed) > self._settings.models_max:
            del self._ever_listed[next(iter(self._ever_listed))]
        for gone in node.speeds.keys() - {model.name for model in models}:
            del node.speeds[gone]
        for model in models:
            self._ever_listed.setdefault(model.name)
            speed = node.speeds.get(model.name)
            if speed is None:
                node.speeds[model.name] = Speed(self._settings, model, now_s)
            else:
                speed.hear(model, now_s)

    def _card(self, event: ev.CardReceived, now_s: float) -> tuple[Effect, ...]:
        node = self._nodes.get(event.card.node)
        if node is None:
            return ()
        known_before = node.known
        node.card, node.card_digest = event.card, event.digest
        if not node.rtt.measured:
            prior_ms = self._rtt_prior(event.card.region)
            node.rtt.value_ms = _UNKNOWN_RTT_MS if prior_ms is None else prior_ms
        return (eff.NodeJoined(node.name),) if node.known and not known_before else ()

    def _dispatch(self, event: ev.Dispatched, now_s: float) -> None:
        lore = self._lore_of(event.request)
        lore.turn += 1
        node = self._nodes.get(event.node)
        if node is None:
            return
        self._flights[event.request.id] = _Flight(event.node, event.estimate)
        node.ledger.reserve(event.request.id, event.estimate.service_s, now_s)
        if (speed := node.speeds.get(event.request.model)) is not None:
            speed.expect_load(now_s)

    def _finish(self, event: ev.Finished, now_s: float) -> tuple[Effect, ...]:
        outcome = event.outcome
        flight = self._flights.get(outcome.request_id)
        if flight is None or flight.node != outcome.node:
            return ()
        del self._flights[outcome.request_id]
        node = self._nodes.get(outcome.node)
        if node is None:
            return ()
        node.ledger.release(outcome.request_id)
        match outcome.kind:
            case OutcomeKind.ANSWERED if outcome.status == 200:  # an error answered fast is no speed
                node.health.failures = node.health.ejections = 0
                self._learn(node, flight, event, now_s)
            case OutcomeKind.REFUSED:
                if (speed := node.speeds.get(event.request.model)) is not None:
                    speed.refused_until_s = now_s + self._settings.refused_s
            case OutcomeKind.FAILED | OutcomeKind.SILENT if not outcome.status:
                return self._blame(node, outcome.detail or outcome.kind.value, now_s)
        return ()

    def _learn(self, node: NodeBelief, flight: _Flight, event: ev.Finished, now_s: float) -> None:
        request, outcome = event.request, event.outcome
        if outcome.timings is not None and not _plausible(request, outcome.timings):
            return
        if (speed := node.speeds.get(request.model)) is not None:
            speed.learn(request, flight.estimate, outcome, now_s)
        if outcome.timings is not None and outcome.timings.output_tokens > 0:
            lore = self._lore_of(request)
            lore.output.learn(request.output_tokens_max, outcome.timings.output_tokens)
            if outcome.timings.prompt_tokens > 0:
                lore.tokens.add(request.prompt_bytes, outcome.timings.prompt_tokens)

    def _lore_of(self, request: Request) -> _ModelLore:
        return self._lore.setdefault(request.model, self._new_lore())

    def _new_lore(self) -> _ModelLore:
        tokens = Line(self._settings.samples_memory)
        tokens.expect(_PRIOR_TEMPLATE_TOKENS, 1 / _PRIOR_BYTES_PER_TOKEN, _PRIOR_PROMPT_BYTES, samples=0.5)
        return _ModelLore(tokens, OutputLength())

    def _blame(self, node: NodeBelief, why: str, now_s: float) -> tuple[Effect, ...]:
        """Count a failure; those of requests sent before an ejection do not prolong it."""
        health, settings = node.health, self._settings
        if now_s < health.ejected_until_s:
            return ()
        health.failures += 1
        health.why = why
        if health.failures < settings.failures_to_eject:
            return ()
        eject_s = min(settings.eject_s * 2**health.ejections, settings.eject_s_max)
        health.ejections = min(health.ejections + 1, 30)
        health.failures = settings.failures_to_eject - 1
        health.ejected_until_s = now_s + eject_s
        return (eff.NodeEjected(node.name, eject_s, why),)

    def _bus(self, *, connected: bool, now_s: float) -> None:
        """When the bus returns, every node gets its full time to be heard again."""
        if connected and not self._bus_up:
            for node in self._nodes.values():
                node.heard_at_s = now_s
                node.health.silent = False
        self._bus_up = connected

    def _tick(self, now_s: float) -> tuple[Effect, ...]:
        if not self._bus_up:
            return ()
        effects: list[Effect] = []
        for node in list(self._nodes.values()):
            age_s = now_s - node.heard_at_s
            leaving = node.pulse is not None and node.pulse.leaving
            if age_s > self._settings.forget_s or (leaving and age_s > self._settings.silent_s):
                del self._nodes[node.name]
                effects.append(eff.NodeForgotten(node.name))
            elif age_s > self._settings.silent_s and not node.health.silent:
                node.health.silent = True
                effects.append(eff.NodeSilent(node.name, age_s))
        return tuple(effects)


def _plausible(request: Request, timings: Timings) -> bool:
    """Whether a node's claim can be true of this request: a lie here would mislead us about all nodes."""
    output_tokens_max = request.output_tokens_max or _OUTPUT_TOKENS_MAX
    return (
        timings.prompt_tokens <= request.prompt_bytes + _TEMPLATE_TOKENS_MAX
        and timings.cached_tokens <= timings.prompt_tokens
        and timings.output_tokens <= output_tokens_max
    )
