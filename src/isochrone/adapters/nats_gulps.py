"""Reading a busy NATS connection in gulps.

A thousand nodes that pulse once a second, each in its own step, wake a reader for every few pulses, and most
of what such a pulse costs is the waking: the poll, a read, a turn of the loop for each of nats-py's tasks.
So where messages come often, the socket is left alone for some milliseconds after each read, the kernel
collects what comes, and one turn of the loop takes it all.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import cast

from nats.aio.transport import TcpTransport

GULP_S_MAX = 0.05
"""Longest pause after a read: what nodes tell is up to so much older, by half of it on average."""
GULP_MESSAGES = 64
"""The faster messages come, the shorter the pause: a gulp should not hold the loop up."""
GULP_FROM_PER_S = 200.0
"""With fewer messages a second there is no pause: it would spare little, and answers would come later."""
PIECE_BYTES = 8 * 1024
"""Between two pieces of a gulp others have their turn: some twenty pulses are in one."""
HURRY_S = 1.0
"""After a message that is urgent there are no pauses for so long."""
WINDOW_S = 1.0
"""How often messages come is counted over so long."""


class Pace:
    """How long to leave a connection alone, by how many messages came in the last second or so."""

    def __init__(self) -> None:
        """There are no gulps before the first messages have been counted for a second."""
        self._begun_s: float | None = None
        self._messages_then = 0
        self._pause_s = 0.0

    def pause_s(self, now_s: float, messages: int) -> float:
        """Seconds to pause, 0 for none, when `messages` came since the connection was made.

        Both arguments never fall from call to call.
        """
        if self._begun_s is None:
            self._begun_s, self._messages_then = now_s, messages
        elif (passed_s := now_s - self._begun_s) >= WINDOW_S:
            per_s = (messages - self._messages_then) / passed_s
            self._begun_s, self._messages_then = now_s, messages
            self._pause_s = min(GULP_S_MAX, GULP_MESSAGES / per_s) if per_s >= GULP_FROM_PER_S else 0.0
        return self._pause_s


class GulpingTransport(TcpTransport):
    """nats-py's transport, whose socket is not read for a moment after each read that took all there was.

    A burst is read on, a piece in each turn of the loop, before there is a pause. A connection that ends in a
    pause is noticed after it.

    Attributes:
        pauses: how many there were.
    """

    def __init__(self, stats: Mapping[str, int], clock_s: Callable[[], float]) -> None:
        """`stats` are those of the connection's `Client`; `clock_s` tells seconds of a monotonic clock."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._stats, self._clock_s = stats, clock_s
        self._pace = Pace()
        self._resume: asyncio.TimerHandle | None = None
        self._hurried = 0
        self._hurried_until_s = -1.0
        self.pauses = 0

    def __bool__(self) -> bool:
        """A client that is given a transport takes one of its own instead if this one is not yet 'there'."""
        return True

    async def read(self, buffer_size: int) -> bytes:
        """The next bytes, at most `buffer_size` or a piece; b"" at the end."""
        piece_bytes = min(buffer_size, PIECE_BYTES)
        data: bytes = await super().read(piece_bytes)
        if len(data) >= piece_bytes:
            await asyncio.sleep(0)  # nats-py never suspends while there is something to read
            return data
        now_s = self._clock_s()
        pause_s = self._pace.pause_s(now_s, self._stats["in_msgs"])
        hurried = self._hurried > 0 or now_s < self._hurried_until_s
        if pause_s > 0.0 and not hurried and (socket := self._socket) is not None:
            socket.pause_reading()
            self._resume = asyncio.get_running_loop().call_later(pause_s, socket.resume_reading)
            self.pauses += 1
        return data

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """No pauses while somebody waits for an answer."""
        self._hurried += 1
        if self._resume is not None:
            self._resume.cancel()
        if (socket := self._socket) is not None:
            socket.resume_reading()
        try:
            yield
        finally:
            self._hurried -= 1

    def hurry(self) -> None:
        """Something urgent came, and more of it may: no pauses for a while."""
        self._hurried_until_s = self._clock_s() + HURRY_S

    @property
    def reading(self) -> bool:
        """Whether what comes is taken now: there is a connection, open and not paused."""
        return self._socket is not None and self._socket.is_reading()

    def close(self) -> None:
        """Close the connection."""
        if self._resume is not None:
            self._resume.cancel()
        super().close()  # type: ignore[no-untyped-call]

    @property
    def _socket(self) -> asyncio.Transport | None:
        return None if self._io_writer is None else cast("asyncio.Transport", self._io_writer.transport)
