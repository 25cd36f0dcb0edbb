"""An engine host, a store and a clock that do what they are told, when they are told, and note it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from isochrone.model import ModelCard
from isochrone.nodes.inference.settings import ModelSpec
from isochrone.nodes.inference.shelf import Shelf, ShelfParts, ShelvedModel
from isochrone.ports import EngineError, EngineMetrics, StoredModel

PATIENCE_S = 2.0
"""Only a broken test waits so long."""

EACH = {"a": 80, "b": 80, "c": 80}
"""Weights of 80 bytes are taken to need 100 of memory."""

BOOM = EngineError("boom")

T = TypeVar("T")


async def soon(what: Awaitable[T]) -> T:
    async with asyncio.timeout(PATIENCE_S):
        return await what


@dataclass
class Clock:
    """Stands still until it is moved."""

    at_s: float = 1000.0

    def now_s(self) -> float:
        return self.at_s

    def unix_ms(self) -> int:
        return 0


@dataclass
class Door:
    """Where a call stops until it is let through, or fails; open to begin with."""

    reached: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    error: Exception | None = None

    def __post_init__(self) -> None:
        self.opened.set()

    def shut(self) -> None:
        self.opened.clear()
        self.reached.clear()

    def open(self) -> None:
        self.opened.set()

    def fail(self, error: Exception) -> None:
        """Who stands at the door, or comes next, fails."""
        self.error = error
        self.opened.set()

    async def pass_through(self) -> None:
        self.reached.set()
        await self.opened.wait()
        if self.error is not None:
            error, self.error = self.error, None
            raise error


class FakeEngine:
    url = "http://127.0.0.1:1"

    def __init__(self, bench: "Bench", name: str) -> None:
        self._bench, self.name = bench, name
        self.memory_bytes = bench.engine_bytes
        self.alive = True
        self.stopping = Door()

    async def metrics(self) -> EngineMetrics:
        self._bench.read.set()
        return self._bench.gauges

    async def stop(self) -> None:
        await self.stopping.pass_through()
        self.alive = False
        self._bench.happened.append(f"stop {self.name}")


@dataclass
class Bench:
    """A shelf among its fakes: the `EngineHost` and the `Store` are the bench itself.

    Attributes:
        memory_bytes: the shelf's budget.
        loads: whether the host loads.
        stored: bytes of weights on disk, by name.
        engine_bytes: what each engine says of its own memory.
        happened: every pull, start and stop that was done, in order.
        said: the log.
        gauges: what each engine tells in its metrics.
        read: set once they were read.
    """

    memory_bytes: int = 1000
    loads: bool = True
    stored: dict[str, int] = field(default_factory=dict)
    engine_bytes: int = 0
    happened: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    clock: Clock = field(default_factory=Clock)
    starting: Door = field(default_factory=Door)
    pulling: Door = field(default_factory=Door)
    looked_up: asyncio.Event = field(default_factory=asyncio.Event)
    changed: Callable[[], None] = lambda: None
    served: tuple[ModelCard, ...] = ()
    gauges: EngineMetrics = field(default_factory=EngineMetrics)
    read: asyncio.Event = field(default_factory=asyncio.Event)
    name: str = "fake"
    progress: Callable[[float], None] = lambda _done: None

    async def shelf(self, *specs: ModelSpec, store: bool = True) -> Shelf:
        """A shelf that has taken stock of `specs`, or of all that is stored."""
        parts = ShelfParts(
            self, self if store else None, self.clock, self.memory_bytes, self.said.append, self._changed
        )
        shelf = Shelf(parts)
        await shelf.open(specs or [ModelSpec(name, f"source of {name}") for name in self.stored])
        return shelf

    def _changed(self) -> None:
        self.changed()

    # -- the EngineHost ------------------------------------------------------------------------------

    async def models(self) -> tuple[ModelCard, ...]:
        return self.served

    async def start(
        self, model: ModelCard, weights: Path | None, progress: Callable[[float], None]
    ) -> FakeEngine:
        self.progress = progress
        await self.starting.pass_through()
        self.happened.append(f"start {model.name}" + (f" from {weights}" if weights else ""))
        return FakeEngine(self, model.name)

    # -- the Store -----------------------------------------------------------------------------------

    def get(self, name: str) -> StoredModel | None:
        self.looked_up.set()
        if name not in self.stored:
            return None
        return StoredModel(name, Path(f"/{name}"), f"sha of {name}", self.stored[name], f"source of {name}")

    async def pull(self, name: str, source: str, _progress: Callable[[int, int | None], None]) -> StoredModel:
        await self.pulling.pass_through()
        self.happened.append(f"pull {name} from {source}")
        self.stored.setdefault(name, 80)
        stored = self.get(name)
        assert stored is not None
        return stored


async def loaded(bench: Bench, shelf: Shelf, *names: str) -> list[ShelvedModel]:
    """The models of these names, each loaded a second after the one before."""
    models = []
    for name in names:
        bench.clock.at_s += 1.0
        model = shelf.find(name)
        assert model is not None
        await soon(shelf.engine(model))
        models.append(model)
    return models


def asking(shelf: Shelf, model: ShelvedModel) -> "asyncio.Task[object]":
    return asyncio.create_task(shelf.engine(model))


def states(shelf: Shelf) -> dict[str, str]:
    return {model.card.name: model.state.value for model in shelf.models()}
