"""One direction of a long line: what is sent waits for its own time, in order. No sockets here."""

import asyncio
import math
import time
from collections import deque
from enum import Enum
from typing import Protocol


class Mark(Enum):
    """What travels on a line besides bytes."""

    FIN = "fin"
    RESET = "reset"


class Sink(Protocol):
    """Where a line ends."""

    def write(self, what: bytes | Mark) -> None:
        """Take what came off the line."""
        ...


class Line:
    """One direction: what was sent waits in order, each for its own time, with one timer for the next."""

    def __init__(self, delay_s: float, opens_s: float, bytes_max: int) -> None:
        self._delay_s, self._opens_s, self._bytes_max = delay_s, opens_s, bytes_max
        self._queue: deque[tuple[float, bytes | Mark]] = deque()
        self._bytes = 0
        self._sink: Sink | None = None
        self._held = False
        self._resetting = False
        self._paused = False
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        self.source: asyncio.Transport | None = None

    def send(self, what: bytes | Mark) -> None:
        """Put `what` on the line; the source is paused when the line is full."""
        if self._closed:
            return
        due_s = max(time.monotonic(), self._opens_s) + self._delay_s
        self._queue.append((due_s, what))
        self._bytes += _size(what)
        self._resetting = self._resetting or what is Mark.RESET
        if self._bytes >= self._bytes_max and self.source is not None and not self._paused:
            self._paused = True
            self.source.pause_reading()
        self._arm()

    def attach(self, sink: Sink) -> None:
        """Deliver to `sink` from now on."""
        self._sink = sink
        self._arm()

    def hold(self) -> None:
        """Deliver nothing until `release`, save a reset: the sink is slow."""
        self._held = True

    def release(self) -> None:
        """Deliver again."""
        self._held = False
        self._arm()

    def close(self) -> None:
        """Drop everything: the sink is gone."""
        self._closed = True
        self._queue.clear()
        self._bytes = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def _flows(self) -> bool:
        held = self._held and not self._resetting
        return bool(self._queue) and self._sink is not None and not held and not self._closed

    def _arm(self) -> None:
        if self._timer is not None or not self._flows:
            return
        wait_s = max(0.0, self._queue[0][0] - time.monotonic())
        wait_s = math.ceil(wait_s * 1e3) / 1e3  # event loops count milliseconds; never early
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._deliver)

    def _deliver(self) -> None:
        self._timer = None
        now_s = time.monotonic()
        while self._flows and self._queue[0][0] <= now_s:
            _, what = self._queue.popleft()
            self._bytes -= _size(what)
            if self._sink is not None:
                self._sink.write(what)
        self._unpause()
        self._arm()

    def _unpause(self) -> None:
        """Read on at the source when there is room again."""
        if self._paused and self._bytes < self._bytes_max and self.source is not None:
            self._paused = False
            if not self.source.is_closing():
                self.source.resume_reading()


def _size(what: bytes | Mark) -> int:
    return len(what) if isinstance(what, bytes) else 0
