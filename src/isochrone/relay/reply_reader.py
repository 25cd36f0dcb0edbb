"""Bytes of one connection in, one reply out. No I/O and no time."""

from typing import Any

import httptools

from isochrone.relay.head import Headers, has_body, values


class ReplyError(Exception):
    """What the peer sent is no HTTP/1.1 reply; the text says why."""


class ReplyReader:
    """Reads the reply to one request, past any 1xx before it.

    llhttp (in httptools) does the splitting. `on_*` are its callbacks.

    Attributes:
        status: of the reply; 0 until its head has arrived.
        headers: of the reply, names in lower case.
        trailers: those that have arrived.
        complete: the reply has arrived to its end.
        keep_alive: the connection may take another request after that.
        received_bytes: all bytes fed.
        buffered_bytes: body bytes that were not taken.
    """

    def __init__(self, method: str, head_bytes_max: int) -> None:
        self.status = 0
        self.headers: Headers = ()
        self.complete = False
        self.keep_alive = False
        self.received_bytes = 0
        self.buffered_bytes = 0
        self._method = method
        self._head_bytes_max = head_bytes_max
        self._parser: Any = httptools.HttpResponseParser(self)
        self._fault: ReplyError | None = None
        self._until_eof = False
        self._fields: list[tuple[bytes, bytes]] = []
        self._pieces: list[bytes] = []
        self._bodiless_bytes = 0

    @property
    def trailers(self) -> Headers:
        """Those that have arrived."""
        return tuple(self._fields) if self.status else ()

    def feed(self, data: bytes) -> None:
        """Read `data`. Raises ReplyError when it does not continue an HTTP/1.1 reply."""
        self.received_bytes += len(data)
        self._bodiless_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            raise ReplyError("it switched to another protocol unasked") from None
        except httptools.HttpParserError as error:
            if self.complete:
                self.keep_alive = False
                return
            raise self._fault or ReplyError(str(error)) from error
        if self._bodiless_bytes > self._head_bytes_max and not self.complete:
            raise ReplyError(f"its head is longer than {self._head_bytes_max} bytes")

    def eof(self) -> bool:
        """Take the end of the connection; whether it ended the reply."""
        self.complete = self.complete or self._until_eof
        return self.complete

    def close(self) -> None:
        """Read no more, and let go of the parser, which holds this too: a cycle for each reply has Python
        look for cycles all the time.
        """
        self._parser = None

    def take(self) -> bytes:
        """The body bytes that have arrived since the last call; empty when there are none."""
        pieces, self._pieces, self.buffered_bytes = self._pieces, [], 0
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer once the body is there."""
        if not self.complete:
            self._fields.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        """The head is whole."""
        status, version = self._parser.get_status_code(), self._parser.get_http_version()
        if self.complete:
            return
        if status < 100 or version not in ("1.1", "1.0"):
            self._refuse(f"it is HTTP/{version} with status {status}")
        if status < 200:
            self._fields = []
            return
        self.headers, self._fields = tuple(self._fields), []
        codings = values(self.headers, b"transfer-encoding")
        if [coding.lower() for coding in codings] not in ([], [b"chunked"]):
            self._refuse(f"its transfer-encoding is {codings!r}")
        self.status = status
        # Chunks on HTTP/1.0 are framing that another hop may have read otherwise: RFC 9112, section 6.1.
        self.keep_alive = self._parser.should_keep_alive() and not (codings and version == "1.0")
        self._bodiless_bytes = 0
        if self._method == "HEAD":
            self.complete = True  # llhttp can't be told, and waits for a body in vain
        elif has_body(self._method, status):
            framed = codings or values(self.headers, b"content-length")
            self._until_eof = not framed

    def _refuse(self, why: str) -> None:
        """Note why and stop the parser, which turns what its callbacks raise into an error of its own."""
        self._fault = ReplyError(why)
        raise self._fault

    def on_body(self, piece: bytes) -> None:
        """A piece of the body, without its framing."""
        if self.complete:
            self.keep_alive = False
            return
        self._pieces.append(piece)
        self.buffered_bytes += len(piece)
        self._bodiless_bytes = 0

    def on_message_begin(self) -> None:
        """The first byte of a message."""
        if self.complete:
            self.keep_alive = False  # a reply to a question never asked

    def on_message_complete(self) -> None:
        """The message is whole."""
        if self.status:
            self.complete = True
