"""The agent: puts the parts of an inference node together and keeps them going."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from isochrone.fleet.learn import Flow
from isochrone.fleet.settings import DEFAULT_SETTINGS
from isochrone.nodes.inference.desk import Desk
from isochrone.nodes.inference.idle import IdleNews
from isochrone.nodes.inference.metrics import NodeMetrics
from isochrone.nodes.inference.relay_job import Relay
from isochrone.nodes.inference.service import Service
from isochrone.nodes.inference.settings import NodeSettings
from isochrone.nodes.inference.shelf import Shelf, ShelfParts
from isochrone.nodes.inference.state import NodeState
from isochrone.nodes.inference.tempo import Tempo
from isochrone.nodes.inference.turns import Turns
from isochrone.ports import (
    Bus,
    BusError,
    Clock,
    EngineError,
    EngineHost,
    EngineMetrics,
    IsochroneError,
    SettingError,
    Store,
)
from isochrone.relay import Headers, HttpClient, HttpServer, ServerLimits
from isochrone.wire import WireError
from isochrone.wire.nodes import (
    card_digest,
    decode_card,
    decode_pulse,
    encode_card,
    encode_idle,
    encode_pulse,
)
from isochrone.wire.openai import error_body
from isochrone.wire.subjects import idle_subject, pulse_subject


class Agent:
    """One inference node. `start`, then `stop`; the bus may come and go in between."""

    def __init__(
        self,
        settings: NodeSettings,
        *,
        host: EngineHost,
        store: Store | None,
        bus: Bus,
        clock: Clock,
        engine_headers: Headers = (),
        log: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self._settings, self._bus, self._log = settings, bus, log
        self._client = HttpClient()
        shelf = Shelf(ShelfParts(host, store, clock, settings.memory_bytes, log, self._tell))
        desk = Desk(settings.slots, settings.queue_max, Flow(DEFAULT_SETTINGS.flow_memory_s))
        self.state = NodeState(
            settings=settings,
            clock=clock,
            host=host,
            desk=desk,
            shelf=shelf,
            metrics=NodeMetrics(),
            relay_parts=Relay(
                desk,
                self._client,
                clock,
                engine_headers,
                settings.engine_silence_s_max,
                prompt_done=self._look_idle,
            ),
            tempo=Tempo(settings, clock),
            log=log,
            epoch=clock.unix_ms(),
        )
        self._idle_news = IdleNews(self.state, self._announce_idle)
        turns = Turns(desk, shelf, clock)
        limits = ServerLimits(connections_max=settings.connections_max)
        self._server = HttpServer(
            Service(self.state, turns, self._idle_news).handle,
            limits,
            error_body=error_body,
            on_crash=lambda error: log(f"a request failed in an unforeseen way: {error!r}"),
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._card_written = ""
        self._card_written_at_s = 0.0

    async def start(self) -> str:
        """Listen, preload and begin to pulse; returns the URL. Raises OSError when the port is taken."""
        settings, state = self._settings, self.state
        await state.shelf.open(settings.models)
        port = await self._server.start(settings.host, settings.port)
        state.url = settings.advertise_url or f"http://{_in_url(settings.host)}:{port}"
        _check_card(state)
        self._bus.on_change(self._bus_changed)
        self._spawn(self._pulses())
        self._idle_news.look()
        if state.host.loads:
            self._spawn(self._unload_idle())
        else:
            self._spawn(self._watch_engine())
        self._spawn(self._preload())
        return f"http://{_in_url(settings.host)}:{port}"

    async def stop(self, grace_s: float = 5.0) -> None:
        """Say goodbye, finish what is under way within `grace_s`, end every engine."""
        self.state.leaving = True
        if self.state.url:  # else we never joined, and the name may be another's
            await self._publish()
            await self._forget_card()
        await self._server.close(grace_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.state.shelf.close()
        await self._client.close()

    # -- what goes on by itself ----------------------------------------------------------------------

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log(f"a task ended in an unforeseen way: {error!r}")

    def _tell(self) -> None:
        """Something that others wait for has changed: do not let them wait for the next pulse."""
        self._spawn(self._publish())
        self._idle_news.look()

    def _look_idle(self) -> None:
        self._idle_news.look()

    def _announce_idle(self) -> None:
        name, load = self._settings.name, self.state.desk.load(self.state.clock.now_s())
        self._spawn(self._bus.publish(idle_subject(name), encode_idle(name, load)))

    def _bus_changed(self, connected: bool) -> None:  # noqa: FBT001 - the port's signature
        if connected:
            self._card_written = ""  # the server may have come back with nothing
            self._tell()
            self._idle_news.say_again()

    async def _pulses(self) -> None:
        while True:
            await self._publish()
            await asyncio.sleep(self.state.tempo.interval_s)

    async def _publish(self) -> None:
        """Tell the network our state now; the card too when it changed or is old. Silent without a bus."""
        state = self.state
        await self._bus.publish(pulse_subject(self._settings.name), encode_pulse(state.pulse()))
        card, now_s = state.card(), state.clock.now_s()
        digest = card_digest(card)
        stale = now_s - self._card_written_at_s > self._settings.card_refresh_s
        if self._bus.connected and (stale or digest != self._card_written) and not state.leaving:
            try:
                await self._bus.put(self._settings.name, encode_card(card))
            except BusError as error:
                self._log(f"the card could not be written now and will be: {error}")
            else:
                self._card_written, self._card_written_at_s = digest, now_s

    async def _forget_card(self) -> None:
        name = self._settings.name
        try:
            if await self._bus.get(name) == encode_card(self.state.card()):
                await self._bus.delete(name)
        except BusError as error:
            self._log(f"the card could not be taken back; it expires by itself: {error}")

    async def _preload(self) -> None:
        """Load models in the order given, as far as they fit beside each other."""
        shelf = self.state.shelf
        for model in filter(None, map(shelf.find, self._settings.preload)):
            if not shelf.fits(model):
                self._log(f"{model.card.name} does not fit beside the models loaded: loaded when asked for")
                continue
            try:
                await shelf.engine(model)
            except IsochroneError as error:
                self._log(f"{model.card.name} could not be loaded: {error}")

    async def _unload_idle(self) -> None:
        while True:
            await asyncio.sleep(min(5.0, max(0.1, self._settings.idle_unload_s / 4)))
            await self.state.shelf.unload_idle(self._settings.idle_unload_s)

    async def _watch_engine(self) -> None:
        """Read a foreign engine's metrics, gently: others may be using it too."""
        while True:
            models = self.state.shelf.models()
            engine = models[0].engine if models else None
            if engine is not None:
                try:
                    gauges = await engine.metrics()
                except EngineError as error:
                    self._log(str(error))
                else:
                    self._heed(gauges)
            await asyncio.sleep(self._settings.engine_metrics_s)

    def _heed(self, gauges: EngineMetrics) -> None:
        """What the engine says of itself goes into what we say of the node."""
        desk = self.state.desk
        in_engine = (gauges.running or 0) + (gauges.queued or 0)
        desk.foreign_jobs = max(0, in_engine - len(desk.running))
        desk.kv_used = gauges.kv_used or 0.0
        self._idle_news.look()


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _check_card(state: NodeState) -> None:
    """Read our own card as a gateway will. Raises SettingError for what it would refuse."""
    try:
        decode_card(encode_card(state.card()))
        decode_pulse(encode_pulse(state.pulse()))
    except WireError as error:
        raise SettingError(
            f"gateways would refuse this node ({error}); say where they reach it with --advertise-url"
        ) from error
