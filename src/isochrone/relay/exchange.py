"""One request and its reply, as a handler sees them."""

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from isochrone.relay.head import CONTINUE, Headers, chunk, has_body, last_chunk, reply_head
from isochrone.relay.request_reader import Request

_NUDGES_MAX = 8
"""Zeros before one chunk's size, at most: curl takes 16 digits."""


class RepeatedHeaderError(Exception):
    """A header of the request that may be there once is there more often; the text is its name."""


class ReplySink(Protocol):
    """Where the bytes of a reply go: the connection."""

    @property
    def persistent(self) -> bool:
        """Whether the connection may take another request after this one."""
        ...

    def send(self, data: bytes) -> None:
        """Send or buffer `data`; thrown away when the client has gone."""
        ...

    @property
    def has_room(self) -> bool:
        """Whether the buffer takes more before it must be drained."""
        ...

    async def drain(self) -> None:
        """Wait until the buffer has room. Raises ConnectionResetError when the client has gone."""
        ...

    def reply_ended(self, *, keep_alive: bool) -> None:
        """The last byte was sent."""
        ...

    def cut(self, *, by_reset: bool) -> None:
        """Close with the reply unfinished; by a reset where a plain end would pass for a whole body."""
        ...


class Exchange:
    """One request and its reply. Either `reply`, or `start`, any number of `write`s and `end`.

    The relay frames the reply: headers of its own connection (`connection`, `content-length`,
    `transfer-encoding` and their like) that are given to it are left out. A call out of order raises
    RuntimeError; CR, LF or NUL in a header raises ValueError before anything is sent.

    Attributes:
        method: upper case.
        path: the target without its query, percent signs not decoded.
        query: what follows the `?`, or "".
        body: the whole body, at most `ServerLimits.body_bytes_max`.
        peer: `host:port` of the client.
        wants_trailers: the client takes trailers; without that `end` leaves them out.
        reply_headers: go with the reply, whatever it will be.
    """

    def __init__(self, request: Request, peer: str, sink: ReplySink) -> None:
        self.method = request.method
        self.path = request.path
        self.query = request.query
        self.body = request.body
        self.peer = peer
        self.wants_trailers = request.wants_trailers
        self.reply_headers: Headers = ()
        self._http_1_0 = request.version == "1.0"
        self._keep_alive = request.keep_alive
        self._sink = sink
        self._headers = request.headers
        self._started = False
        self._ended = False
        self._chunked = False
        self._bodiless = False
        self._held = b""
        self._nudges = 0

    @property
    def started(self) -> bool:
        """Whether the head is on its way."""
        return self._started

    @property
    def ended(self) -> bool:
        """Whether nothing more can be sent: the reply is whole or was aborted."""
        return self._ended

    @property
    def takes_interim(self) -> bool:
        """Whether the client knows interim replies (1xx): HTTP/1.0 does not."""
        return not self._http_1_0

    def header(self, name: bytes) -> bytes | None:
        """The first value of the request's header `name` (lower case), or None."""
        told = self._headers.get(name)
        return None if told is None else told[0]

    def once(self, name: bytes) -> bytes | None:
        """The same of a header that two values would leave in doubt. Raises RepeatedHeaderError then."""
        told = self._headers.get(name)
        if told is not None and len(told) > 1:
            raise RepeatedHeaderError(name.decode("latin-1"))
        return None if told is None else told[0]

    def reply(
        self, status: int, body: bytes, content_type: str = "application/json", headers: Headers = ()
    ) -> None:
        """Send a whole reply, with its length. To HEAD the same head goes without the body."""
        self._expect(started=False)
        framing = self._connection_lines()
        if status >= 200 and status != 204:
            framing += (b"content-length: %d" % len(body),)
        if body:
            framing += (b"content-type: " + content_type.encode("ascii"),)
        head = reply_head(status, headers + self.reply_headers, framing)
        self._started = True
        self._finish(head + body if has_body(self.method, status) else head)

    def start(self, status: int, headers: Headers) -> None:
        """Begin a streamed reply: chunked, or on HTTP/1.0 ended by the end of the connection.

        The head leaves together with the first piece, which may be empty, or with the end.
        """
        self._expect(started=False)
        self._bodiless = not has_body(self.method, status)
        self._chunked = not self._http_1_0
        if self._http_1_0:
            self._keep_alive = False
        framing = self._connection_lines()
        if self._chunked and status >= 200 and status not in (204, 304):
            framing += (b"transfer-encoding: chunked",)
        self._held = reply_head(status, headers + self.reply_headers, framing)
        self._started = True

    async def write(self, data: bytes) -> None:
        """Send one piece of the body; waits while the client reads more slowly than we write.

        Raises ConnectionResetError when the client has gone (the handler is cancelled then anyway).
        """
        self.push(data)
        await self._sink.drain()

    def push(self, data: bytes) -> bool:
        """Send or buffer one piece of the body; False when `drained` should be waited for before the next."""
        if self._ended or not self._started:
            self._expect(started=True)
        sink, piece = self._sink, b""
        if data and not self._bodiless:
            piece = chunk(data) if self._chunked else data
        if self._held:
            piece, self._held = self._held + piece, b""
        if piece:
            sink.send(piece)
        return sink.has_room

    async def drained(self) -> None:
        """Wait until the client has caught up. Raises ConnectionResetError as `write` does."""
        await self._sink.drain()

    def end(self, trailers: Headers = (), *, last: bytes = b"") -> None:
        """End a streamed reply, with its `last` piece. Trailers go only to a client that wants them."""
        self._expect(started=True)
        rest = self._held
        if self._chunked and not self._bodiless:
            rest += (chunk(last) if last else b"") + last_chunk(trailers if self.wants_trailers else ())
        elif not self._bodiless:
            rest += last
        self._finish(rest)

    def abort(self) -> None:
        """Cut the connection, so that the client sees a truncated body. What was written still arrives.

        Only on HTTP/1.0 it may not: there the connection is reset, since its end is the body's end.
        """
        if self._ended:
            return
        if self._held:
            self._sink.send(self._held)
        self._ended = True
        self._sink.cut(by_reset=self._started and not self._chunked)

    def nudge(self) -> None:
        """Send a few bytes that every client skips, if there are such bytes now: is anybody there?

        Before the reply that is an interim reply; between two chunks it is a zero, with which the size of
        the next chunk may begin (RFC 9112, section 7.1). HTTP/1.0 knows neither.
        """
        if self._ended or self._http_1_0 or self._nudges >= _NUDGES_MAX:
            return
        if not self._started:
            self._sink.send(CONTINUE)
        elif not (self._bodiless or self._held):
            self._nudges += 1
            self._sink.send(b"0")

    def _finish(self, data: bytes) -> None:
        self._ended = True
        if data:
            self._sink.send(data)
        self._sink.reply_ended(keep_alive=self._keep_alive)

    def _connection_lines(self) -> tuple[bytes, ...]:
        self._keep_alive = self._keep_alive and self._sink.persistent
        if not self._keep_alive:
            return (b"connection: close",)
        return (b"connection: keep-alive",) if self._http_1_0 else ()

    def _expect(self, *, started: bool) -> None:
        if self._ended or self._started != started:
            state = "has ended" if self._ended else "was started" if self._started else "was not started"
            raise RuntimeError(f"the reply to {self.method} {self.path} {state}")


Handler = Callable[[Exchange], Coroutine[Any, Any, None]]
"""Answers one exchange. Cancelled when the client goes before the reply has ended."""
