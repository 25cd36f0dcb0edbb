"""Keeping the beliefs fresh: the bus and the probes in, effects out."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any

from isochrone.fleet import (
    BusChanged,
    CardReceived,
    CardWanted,
    Effect,
    Event,
    Fleet,
    GatewayHeard,
    IdleAnnounced,
    NodeEjected,
    NodeForgotten,
    NodeJoined,
    NodeReturned,
    NodeSilent,
    PulseReceived,
    RttMeasured,
    Teller,
    Tick,
)
from isochrone.gateway.planner import Planner
from isochrone.gateway.settings import GatewaySettings
from isochrone.gateway.telling import Telling
from isochrone.model import FleetView, GatewayPulse, Me, Request
from isochrone.ports import Bus, BusError, Clock, UpstreamError
from isochrone.relay import Headers, HttpClient
from isochrone.routing import Router
from isochrone.wire import WireError
from isochrone.wire.gateways import GATEWAY_FLOWS_MAX, decode_gateway_pulse, encode_gateway_pulse
from isochrone.wire.nodes import bytes_digest, decode_card, decode_idle, decode_pulse
from isochrone.wire.subjects import (
    GATEWAYS,
    HEADER_NODES,
    IDLE,
    IDLE_LISTENERS,
    PING_PATH,
    PULSES,
    gateway_subject,
    idle_subject,
    pulse_subject,
)

Listener = Callable[..., None]
"""Called with `silent=True` when a node falls silent, and with `silent=False` when it speaks again."""

_PROBE_AGAIN_S = 0.2
_PROBE_MISSES = 3


class Membership:
    """Feeds a Fleet from the bus and from probes, and performs its effects.

    Attributes:
        fleet: the beliefs.
        undecodable: messages that made no sense since the start.
        idle_heard: announcements of idleness heard since the start.
        telling: what gateways tell each other that they send.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        *,
        fleet: Fleet,
        bus: Bus,
        client: HttpClient,
        clock: Clock,
        node_headers: Headers,
        log: Callable[[str], None],
    ) -> None:
        self.fleet = fleet
        self._settings, self._bus, self._client, self._clock = settings, bus, client, clock
        self._node_headers, self._log = node_headers, log
        self._probes: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._listeners: dict[str, set[Listener]] = {}
        self._epoch = clock.unix_ms()
        self._planner = Planner(
            fleet, clock=clock, fold=self.step, log=log, at_once_nodes_max=settings.plan_at_once_nodes_max
        )
        self.telling = Telling(
            Teller(Me.of(settings.name, settings.region), self._epoch),
            fleet=fleet,
            bus=bus,
            clock=clock,
            fold=self.step,
            spawn=self._spawn,
        )
        self.undecodable = 0
        self.idle_heard = 0

    async def start(self) -> None:
        """Listen to pulses, and to idle nodes where the policy wants that, and begin to tick."""
        self._bus.on_change(lambda up: self.step(BusChanged(up)))
        self.step(BusChanged(self._bus.connected))
        await self._bus.subscribe(PULSES, self._heard)
        if self._settings.hears_idle_news:
            await self._bus.subscribe(IDLE, self._heard_idle, queue=IDLE_LISTENERS)
        await self._bus.subscribe(GATEWAYS, self._heard_gateway)
        await self.telling.start()
        self._spawn(self._ticks())
        self._spawn(self._speak())

    async def stop(self) -> None:
        """End all probes, ticks and plans."""
        await self._planner.stop()
        self.telling.stop()
        tasks = [*self._tasks, *self._probes.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def step(self, event: Event) -> None:
        """Fold one event into the beliefs and do what follows."""
        for effect in self.fleet.step(event, self._clock.now_s()):
            self._perform(effect)

    def view(self, request: Request, router: Router) -> FleetView:
        """What is believed now, to place `request`, with a plan that is fresh or soon will be."""
        return self._planner.view(request, router)

    def listen(self, node: str, listener: Listener) -> None:
        """Have `listener` called when `node` falls silent or speaks again, until `unlisten`."""
        self._listeners.setdefault(node, set()).add(listener)

    def unlisten(self, node: str, listener: Listener) -> None:
        """Call `listener` no more."""
        listeners = self._listeners[node]
        listeners.discard(listener)
        if not listeners:
            del self._listeners[node]

    # -- in ------------------------------------------------------------------------------------------

    def _heard(self, subject: str, payload: bytes) -> None:
        try:
            pulse = decode_pulse(payload)
        except WireError:
            self.undecodable += 1
            return
        if subject != pulse_subject(pulse.node):  # whoever may publish there is the node
            self.undecodable += 1
            return
        self.step(PulseReceived(pulse))

    def _heard_idle(self, subject: str, payload: bytes) -> None:
        try:
            node, load = decode_idle(payload)
        except WireError:
            self.undecodable += 1
            return
        if subject != idle_subject(node):
            self.undecodable += 1
            return
        self.idle_heard += 1
        self.step(IdleAnnounced(node, load))

    def _heard_gateway(self, subject: str, payload: bytes) -> None:
        try:
            pulse = decode_gateway_pulse(payload)
        except WireError:
            self.undecodable += 1
            return
        if subject != gateway_subject(pulse.gateway):
            self.undecodable += 1
        elif pulse.gateway != self._settings.name or pulse.epoch != self._epoch:  # our own words come back
            self.step(GatewayHeard(pulse))

    async def _speak(self) -> None:
        """Tell the other gateways our traffic, over and over."""
        for seq in count(1):
            await asyncio.sleep(self._settings.pulse_s)
            flows = self.fleet.flows(self._clock.now_s())
            pulse = GatewayPulse(
                self._settings.name,
                self._epoch,
                seq,
                self._settings.region,
                flows[:GATEWAY_FLOWS_MAX],
                tells=self._settings.tells,
            )
            await self._bus.publish(gateway_subject(pulse.gateway), encode_gateway_pulse(pulse))

    async def _fetch_card(self, node: str) -> None:
        try:
            data = await self._bus.get(node)
            if data is None:
                return
            card = decode_card(data)
        except (BusError, WireError) as error:
            self.undecodable += isinstance(error, WireError)
            self._log(f"the card of {node} could not be had; the next pulse asks again: {error}")
            return
        if card.node != node:
            self._log(f"the card under {node} is that of {card.node}: not taken")
            return
        self.step(CardReceived(card, bytes_digest(data)))

    async def _ticks(self) -> None:
        while True:
            await asyncio.sleep(self._settings.tick_s)
            self.step(Tick())

    async def _probe(self, node: str) -> None:
        """Measure the round trip over and over, on a warm connection; of many nodes each one less often."""
        settings, misses = self._settings, 0
        while True:
            rtt_ms = await self._ping(node)
            if rtt_ms is not None:
                self.step(RttMeasured(node, rtt_ms))
            misses = 0 if rtt_ms is not None else misses + 1
            again_soon = 0 < misses <= _PROBE_MISSES  # the first only sets the connection up
            all_probed_s = len(self._probes) / settings.rtt_probes_per_s_max
            # Never in step: nodes that were all heard of at once would be asked all at once for ever.
            pause_s = max(settings.rtt_probe_s, all_probed_s) * random.uniform(0.75, 1.25)
            await asyncio.sleep(_PROBE_AGAIN_S if again_soon else pause_s)

    async def _ping(self, node: str) -> float | None:
        """One round trip; None when it failed or had to set a connection up, which is no round trip."""
        belief = self.fleet.belief(node)
        if belief is None:
            return None
        try:
            async with asyncio.timeout(self._settings.rtt_probe_s_max):
                sent_s = self._clock.now_s()
                headers = (*self._node_headers, (HEADER_NODES, str(len(self._probes)).encode()))
                response = await self._client.request("GET", belief.card.url + PING_PATH, headers)
                came_s = self._clock.now_s()
                response.close()  # it has no body, or is not what was asked for
        except (UpstreamError, TimeoutError):
            return None
        return (came_s - sent_s) * 1e3 if response.reused and response.status == 204 else None

    # -- out -----------------------------------------------------------------------------------------

    def _perform(self, effect: Effect) -> None:
        match effect:
            case CardWanted(node):
                self._spawn(self._fetch_card(node))
            case NodeJoined(node):
                self._log(f"{node} joined")
                if node not in self._probes:
                    self._probes[node] = asyncio.create_task(self._probe(node))
            case NodeSilent(node, age_s):
                self._log(f"{node} is silent for {age_s:.1f} s: not chosen until it speaks")
                self._tell(node, silent=True)
            case NodeReturned(node):
                self._log(f"{node} speaks again")
                self._tell(node, silent=False)
            case NodeEjected(node, eject_s, why):
                self._log(f"{node} is put aside for {eject_s:.0f} s: {why}")
            case NodeForgotten(node):
                self._log(f"{node} left")
                if (probe := self._probes.pop(node, None)) is not None:
                    probe.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log(f"a task ended in an unforeseen way: {error!r}")

    def _tell(self, node: str, *, silent: bool) -> None:
        for listener in tuple(self._listeners.get(node, ())):
            listener(silent=silent)
