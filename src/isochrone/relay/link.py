"""One connection of a client."""

import asyncio
from typing import cast

from isochrone.relay.half_close import reset
from isochrone.relay.limits import ClientLimits
from isochrone.relay.pool import Origin, Pool
from isochrone.relay.response import Response


class Link(asyncio.Protocol):
    """Carries one request and its reply at a time, and lies in the pool between two.

    Attributes:
        origin: where it leads.
        idle_since_s: when it came to the pool, on the loop's clock.
    """

    def __init__(self, origin: Origin, pool: Pool, limits: ClientLimits) -> None:
        self.origin = origin
        self.idle_since_s = 0.0
        self._pool = pool
        self._limits = limits
        self._transport: asyncio.Transport
        self._response: Response | None = None

    @property
    def usable(self) -> bool:
        """Whether a request may be sent on it, as far as is known."""
        return not self._transport.is_closing()

    def ask(self, method: str, head: bytes, body: bytes, *, connect_ms: float | None) -> Response:
        """Send one request; `connect_ms` is None on a connection from the pool."""
        response = self._response = Response(self, method, self._limits, connect_ms)
        if self.usable:
            self._transport.write(head + body)
        else:
            self._end(None)  # the server closed it as soon as it was made
        return response

    def cut(self) -> None:
        """Close now, so that the server sees us gone; who still reads gets an UpstreamError.

        With a reply owed by a reset: a plain end could mean that we only send no more.
        """
        if self._response is not None:
            reset(self._transport)
        self._transport.abort()
        self._end(ConnectionAbortedError("by this side"))

    def pause(self) -> None:
        """Read no more until `resume`."""
        if self.usable:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self.usable:
            self._transport.resume_reading()

    def reply_completed(self, *, keep_alive: bool) -> None:
        """The reply has arrived whole, and reading goes on: be ready for the next request, or close."""
        self._response = None
        # A server that answers before it has read the request may not read the rest as one.
        if keep_alive and self.usable and not self._transport.get_write_buffer_size():
            self._pool.put(self)
        else:
            self.cut()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self._transport = cast(asyncio.Transport, transport)
        self._pool.add(self)

    def data_received(self, data: bytes) -> None:
        """Part of a reply; without a request it is nonsense."""
        if self._response is None:
            self.cut()
        else:
            self._response.arrived(data)

    def eof_received(self) -> None:
        """The server has closed; `connection_lost` follows."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Closed by the server, by the network or by us."""
        self._pool.forget(self)
        self._end(exc)

    def _end(self, error: Exception | None) -> None:
        response, self._response = self._response, None
        if response is not None:
            response.lost(error)
