"""The beliefs of all nodes, and how events change them."""

from collections.abc import Callable, Iterator

import numpy as np

from isochrone.fleet import effects as eff
from isochrone.fleet import events as ev
from isochrone.fleet.beliefs import Beliefs
from isochrone.fleet.effects import Effect
from isochrone.fleet.flights import Flights
from isochrone.fleet.gateways import Gateways
from isochrone.fleet.models import Models
from isochrone.fleet.node import NodeBelief
from isochrone.fleet.probes import Answer
from isochrone.fleet.roll import FleetRoll, Idle, usable_probes
from isochrone.fleet.settings import DEFAULT_SETTINGS, FleetSettings
from isochrone.fleet.tables import NodeTable
from isochrone.fleet.told import Told
from isochrone.model import (
    NOBODY,
    Company,
    FleetView,
    GatewayPulse,
    Load,
    Me,
    ModelFlow,
    NodeCard,
    Places,
    Pulse,
)

RttBetween = Callable[[str, str], float | None]
"""Round trip in milliseconds between two regions, or None when the table does not know one of them."""

_FRONT_TOLD = 12


class Fleet:
    """Beliefs of one gateway. Not for use from several threads."""

    def __init__(
        self,
        settings: FleetSettings = DEFAULT_SETTINGS,
        me: Me = NOBODY,
        rtt_between: RttBetween = lambda _a, _b: None,
    ) -> None:
        self._settings, self._me = settings, me
        self._places = Places(rtt_between)
        self._table = NodeTable()
        self._rows: list[NodeBelief | None] = []
        self._free_rows: list[int] = []
        self._nodes: dict[str, NodeBelief] = {}
        self._idle: dict[int, None] = {}
        self._models = Models(settings, self._table)
        self._flights = Flights(settings, self._models)
        self._gateways = Gateways(settings.gateways_max, settings.silent_s)
        self._told = Told(me, self._places, self._models, settings)
        self._bus_up = True

    # -- what others read ----------------------------------------------------------------------------

    def view(self, model: str, now_s: float) -> FleetView:
        """The snapshot that routing reads to place a request for `model` now; stale with the next event."""
        lore = self._models.look(model)
        base, per_byte = lore.tokens.fit()
        output_base, output_per_limit = lore.output.limited.fit()
        beliefs = Beliefs(
            settings=self._settings,
            table=self._table,
            node=self._node_at,
            row_of=self.row_of,
            owners=lore.owners,
            kin_error_ms=lore.kin.error.value,
            trial_ms=lore.kin.trial_ms(self._settings.trial_share),
            scarce=lore.kin.scarce,
            model=model,
            listing=lore.table,
            now_s=now_s,
            bus_up=self._bus_up,
        )
        return FleetView(
            now_s=now_s,
            model=model,
            nodes=FleetRoll(beliefs),
            prompt_tokens_base=base,
            prompt_tokens_per_byte=per_byte,
            output_tokens_mean=lore.output.unlimited.value,
            answer_tokens_mean=lore.output.answers.value,
            output_tokens_base=output_base,
            output_tokens_per_limit=output_per_limit,
            output_tokens_most=lore.output.most,
            output_share=lore.clients.believed,
            turn=lore.turn,
            idle=Idle(self._idle, lore.table),
            probes=usable_probes(lore, now_s),
            probed_in_flight=lore.probes.seen,
            prompt_bytes_mean=lore.tokens.mean_x,
            me=self._me,
            own_work_per_s=lore.flow.at(now_s),
            own_requests_per_s=lore.requests.at(now_s),
            peers=self._gateways.peers(model),
            places=self._places,
            front=lore.front.first(_FRONT_TOLD * lore.plan.lots) if lore.plan and lore.front else (),
            plan=lore.plan,
        )

    def company(self, model: str) -> Company | None:
        """Which gateways tell each other what they send for `model`, by the last plan."""
        plan = self._models.look(model).plan
        return plan.company if plan is not None else None

    def flows(self, now_s: float) -> tuple[ModelFlow, ...]:
        """Our own traffic, for the other gateways: each model that we lately sent requests for."""
        return self._models.flows(now_s)

    def gateways(self) -> tuple[GatewayPulse, ...]:
        """What the other gateways lately told."""
        return self._gateways.pulses()

    def beliefs(self) -> Iterator[NodeBelief]:
        """Every known node, in order of name; to look at, not to change."""
        return (node for _, node in sorted(self._nodes.items()) if node.known)

    def belief(self, node: str) -> NodeBelief | None:
        """What is believed of the node called `node`, or None while it is not known."""
        belief = self._nodes.get(node)
        return belief if belief is not None and belief.known else None

    def card(self, node: str) -> NodeCard:
        """The card of a node that is known. Raises KeyError for another."""
        return self._nodes[node].card

    def row_of(self, node: str) -> int | None:
        """The row of a node in the columns of `LoadsReceived`; its own until it is forgotten."""
        belief = self._nodes.get(node)
        return None if belief is None else belief.row

    def models(self) -> tuple[str, ...]:
        """Every model that some known node lists, in order of name."""
        return self._models.listed()

    def surely_unknown(self, model: str) -> bool:
        """Whether no node ever listed `model`, though we have heard of the fleet."""
        if self._models.ever_listed(model):
            return False
        return self._bus_up and bool(self._table.known[: self._table.rows].any())

    @property
    def told(self) -> int:
        """Dispatches that other gateways told of since the start."""
        return self._told.heard

    @property
    def in_flight(self) -> int:
        """Requests dispatched and not yet finished."""
        return len(self._flights)

    @property
    def bus_up(self) -> bool:
        """Whether the message bus was there when last heard of."""
        return self._bus_up

    def _node_at(self, row: int) -> NodeBelief:
        node = self._rows[row]
        if node is None:
            raise LookupError(f"no node has row {row}")
        return node

    # -- events --------------------------------------------------------------------------------------

    def step(self, event: ev.Event, now_s: float) -> tuple[Effect, ...]:
        """Fold one event in; returns what is to be done about it."""
        match event:
            case ev.Dispatched():
                self._dispatch(event, now_s)
            case ev.Finished():
                return self._finish(event, now_s)
            case ev.Planned():
                self._models.planned(event, now_s)
            case ev.GatewayHeard(pulse):
                self._gateways.hear(pulse, now_s)
            case ev.LedgerHeard(news):
                self._told.fold(news, self._nodes, now_s)
            case ev.BusChanged(connected):
                self._bus(connected=connected, now_s=now_s)
            case ev.Tick():
                return self._tick(now_s)
            case ev.PulseReceived(pulse):
                return self._pulse(pulse, now_s)
            case ev.LoadsReceived():
                return self._loads(event)
            case ev.CardReceived():
                return self._card(event)
            case _:
                return self._of_one_node(event, now_s)
        return ()

    def _of_one_node(self, event: ev.NodeEvent, now_s: float) -> tuple[Effect, ...]:
        """Events of a node that is only news while the node is known."""
        node = self._nodes.get(event.node)
        if node is None:
            return ()
        match event:
            case ev.LoadReported():
                node.hear_load(event.load, now_s)
                return self._speaks_again(node)
            case ev.RttMeasured():
                node.measure_rtt(event.rtt_ms, now_s)
                return self._speaks_again(node)
            case ev.Blamed():
                return self._blame(node, event.why, now_s)
            case ev.IdleAnnounced():
                self._announce_idle(node, event.load, now_s)
            case ev.ProbeAnswered():
                self._probe(node, event, now_s)
        return ()

    # -- news from nodes -----------------------------------------------------------------------------

    def _pulse(self, pulse: Pulse, now_s: float) -> tuple[Effect, ...]:
        node = self._nodes.get(pulse.node)
        if node is None:
            if len(self._nodes) >= self._settings.nodes_max:
                return ()
            node = self._meet(pulse.node)
        known_before, last = node.known, node.pulse
        table, row = self._table, node.row
        if (pulse.epoch, pulse.seq) <= (table.epoch.item(row), table.seq.item(row)):
            return ()
        if last is not None and pulse.epoch > last.epoch:
            self._reborn(node)
        node.pulse = pulse
        table.epoch[row], table.seq[row], table.leaving[row] = pulse.epoch, pulse.seq, pulse.leaving
        node.hear_load(pulse.load, now_s)
        more_models = self._models.hear(node, pulse.models, now_s)
        effects = self._speaks_again(node)
        if pulse.card_digest != node.card_digest and self._may_ask_card(node, now_s):
            effects = (*effects, eff.CardWanted(node.name))
        if (more_models or not known_before) and self._now_known(node) and not known_before:
            effects = (*effects, eff.NodeJoined(node.name))
        return effects

    def _loads(self, event: ev.LoadsReceived) -> tuple[Effect, ...]:
        table, rows = self._table, self._table.take_pulses(event)
        for row in rows[table.own_unseen[rows] > 0]:
            self._node_at(row).count_unseen()
        returned = rows[table.silent[rows]]
        table.silent[returned] = False
        return tuple(eff.NodeReturned(self._node_at(row).name) for row in returned)

    def _meet(self, name: str) -> NodeBelief:
        if self._free_rows:
            row = self._free_rows.pop()
            self._table.reset(row)
        else:
            row = self._table.add_row()
            self._rows.append(None)
        node = self._nodes[name] = self._rows[row] = NodeBelief(self._settings, self._table, row, name)
        return node

    def _now_known(self, node: NodeBelief) -> bool:
        """List the models of a node once its card and its pulse are both here."""
        if node.known:
            self._models.list_all(node)
        return node.known

    def _speaks_again(self, node: NodeBelief) -> tuple[Effect, ...]:
        if not self._table.silent[node.row]:
            return ()
        self._table.silent[node.row] = False
        return (eff.NodeReturned(node.name),)

    def _may_ask_card(self, node: NodeBelief, now_s: float) -> bool:
        if now_s - node.card_asked_at_s < self._settings.card_retry_s:
            return False
        node.card_asked_at_s = now_s
        return True

    def _reborn(self, node: NodeBelief) -> None:
        """The node's process is a new one: what we learned of the old one's memory is void."""
        for speed in node.speeds.values():
            speed.forget_prefix()
        node.recover()
        self._table.ejected_until_s[node.row] = 0.0

    def _card(self, event: ev.CardReceived) -> tuple[Effect, ...]:
        node = self._nodes.get(event.card.node)
        if node is None:
            return ()
        known_before = node.known
        node.card, node.card_digest = event.card, event.digest
        self._table.region[node.row] = self._places.number(event.card.region)
        node.expect_rtt(self._places.rtt_ms(self._me.region, event.card.region))
        return (eff.NodeJoined(node.name),) if self._now_known(node) and not known_before else ()

    def _announce_idle(self, node: NodeBelief, load: Load, now_s: float) -> None:
        node.hear_load(load, now_s)
        self._idle.pop(node.row, None)
        self._idle[node.row] = None
        while len(self._idle) > self._settings.idle_max:
            del self._idle[next(iter(self._idle))]

    def _probe(self, node: NodeBelief, event: ev.ProbeAnswered, now_s: float) -> None:
        if event.model not in node.speeds:
            return
        load, lore = event.load, self._models.of(event.model)
        wait_ms = 1e3 * (load.wait_s if load.running + load.queued >= load.slots else 0.0)
        view = node.speeds[event.model].view(min(load.slots, load.running + 1), now_s)
        latency_ms = event.rtt_ms + wait_ms + (view.service_ms or view.prefill_base_ms)
        lore.probes.add(Answer(node.row, load.running + load.queued, latency_ms, now_s), lore.table.rows)

    # -- our own requests ----------------------------------------------------------------------------

    def _dispatch(self, event: ev.Dispatched, now_s: float) -> None:
        self._models.of(event.request.model).turn += 1
        node = self._nodes.get(event.node)
        if node is not None:
            self._idle.pop(node.row, None)
            self._flights.begin(event, node, now_s)

    def _finish(self, event: ev.Finished, now_s: float) -> tuple[Effect, ...]:
        node = self._nodes.get(event.outcome.node)
        why = self._flights.end(event, node, now_s)
        return () if node is None or why is None else self._blame(node, why, now_s)

    # -- health --------------------------------------------------------------------------------------

    def _blame(self, node: NodeBelief, why: str, now_s: float) -> tuple[Effect, ...]:
        eject_s = node.blame(why, now_s)
        return () if eject_s is None else (eff.NodeEjected(node.name, eject_s, why),)

    def _bus(self, *, connected: bool, now_s: float) -> None:
        """When the bus returns, every node gets its full time to be heard again."""
        if connected and not self._bus_up:
            self._table.heard_at_s[: self._table.rows] = now_s
            self._table.silent[: self._table.rows] = False
        self._bus_up = connected

    def _tick(self, now_s: float) -> tuple[Effect, ...]:
        if not self._bus_up:
            return ()
        self._gateways.forget_silent(now_s)
        effects: list[Effect] = []
        table, rows, settings = self._table, self._table.rows, self._settings
        age_s = now_s - table.heard_at_s[:rows]
        for row in np.flatnonzero(age_s > settings.silent_s):
            node = self._rows[row]
            if node is None:
                continue
            if age_s[row] > settings.forget_s or table.leaving[row]:
                self._forget(node)
                effects.append(eff.NodeForgotten(node.name))
            elif not table.silent[row]:
                table.silent[row] = True
                effects.append(eff.NodeSilent(node.name, float(age_s[row])))
        return tuple(effects)

    def _forget(self, node: NodeBelief) -> None:
        for model in list(node.speeds):
            self._models.unlist(node, model)
        self._table.known[node.row] = False
        self._idle.pop(node.row, None)
        del self._nodes[node.name]
        self._rows[node.row] = None
        self._free_rows.append(node.row)
