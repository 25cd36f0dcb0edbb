"""A child process that serves until we end it, and whose last words are kept."""

import asyncio
import contextlib
import signal
from collections import deque
from collections.abc import Sequence
from typing import Self

import psutil

_WORDS_LINES_MAX = 64
_LINE_BYTES_MAX = 4096


class Child:
    """One child process in a session of its own, so that a terminal's signals reach only us.

    Its stdin is a pipe that we never write to: the child takes its end for our death.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._words: deque[str] = deque(maxlen=_WORDS_LINES_MAX)
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def start(cls, argv: Sequence[str]) -> Self:
        """Start `argv`. Raises OSError when the machine refuses."""
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        return cls(process)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.returncode is None

    @property
    def memory_bytes(self) -> int:
        """Its resident memory, 0 when it has ended."""
        try:
            return int(psutil.Process(self._process.pid).memory_info().rss) if self.alive else 0
        except psutil.Error:
            return 0

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        status = self._process.returncode
        if status is None:
            return "still running"
        if status >= 0:
            return f"ended with exit status {status}"
        why = ", as it does when memory runs out" if -status == signal.SIGKILL else ""
        return f"ended by {_signal_name(-status)}{why}"

    @property
    def words(self) -> list[str]:
        """The last lines that it wrote to stderr, oldest first."""
        return list(self._words)

    async def first_line(self) -> str:
        """The first line of its stdout; "" when it ended without one, and then its last words are in."""
        stdout = self._process.stdout
        assert stdout is not None  # noqa: S101 - asked for in start
        line = await stdout.readline()
        if not line:
            await self._process.wait()
            await self._listening
        return line.decode(errors="replace").strip()

    async def end(self, *, grace_s: float) -> None:
        """Ask it to end, and after `grace_s` make it; returns when it is reaped. Harmless when done twice."""
        try:
            if self.alive and grace_s > 0:
                self._send(signal.SIGTERM)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._process.wait(), grace_s)
        finally:
            if self.alive:
                self._send(signal.SIGKILL)
            await self._process.wait()
            await self._listening

    def _send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def _listen(self) -> None:
        """Keep the last lines of stderr; an endless line is cut into pieces."""
        stderr = self._process.stderr
        assert stderr is not None  # noqa: S101 - asked for in start
        rest = b""
        while chunk := await stderr.read(_LINE_BYTES_MAX):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > _LINE_BYTES_MAX:
                lines, rest = [*lines, rest], b""
            self._words.extend(line.decode(errors="replace").rstrip() for line in lines)
        if rest:
            self._words.append(rest.decode(errors="replace"))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
