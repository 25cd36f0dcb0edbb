"""A reply as the one who asked sees it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from isochrone.ports.errors import UpstreamError
from isochrone.relay.head import Headers, value
from isochrone.relay.limits import ClientLimits
from isochrone.relay.reply_reader import ReplyError, ReplyReader

if TYPE_CHECKING:
    from isochrone.relay.link import Link


class Response:
    """A reply: its head is here, its body comes by iteration or by `read`, for one consumer.

    Read it to its end or `close` it; nothing else frees the connection. Whatever goes wrong on the way is
    an UpstreamError. Cancelling the consumer cuts the connection.

    Attributes:
        reused: it came over a connection from the pool.
        connect_ms: time to connect; 0 when reused.
    """

    def __init__(self, link: "Link", method: str, limits: ClientLimits, connect_ms: float | None) -> None:
        self.reused = connect_ms is None
        self.connect_ms = connect_ms or 0.0
        self._link = link
        self._limits = limits
        self._reader = ReplyReader(method, limits.head_bytes_max)
        self._failure: UpstreamError | None = None
        self._closed = False
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._taker: Callable[[bytes], bool] | None = None
        self._full = False

    # The consumer's side.

    @property
    def status(self) -> int:
        """The reply's status, never 1xx."""
        return self._reader.status

    @property
    def headers(self) -> Headers:
        """The reply's headers, names in lower case."""
        return self._reader.headers

    @property
    def trailers(self) -> Headers:
        """The fields after a chunked body; valid when the body has been read to its end."""
        return self._reader.trailers

    def header(self, name: bytes) -> bytes | None:
        """The first value of the header `name` (lower case), or None."""
        return value(self.headers, name)

    def __aiter__(self) -> "Response":
        return self

    async def __anext__(self) -> bytes:
        """The body bytes that have arrived since the last call; at least one. Raises UpstreamError."""
        while not (data := self._take()):
            if self._failure is not None:
                raise self._failure
            if self._reader.complete:
                raise StopAsyncIteration
            await self._wait()
        return data

    @property
    def complete(self) -> bool:
        """Whether the reply has arrived to its end, trailers and all; its body may still wait to be taken."""
        return self._reader.complete

    async def forward(self, taker: Callable[[bytes], bool], drained: Callable[[], Awaitable[None]]) -> None:
        """Give the body to `taker` as it arrives, to its end. Raises UpstreamError.

        No task is woken for a piece. Decision 0014 tells what that saves.

        Args:
            taker: takes at least one byte; may neither wait nor raise; False when it wants no more now.
            drained: waited for after that; meanwhile what arrives is kept, as bounded as ever.
        """
        while True:
            if self._full or ((data := self._take()) and not taker(data)):
                self._full = False
                await drained()
            elif not data:
                if self._failure is not None:
                    raise self._failure
                if self._reader.complete:
                    return
                self._taker = taker
                try:
                    await self._wait()
                finally:
                    self._taker = None

    async def read(self) -> bytes:
        """The whole body. Raises UpstreamError, also when it is longer than `body_bytes_max`."""
        pieces = []
        room_bytes = self._limits.body_bytes_max
        async for piece in self:
            room_bytes -= len(piece)
            if room_bytes < 0:
                self.close()
                raise UpstreamError(
                    f"{self._link.origin} sent more than the {self._limits.body_bytes_max} bytes of body"
                    " that are taken in one piece"
                )
            pieces.append(piece)
        return b"".join(pieces)

    def close(self) -> None:
        """Have done with it; may be repeated.

        When the reply has not arrived to its end the connection is cut, so that the server sees us gone.
        """
        if self._closed:
            return
        self._closed = True
        self._reader.take()
        if not self._reader.complete:
            self._fail("was left before its reply had ended")
            self._link.cut()
        self._reader.close()

    # The client's side.

    @property
    def stale(self) -> bool:
        """Whether a connection from the pool turned out to be closed before it carried any of the reply."""
        return self.reused and self._failure is not None and not self._reader.received_bytes

    async def head_arrived(self) -> "Response":
        """Wait for the head. Raises UpstreamError."""
        while not self._reader.status:
            if self._failure is not None:
                raise self._failure
            await self._wait()
        return self

    # The link's side.

    def arrived(self, data: bytes) -> None:
        """Bytes of the reply."""
        if self._failure is not None:
            return
        reader = self._reader
        try:
            reader.feed(data)
        except ReplyError as error:
            self._fail(f"sent what is no HTTP/1.1 reply: {error}", error)
            self._link.cut()
            return
        if reader.complete:
            self._read_on()
            self._link.reply_completed(keep_alive=reader.keep_alive)
        elif reader.buffered_bytes > self._limits.read_buffer_bytes_max:
            self._paused = True
            self._link.pause()
        elif (taker := self._taker) is not None:
            if not (data := reader.take()) or taker(data):
                return
            self._full, self._taker = True, None
        self._wake()

    def lost(self, error: Exception | None) -> None:
        """The connection is closed."""
        if error is None and self._reader.eof():
            self._wake()
            return
        where = "in the middle of its reply" if self._reader.received_bytes else "before its reply"
        why = f": {error}" if error is not None else ""
        self._fail(f"broke off {where}{why}", error)

    # Inside.

    def _take(self) -> bytes:
        data = self._reader.take()
        self._read_on()
        return data

    def _read_on(self) -> None:
        if self._paused:
            self._paused = False
            self._link.resume()

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        except asyncio.CancelledError:
            self.close()
            raise
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, what: str, cause: Exception | None = None) -> None:
        if self._failure is None:
            self._failure = UpstreamError(f"{self._link.origin} {what}")
            self._failure.__cause__ = cause
        self._wake()
