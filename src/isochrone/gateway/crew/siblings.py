"""What workers ask each other: one line there, counted bytes back, over Unix sockets of their user."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

from isochrone.gateway.crew.crew import Crew

_LINE_BYTES_MAX = 256
_ANSWER_BYTES_MAX = 64 * 1024 * 1024
_ANSWER_S_MAX = 2.0
_SIZE_BYTES = 4

Answer = Callable[[str], bytes]
"""Answers a line that another worker asks."""


class Siblings:
    """The other workers. Alone, there are none, and nothing is listened to."""

    def __init__(self, crew: Crew, answer: Answer) -> None:
        self._crew, self._answer = crew, answer
        self._server: asyncio.Server | None = None

    @property
    def alone(self) -> bool:
        """Whether there is nobody to ask."""
        return self._crew.folder is None or self._crew.workers == 1

    async def start(self) -> None:
        """Listen. Raises OSError."""
        if self.alone:
            return
        path = self._path(self._crew.worker)
        path.unlink(missing_ok=True)  # of the worker before us, which has died
        self._server = await asyncio.start_unix_server(self._serve, path, limit=_LINE_BYTES_MAX)

    async def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
            self._path(self._crew.worker).unlink(missing_ok=True)

    async def ask(self, worker: int, line: str) -> bytes | None:
        """What `worker` answers to `line`; None when it can't be reached just now."""
        if self.alone:
            return None
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(_ANSWER_S_MAX):
                reader, writer = await asyncio.open_unix_connection(self._path(worker))
                writer.write(line.encode() + b"\n")
                size = int.from_bytes(await reader.readexactly(_SIZE_BYTES), "big")
                return await reader.readexactly(size) if size <= _ANSWER_BYTES_MAX else None
        except (OSError, EOFError, TimeoutError):
            return None
        finally:
            if writer is not None:
                writer.transport.abort()

    async def ask_all(self, line: str) -> list[bytes]:
        """What the other workers answer to `line`, in their order, without those that can't be reached."""
        others = [worker for worker in range(self._crew.workers) if worker != self._crew.worker]
        answers = await asyncio.gather(*(self.ask(worker, line) for worker in others))
        return [answer for answer in answers if answer]

    def _path(self, worker: int) -> Path:
        return (self._crew.folder or Path()) / f"worker-{worker}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, ValueError):
            async with asyncio.timeout(_ANSWER_S_MAX):
                line = (await reader.readline()).decode("utf-8", "replace").strip()
                answer = self._answer(line)
                writer.write(len(answer).to_bytes(_SIZE_BYTES, "big") + answer)
                await writer.drain()
        writer.close()
