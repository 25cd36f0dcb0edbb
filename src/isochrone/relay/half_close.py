"""How connections end: by a reset that nobody can mistake, or by one side first; then who is still there?"""

import asyncio
import contextlib
import select
import socket
import struct
from collections.abc import Callable

_LINGER_NOT_AT_ALL = struct.pack("ii", 1, 0)

_FIRST_LOOK_S = 0.01
_LOOK_S_MAX = 1.0
_PROVOKE_S = 5.0


def reset(transport: asyncio.Transport) -> None:
    """Close at once with a reset, which can't be taken for the end of one side only, nor of a whole body."""
    if transport.is_closing():
        return
    with contextlib.suppress(OSError):  # it is gone already
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT_AT_ALL)
    transport.abort()


class HalfCloseWatch:
    """Looks for the end of a connection whose reading side has ended.

    A client that left and one that only ended its side (`shutdown`, `nc -N`) look alike until something is
    sent: the system of one that left answers that with a reset. Neither loop tells of it, for they read no
    more, so it is looked for, often at first and once a second later; and what may be sent without harm is
    sent again every 5 s, since one that still reads may leave later. Why: decision 0015.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        *,
        ack_s_max: float,
        provoke: Callable[[], None],
        gone: Callable[[], None],
    ) -> None:
        """Begin to watch.

        Args:
            transport: plain TCP, reading side ended.
            ack_s_max: who acknowledges nothing for so long has left, where the system can tell (Linux).
            provoke: sends something that the client ignores, if anything may be sent now.
            gone: called once when the client has left.
        """
        self._transport, self._provoke, self._gone = transport, provoke, gone
        self._loop = asyncio.get_running_loop()
        sock = transport.get_extra_info("socket")
        with contextlib.suppress(AttributeError, OSError):  # Linux only, TCP only
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(ack_s_max * 1e3))
        self._poll = select.poll()
        self._poll.register(sock.fileno(), 0)  # errors and hang-ups are told unasked
        self._next_s = _FIRST_LOOK_S
        self._provoked_at_s = self._loop.time()
        provoke()
        self._timer = self._loop.call_later(self._next_s, self._look)

    def close(self) -> None:
        """Watch no more; before the socket is closed."""
        self._timer.cancel()

    def _look(self) -> None:
        if self._transport.is_closing():
            return
        if self._poll.poll(0):
            self._gone()
            return
        now_s = self._loop.time()
        if now_s - self._provoked_at_s >= _PROVOKE_S:
            self._provoked_at_s = now_s
            self._provoke()
        self._next_s = min(2 * self._next_s, _LOOK_S_MAX)
        self._timer = self._loop.call_later(self._next_s, self._look)
