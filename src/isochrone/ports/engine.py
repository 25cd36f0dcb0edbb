"""Inference engines: what a node agent needs of the thing that computes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from isochrone.model import ModelCard


@dataclass(frozen=True, slots=True)
class EngineMetrics:
    """What an engine says of itself, None where it does not say.

    Attributes:
        running: requests in work.
        queued: requests that wait.
        kv_used: fraction of KV-cache memory in use, 0 to 1.
    """

    running: int | None = None
    queued: int | None = None
    kv_used: float | None = None


class Engine(Protocol):
    """One engine that answers for one or more models over HTTP."""

    @property
    def url(self) -> str:
        """Where it listens: `http://host:port`, with a path prefix when it has one."""
        ...

    @property
    def memory_bytes(self) -> int:
        """Resident memory of the engine's process, 0 when unknown."""
        ...

    @property
    def alive(self) -> bool:
        """Whether the process runs (an engine that is not ours counts as alive until a call fails)."""
        ...

    async def metrics(self) -> EngineMetrics:
        """Read its metrics once, gently. Raises EngineError when it can't be reached."""
        ...

    async def stop(self) -> None:
        """End it and wait until its memory is free; at once when it is not ours or has ended."""
        ...


class EngineHost(Protocol):
    """Starts engines on this machine, or finds one that runs already.

    Attributes:
        name: kind of engine, such as `llama.cpp` or `openai`.
        loads: whether `start` loads weights; False when models come and go without us.
    """

    @property
    def name(self) -> str: ...  # noqa: D102 - told above

    @property
    def loads(self) -> bool: ...  # noqa: D102 - told above

    async def models(self) -> tuple[ModelCard, ...]:
        """Models that a running engine serves already; empty for a host that loads. Raises EngineError."""
        ...

    async def start(
        self, model: ModelCard, weights: Path | None, progress: Callable[[float], None]
    ) -> Engine:
        """Load `model` and return when it answers. `weights` is None for a host that does not load.

        Calls `progress` with the fraction done, 0 to 1, when it knows. Raises EngineError with the
        engine's own last words. When cancelled it ends what it started.
        """
        ...
