"""Child processes: started, watched, restarted a bounded number of times, and always ended."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from logging.handlers import RotatingFileHandler
from pathlib import Path

import msgspec

from isochrone.adapters.parent import die_with_parent
from isochrone.ports import IsochroneError

_LOG_BYTES_MAX = 2 * 1024 * 1024
_LINE_BYTES_MAX = 64 * 1024
_LAST_LINES = 8


@dataclass(frozen=True, slots=True)
class Program:
    """What to run.

    Attributes:
        name: for people and for the log file.
        arguments: of `python -m isochrone`.
        environment: added to ours; tokens go here, never into the arguments.
        ready_s_max: it must say that it is ready within so long.
        restarts_max: times it is started again when it ends by itself.
    """

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    ready_s_max: float = 60.0
    restarts_max: int = 5


def say_ready(**facts: object) -> None:
    """Called by a child: tells its supervisor, in one line of JSON, that it is ready. People need no JSON."""
    if sys.stdout.isatty():
        return
    sys.stdout.write(msgspec.json.encode({"ready": True, **facts}).decode() + "\n")
    sys.stdout.flush()


class Child:
    """One supervised program."""

    def __init__(self, program: Program, log_dir: Path, tell: Callable[[str], None]) -> None:
        self.program, self._tell = program, tell
        self.facts: dict[str, object] = {}
        self._log = _file_logger(log_dir / f"{program.name}.log", program.name)
        self._process: asyncio.subprocess.Process | None = None
        self._ready = asyncio.Event()
        self._last: deque[str] = deque(maxlen=_LAST_LINES)
        self._watcher: asyncio.Task[None] | None = None
        self._stop_asked = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """Its process, None while it does not run."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def start(self) -> None:
        """Start it and return when it is ready. Raises IsochroneError with its last words."""
        await self._launch()
        self._watcher = asyncio.create_task(self._watch())
        ready = asyncio.create_task(self._ready.wait())
        try:
            async with asyncio.timeout(self.program.ready_s_max):
                await asyncio.wait((ready, self._watcher), return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            raise IsochroneError(
                f"{self.program.name} was not ready within {self.program.ready_s_max:.0f} s{self._words()}"
            ) from None
        finally:
            ready.cancel()
        if not self._ready.is_set():
            raise IsochroneError(f"{self.program.name} ended before it was ready{self._words()}")

    async def stop(self, grace_s: float = 8.0) -> None:
        """End it: politely first, then at once."""
        self._stop_asked.set()
        if self._process is not None and self._process.returncode is None:
            self._terminate()
            try:
                async with asyncio.timeout(grace_s):
                    await self._process.wait()
            except TimeoutError:
                self._tell(f"{self.program.name} did not end in {grace_s:.0f} s and is killed")
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                await self._process.wait()
        if self._watcher is not None:
            await asyncio.gather(self._watcher, return_exceptions=True)
        for handler in self._log.handlers:
            handler.close()

    def _terminate(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()

    async def _launch(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "isochrone",
            *self.program.arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **self.program.environment},
            start_new_session=True,
            preexec_fn=die_with_parent(signal.SIGTERM),
            limit=_LINE_BYTES_MAX,
        )

    async def _watch(self) -> None:
        """Read what it says; start it again when it ends by itself."""
        restarts = 0
        while True:
            process = self._process
            if process is None or process.stdout is None:
                return
            await self._read(process.stdout)
            status = await process.wait()
            if self._stop_asked.is_set() or not self._ready.is_set():
                return
            restarts += 1
            if restarts > self.program.restarts_max:
                self._tell(f"{self.program.name} ended {restarts} times and is left alone{self._words()}")
                return
            pause_s = min(0.5 * 2 ** (restarts - 1), 10.0)
            self._tell(
                f"{self.program.name} ended by itself (status {status}); started again in {pause_s:.1f} s"
            )
            if await self._asked_within(pause_s):
                return
            await self._launch()
            if self._stop_asked.is_set():
                self._terminate()

    async def _asked_within(self, pause_s: float) -> bool:
        """Wait, but not longer than until we are asked to stop; whether we were."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop_asked.wait(), pause_s)
        return self._stop_asked.is_set()

    async def _read(self, lines: asyncio.StreamReader) -> None:
        while True:
            try:
                line = (await lines.readline()).decode("utf-8", "replace")
            except ValueError:
                continue  # a line over the limit: the reader has dropped it
            if not line:
                return
            if line.startswith('{"ready":true'):
                self.facts = msgspec.json.decode(line)
                self._ready.set()
            elif line.strip():
                self._last.append(line.rstrip())
                self._log.info(line.rstrip())

    def _words(self) -> str:
        return ": " + " | ".join(self._last) if self._last else ""


def _file_logger(path: Path, name: str) -> logging.Logger:
    path.parent.mkdir(parents=True, exist_ok=True)
    logger = logging.Logger(f"child.{name}")
    handler = RotatingFileHandler(path, maxBytes=_LOG_BYTES_MAX, backupCount=1, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger.addHandler(handler)
    return logger
