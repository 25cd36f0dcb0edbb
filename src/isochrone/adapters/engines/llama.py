"""llama.cpp engines of our own: one child process for each loaded model."""

import asyncio
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from isochrone.adapters.engines.child import Child
from isochrone.adapters.engines.metrics import TIMEOUT, MetricsPage
from isochrone.model import ModelCard
from isochrone.ports import EngineError, EngineMetrics, MonotonicClock, SettingError

_WORKER = Path(__file__).with_name("llama_worker.py")  # as a file: importing our package costs it 0.4 s
_POLL_S = 0.2
_STOP_GRACE_S = 3.0
_QUOTED_LINES_MAX = 4
_LOG_STAMP = re.compile(r"^[\d.]+ [A-Z] +(?=\S)")


@dataclass(frozen=True, slots=True)
class LlamaCppSettings:
    """How each engine is started.

    Attributes:
        threads: threads that compute.
        slots: requests worked on at once.
        context_tokens: prompt plus answer of one request; memory is taken for `slots` of them.
        cache_ram_mib: most memory for the prompt cache of idle slots.
        load_s_max: longest time a model may take to load, seconds.
    """

    threads: int = 1
    slots: int = 2
    context_tokens: int = 2048
    cache_ram_mib: int = 256
    load_s_max: float = 600.0

    def __post_init__(self) -> None:
        for name in ("threads", "slots", "context_tokens", "load_s_max"):
            if getattr(self, name) <= 0:
                raise SettingError(f"llama.cpp's {name} is {getattr(self, name)}: it must be above 0.")
        if self.cache_ram_mib < 0:
            raise SettingError(
                "llama.cpp's cache_ram_mib is negative, which would mean no bound: use 0 or more."
            )


class LlamaCppEngine:
    """One llama.cpp server in a child process of ours; fulfils `ports.Engine`."""

    def __init__(self, child: Child, url: str) -> None:
        self._child = child
        self._url = url
        self._client = httpx.AsyncClient(timeout=TIMEOUT, trust_env=False)
        self._page = MetricsPage(self._client, url, clock=MonotonicClock(), pause_s=0.0)

    @property
    def url(self) -> str:
        """Where it listens, on this machine only."""
        return self._url

    @property
    def pid(self) -> int:
        """The process id of the child."""
        return self._child.pid

    @property
    def memory_bytes(self) -> int:
        """Resident memory of the child, weights included; 0 when it has ended."""
        return self._child.memory_bytes

    @property
    def alive(self) -> bool:
        """Whether the child runs."""
        return self._child.alive

    async def metrics(self) -> EngineMetrics:
        """Read its metrics once; empty when it is too busy to tell within a second. Raises EngineError."""
        if not self.alive:
            raise EngineError(
                f"The engine at {self._url} {self._child.ending}. "
                f"{_quote(self._child.words[-_QUOTED_LINES_MAX:])}"
            )
        return await self._page.read()

    async def stop(self) -> None:
        """End the child, by force after 3 seconds, and wait until its memory is free."""
        await self._client.aclose()
        await self._child.end(grace_s=_STOP_GRACE_S)


class LlamaCppHost:
    """Starts llama.cpp engines on this machine; fulfils `ports.EngineHost`."""

    name = "llama.cpp"
    loads = True

    def __init__(self, settings: LlamaCppSettings | None = None) -> None:
        self.settings = settings or LlamaCppSettings()

    async def models(self) -> tuple[ModelCard, ...]:
        """None: what can be loaded is the store's to say."""
        return ()

    async def start(
        self, model: ModelCard, weights: Path | None, progress: Callable[[float], None]
    ) -> LlamaCppEngine:
        """Load `model` from `weights` and return when it answers.

        `progress` is the share of the weights in memory: rough, and rising. Raises EngineError with
        llama.cpp's own words when it can't, or not within `load_s_max`. When cancelled the child is gone.
        """
        if weights is None:
            raise EngineError(f"{model.name} has no weights on disk for llama.cpp to load: pull it first.")
        try:
            weights_bytes = os.stat(weights).st_size
            child = await Child.start(self._argv(model, weights))
        except OSError as error:
            raise EngineError(f"llama.cpp can't be started on {weights}: {error.strerror}.") from error
        try:
            async with asyncio.timeout(self.settings.load_s_max):
                line = await _first_line(child, weights_bytes, progress)
            return LlamaCppEngine(child, _url(line, child, model))
        except TimeoutError as error:
            await child.end(grace_s=0)
            raise EngineError(
                f"llama.cpp did not load {model.name} within {self.settings.load_s_max:g} s. "
                f"{_quote(child.words[-_QUOTED_LINES_MAX:])} Allow it more time, or use a smaller model."
            ) from error
        except BaseException:
            await child.end(grace_s=0)
            raise

    def _argv(self, model: ModelCard, weights: Path) -> list[str]:
        settings = self.settings
        options = {
            "--weights": weights,
            "--model": model.name,
            "--slots": settings.slots,
            "--context-tokens": settings.context_tokens,
            "--threads": settings.threads,
            "--cache-ram-mib": settings.cache_ram_mib,
        }
        argv = [f"{option}={value}" for option, value in options.items()]
        return [sys.executable, "-P", str(_WORKER), *argv]


async def _first_line(child: Child, weights_bytes: int, progress: Callable[[float], None]) -> str:
    """The child's first line, with progress until it comes."""
    fraction = 0.0
    line = asyncio.create_task(child.first_line())
    try:
        while not line.done():
            progress(fraction)
            await asyncio.wait({line}, timeout=_POLL_S)
            fraction = max(fraction, min(0.99, child.memory_bytes / max(1, weights_bytes)))
    finally:
        line.cancel()
    progress(1.0 if line.result() else fraction)
    return line.result()


def _url(line: str, child: Child, model: ModelCard) -> str:
    """The URL in the child's first line. Raises EngineError when it came to none."""
    if not line:
        cause = child.words[:_QUOTED_LINES_MAX]  # what follows are its callers' regrets
        raise EngineError(f"llama.cpp could not load {model.name} and {child.ending}. {_quote(cause)}")
    return str(json.loads(line)["url"])


def _quote(words: Sequence[str]) -> str:
    """What the engine said as a sentence: each thing once, in the order said."""
    told = dict.fromkeys(_LOG_STAMP.sub("", line) for line in words)
    said = "; ".join(told)
    return f"It said: {said}." if said else "It said nothing."
