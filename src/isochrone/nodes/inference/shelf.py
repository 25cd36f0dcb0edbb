"""The shelf: the node's models, from absent to ready, within a memory budget."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from isochrone.model import ModelCard, ModelState
from isochrone.nodes.inference.settings import ModelSpec
from isochrone.nodes.inference.speeds import Speeds
from isochrone.ports import Clock, Engine, EngineError, EngineHost, Store, StoredModel

_READY_SOON_S = 0.05
"""A load that takes longer than expected is always expected to end this soon."""

_TOLD = 0.2
"""From this fraction of a load or a fetch on, its progress beats what we expected."""

_RETRY_S = 1.0
_RETRY_S_MAX = 300.0
"""A load that failed is tried again after the first, doubled each time up to the second."""

_ROOM_S_MAX = 60.0
"""How long a load waits for busy models to become idle."""

_LOADED_OVER_WEIGHTS = 1.25
"""Memory of a loaded model over the size of its weights, until it was measured (KV cache, buffers)."""


@dataclass(slots=True)
class ShelvedModel:
    """One model of the node.

    Attributes:
        card: what the network is told of it.
        spec: what the operator said of it.
        state: how far it is from answering.
        speeds: what was measured.
        engine: the engine that answers for it, when ready.
        loading: the load under way.
        ready_at_s: when that is expected to be done, on the node's clock.
        failures: loads in a row that failed.
        retry_at_s: after a failure, no load is tried before.
        why: what the last failure was.
        users: requests that need it now; it is not evicted meanwhile.
        used_at_s: when it was last used.
        memory_bytes: of the budget, what it holds or has reserved.
        gone: set unless an engine of it is just ending and still holds memory.
    """

    card: ModelCard
    spec: ModelSpec
    state: ModelState
    speeds: Speeds = field(default_factory=Speeds)
    engine: Engine | None = None
    loading: "asyncio.Task[Engine] | None" = None
    ready_at_s: float = 0.0
    failures: int = 0
    retry_at_s: float = 0.0
    why: str = ""
    users: int = 0
    used_at_s: float = 0.0
    memory_bytes: int = 0
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gone.set()


@dataclass(frozen=True, slots=True)
class ShelfParts:
    """What a shelf works with.

    Attributes:
        host: starts engines.
        store: where weights are kept; None for a host that does not load.
        clock: the node's clock.
        memory_bytes: budget for loaded models.
        log: told what happens, in words.
        changed: called when a model's state changed.
    """

    host: EngineHost
    store: Store | None
    clock: Clock
    memory_bytes: int
    log: Callable[[str], None]
    changed: Callable[[], None]


class Shelf:
    """Loads and unloads models; one load at a time for each model, any number of waiters."""

    def __init__(self, parts: ShelfParts) -> None:
        self._host, self._store, self._clock = parts.host, parts.store, parts.clock
        self._memory_bytes = parts.memory_bytes
        self._log, self._changed = parts.log, parts.changed
        self._models: dict[str, ShelvedModel] = {}
        self._making_room = asyncio.Lock()
        self._freed = asyncio.Event()

    # -- what is there -------------------------------------------------------------------------------

    async def open(self, specs: Iterable[ModelSpec]) -> None:
        """Take stock. Raises EngineError when a running engine can't be asked what it serves."""
        if not self._host.loads:
            for card in await self._host.models():
                await self._adopt(card)
            return
        for spec in specs:
            stored = self._store.get(spec.name) if self._store else None
            card = _card_of(stored) if stored else ModelCard(spec.name, spec.size_bytes)
            state = ModelState.ON_DISK if stored else ModelState.ABSENT
            self._models[spec.name] = ShelvedModel(card, spec, state)

    async def _adopt(self, card: ModelCard) -> None:
        engine = await self._host.start(card, None, lambda _done: None)
        self._models[card.name] = ShelvedModel(card, ModelSpec(card.name), ModelState.READY, engine=engine)

    def find(self, name: str) -> ShelvedModel | None:
        """The model called `name`, or None when the node does not serve it."""
        return self._models.get(name)

    def models(self) -> tuple[ShelvedModel, ...]:
        """All models of the node."""
        return tuple(self._models.values())

    def ready(self) -> frozenset[str]:
        """Names of the models that answer now."""
        return frozenset(n for n, m in self._models.items() if m.state is ModelState.READY)

    @property
    def memory_free_bytes(self) -> int:
        """What is left of the budget."""
        return max(0, self._memory_bytes - sum(m.memory_bytes for m in self._models.values()))

    def ready_in_s(self, model: ShelvedModel) -> float:
        """Expected seconds until `model` answers, were it asked for now."""
        if model.state is ModelState.READY:
            return 0.0
        if model.state is ModelState.LOADING:
            return max(_READY_SOON_S, model.ready_at_s - self._clock.now_s())
        load_s = model.speeds.load_s(model.card.size_bytes)
        if model.state is ModelState.ABSENT:
            load_s += model.speeds.fetch_s(model.card.size_bytes)
        return load_s + self._eviction_s(model) + max(0.0, model.retry_at_s - self._clock.now_s())

    def fits(self, model: ShelvedModel) -> bool:
        """Whether `model` can be loaded without evicting another."""
        return _needs_bytes(model) <= self.memory_free_bytes

    def _eviction_s(self, model: ShelvedModel) -> float:
        """What evicting for `model` costs the network: half of what loading the victims again would take."""
        missing = _needs_bytes(model) - self.memory_free_bytes
        cost_s = 0.0
        for victim in self._victims():
            if missing <= 0:
                break
            missing -= victim.memory_bytes
            cost_s += 0.5 * victim.speeds.load_s(victim.card.size_bytes)
        return cost_s

    # -- use -----------------------------------------------------------------------------------------

    def use(self, model: ShelvedModel) -> None:
        """Somebody needs `model` from now on: it is not evicted."""
        model.users += 1
        model.used_at_s = self._clock.now_s()

    def release(self, model: ShelvedModel) -> None:
        """The one who needed it does not any more."""
        model.users -= 1
        model.used_at_s = self._clock.now_s()
        if not model.users:
            self._freed.set()

    async def engine(self, model: ShelvedModel) -> Engine:
        """The engine that answers for `model`, loading it first when need be. Raises IsochroneError.

        A cancelled waiter does not cancel the load: others may wait for it, and the next will.
        """
        if model.engine is not None and not model.engine.alive:
            self._log(f"the engine of {model.card.name} ended by itself; it is loaded again when asked for")
            await self._drop(model)
        if model.engine is not None:
            return model.engine
        if model.loading is None and self._clock.now_s() < model.retry_at_s:
            left_s = model.retry_at_s - self._clock.now_s()
            raise EngineError(
                f"{model.card.name} could not be loaded; tried again in {left_s:.0f} s: {model.why}"
            )
        if model.loading is None:
            self._begin_load(model)
        assert model.loading is not None  # noqa: S101 - set in the line before
        return await asyncio.shield(model.loading)

    def _begin_load(self, model: ShelvedModel) -> None:
        model.ready_at_s = self._clock.now_s() + self.ready_in_s(model)
        model.state = ModelState.LOADING
        model.loading = asyncio.create_task(self._load(model), name=f"load {model.card.name}")
        model.loading.add_done_callback(_retrieve)
        self._changed()

    async def _load(self, model: ShelvedModel) -> Engine:
        asked_s = self._clock.now_s()
        try:
            await model.gone.wait()
            weights = await self._weights(model)
            await self._make_room(model)
            engine = await self._start(model, weights)
        except BaseException as error:
            self._give_up(model, error)
            raise
        finally:
            model.loading = None
        model.engine, model.state, model.failures = engine, ModelState.READY, 0
        model.memory_bytes = engine.memory_bytes or model.memory_bytes
        model.used_at_s = self._clock.now_s()
        self._log(f"{model.card.name} is ready after {model.used_at_s - asked_s:.1f} s")
        self._freed.set()
        self._changed()
        return engine

    async def _start(self, model: ShelvedModel, weights: StoredModel) -> Engine:
        started_s = self._clock.now_s()
        model.ready_at_s = started_s + model.speeds.load_s(model.card.size_bytes)

        def progress(done: float) -> None:
            if done > _TOLD:
                now_s = self._clock.now_s()
                model.ready_at_s = now_s + (now_s - started_s) * (1 / done - 1)

        engine = await self._host.start(model.card, weights.path, progress)
        model.speeds.load.add(self._clock.now_s() - started_s)
        return engine

    def _give_up(self, model: ShelvedModel, error: BaseException) -> None:
        """A load failed: give its memory back, and do not try again at once."""
        model.memory_bytes = 0
        model.state = ModelState.ON_DISK if self._on_disk(model) else ModelState.ABSENT
        if isinstance(error, Exception):
            model.why = str(error)
            model.retry_at_s = self._clock.now_s() + min(_RETRY_S * 2**model.failures, _RETRY_S_MAX)
            model.failures = min(model.failures + 1, 20)
        self._freed.set()
        self._changed()

    def _on_disk(self, model: ShelvedModel) -> bool:
        return self._store is not None and self._store.get(model.card.name) is not None

    async def _weights(self, model: ShelvedModel) -> StoredModel:
        if self._store is None:
            raise EngineError(f"{model.card.name} can't be loaded: this node has no model store")
        stored = self._store.get(model.card.name)
        if stored is None:
            if model.spec.source is None:
                raise EngineError(f"{model.card.name} is not on disk and has no source to fetch it from")
            stored = await self._fetch(self._store, model, model.spec.source)
        model.card = replace(_card_of(stored), context_tokens=model.card.context_tokens)
        return stored

    async def _fetch(self, store: Store, model: ShelvedModel, source: str) -> StoredModel:
        started_s = self._clock.now_s()

        def progress(done: int, total: int | None) -> None:
            if total and done > _TOLD * total:
                now_s = self._clock.now_s()
                left_s = (now_s - started_s) * (total / done - 1)
                model.ready_at_s = now_s + left_s + model.speeds.load_s(total)

        return await store.pull(model.card.name, source, progress)

    # -- memory --------------------------------------------------------------------------------------

    def _victims(self) -> list[ShelvedModel]:
        """Models that may be evicted, least recently used first."""
        idle = (m for m in self._models.values() if m.state is ModelState.READY and not m.users)
        return sorted(idle, key=lambda m: m.used_at_s)

    async def _make_room(self, model: ShelvedModel) -> None:
        """Evict idle models until `model` fits, waiting for busy ones to become idle."""
        needs = _needs_bytes(model)
        if needs > self._memory_bytes:
            raise EngineError(
                f"{model.card.name} needs about {needs / 1e6:.0f} MB and the node's budget for models is "
                f"{self._memory_bytes / 1e6:.0f} MB; raise it with --memory-mb"
            )
        try:
            async with asyncio.timeout(_ROOM_S_MAX), self._making_room:
                while self.memory_free_bytes < needs:
                    await self._evict_one_for(model)
                model.memory_bytes = needs
        except TimeoutError:
            raise EngineError(
                f"{model.card.name} found no room within {_ROOM_S_MAX:.0f} s: the models in memory are in use"
            ) from None

    async def _evict_one_for(self, model: ShelvedModel) -> None:
        victims = self._victims()
        if victims:
            self._log(f"unloading {victims[0].card.name} to make room for {model.card.name}")
            return await self._drop(victims[0])
        model.ready_at_s = self._clock.now_s() + _ROOM_S_MAX  # who knows; certainly not soon
        self._freed.clear()
        await self._freed.wait()
        return None

    async def unload(self, model: ShelvedModel) -> bool:
        """Free the memory of `model` now; False when it is in use or was not loaded."""
        if model.users or model.state is not ModelState.READY or not self._host.loads:
            return False
        await self._drop(model)
        return True

    async def unload_idle(self, idle_s: float) -> None:
        """Unload every model that nobody used for `idle_s`."""
        now_s = self._clock.now_s()
        for victim in self._victims() if self._host.loads else ():
            if now_s - victim.used_at_s >= idle_s:
                self._log(f"unloading {victim.card.name}: unused for {now_s - victim.used_at_s:.0f} s")
                await self._drop(victim)

    async def _drop(self, model: ShelvedModel) -> None:
        engine, model.engine = model.engine, None
        model.state = ModelState.ON_DISK
        model.speeds.prefix.clear()
        model.gone.clear()
        try:
            if engine is not None:
                await engine.stop()
        finally:
            model.memory_bytes = 0
            model.gone.set()
            self._freed.set()
            self._changed()

    async def close(self) -> None:
        """End every engine and every load."""
        loads = [m.loading for m in self._models.values() if m.loading is not None]
        for load in loads:
            load.cancel()
        await asyncio.gather(*loads, return_exceptions=True)
        engines = [m.engine for m in self._models.values() if m.engine is not None]
        await asyncio.gather(*(engine.stop() for engine in engines))


def _card_of(stored: StoredModel) -> ModelCard:
    return ModelCard(stored.name, stored.size_bytes, stored.sha256)


def _needs_bytes(model: ShelvedModel) -> int:
    return int(model.card.size_bytes * _LOADED_OVER_WEIGHTS)


def _retrieve(load: "asyncio.Task[Engine]") -> None:
    """Look at a load's error even when all who waited for it have gone: asyncio complains otherwise."""
    if not load.cancelled():
        load.exception()
