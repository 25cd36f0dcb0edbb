"""Bytes of one connection in, whole requests out. No I/O and no time."""

from collections import deque
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import httptools

from isochrone.relay.head import (
    BodyFraming,
    Refusal,
    Values,
    body_framing,
    check_trailer,
    has_token,
    split_target,
)
from isochrone.relay.limits import ServerLimits


class Stage(Enum):
    """Which part of a request is awaited."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()


@dataclass(slots=True)
class Request:
    """One request; whole when it lies in `RequestReader.ready`.

    Attributes:
        headers: all values of each, names in lower case.
        version: `1.1` or `1.0`.
        keep_alive: the client wants the connection to last beyond the reply.
        wants_trailers: the client said `TE: trailers`, on HTTP/1.1.
    """

    method: str
    path: str
    query: str
    headers: Values
    version: str
    keep_alive: bool
    wants_trailers: bool
    body: bytes = b""


class RequestReader:
    """Reads requests one after another; the first that must be refused is the last that is read.

    llhttp (in httptools) does the splitting and is strict: no bare LF, no folded lines, no white space
    before a colon, no odd lengths. `on_*` are its callbacks.

    Attributes:
        ready: requests that wait their turn.
        refusal: what to answer after them, or None.
        stage: which part of the next request is awaited.
        continue_wanted: the client waits for `100 Continue` before it sends the body.
    """

    def __init__(self, limits: ServerLimits) -> None:
        self.ready: deque[Request] = deque()
        self.refusal: Refusal | None = None
        self.stage = Stage.IDLE
        self.continue_wanted = False
        self._limits = limits
        self._parser: Any = httptools.HttpRequestParser(self)
        self._closing = False
        self._standing_in = False
        self._target = b""
        self._headers: Values = {}
        self._fields = 0
        self._request: Request
        self._framing = BodyFraming(0, expects_continue=False)
        self._body = bytearray()
        self._field_bytes = 0
        self._bodiless_bytes = 0

    def feed(self, data: bytes) -> None:
        """Read `data`. Nothing more is read after a refusal or a request that closes the connection."""
        rest = memoryview(data)
        while rest and self.refusal is None and not self._closing:
            # Counts what llhttp keeps to itself until it is whole: a long header, a trailer, an extension.
            self._bodiless_bytes += len(rest)
            rest = self._feed_up_to_upgrade(rest)
            if self._bodiless_bytes > self._limits.head_bytes_max and self.stage is not Stage.IDLE:
                self.refusal = self.refusal or Refusal(431, "The request's headers are too long.")

    def _feed_up_to_upgrade(self, data: memoryview) -> memoryview:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade()
            return data[upgrade.args[0] :]
        except httptools.HttpParserError as error:
            if not self._closing:
                self.refusal = self.refusal or self._refusal_of(error)
        return data[:0]

    def _ignore_upgrade(self) -> None:
        """Go on with HTTP/1.1 after a head that asks for another protocol, as RFC 9110 section 7.8 lets us.

        llhttp stops there and takes the body for the other protocol's bytes. Java's client asks for h2c
        with each POST, so such a body must be read: by a fresh parser, told how it is framed by a head that
        stands in for the one already read.
        """
        self._parser = httptools.HttpRequestParser(self)
        if self.stage is Stage.BODY:
            self._standing_in = True
            self._parser.feed_data(b"POST / HTTP/1.1\r\nhost: -\r\n%b\r\n\r\n" % self._framing.header)

    def _refusal_of(self, error: Exception) -> Refusal:
        if self._parser.get_http_version() not in ("0.0", "1.0", "1.1"):
            return Refusal(505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.")
        return Refusal(400, f"This is not HTTP/1.1: {error}.")

    def _refuse(self, refusal: Refusal) -> None:
        """Note why and stop the parser, which turns what its callbacks raise into an error of its own."""
        self.refusal = refusal
        raise refusal

    def on_message_begin(self) -> None:
        """The first byte of a message."""
        if self._closing:  # the stand-in after an upgrade does not know, and would read on
            raise Refusal(400, "Nothing may follow a request that closes the connection.")
        if self.stage is Stage.IDLE:
            self.stage = Stage.HEAD

    def on_url(self, part: bytes) -> None:
        """A piece of the target."""
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer once the body is there."""
        self._field_bytes += len(name) + len(value) + 4
        if self._field_bytes + len(self._target) > self._limits.head_bytes_max:
            self._refuse(Refusal(431, "The request's headers are too long."))
        if self.stage is Stage.BODY:
            return None if self._standing_in else self._check_trailer(name.lower())
        self._fields += 1
        if self._fields > self._limits.headers_max:
            self._refuse(Refusal(431, f"More than {self._limits.headers_max} headers."))
        return self._headers.setdefault(name.lower(), []).append(value.strip(b" \t"))

    def _check_trailer(self, name: bytes) -> None:
        """A trailer is read and left out: nobody here asks for one."""
        try:
            check_trailer(name)
        except Refusal as refusal:
            self._refuse(refusal)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        if self.stage is Stage.BODY:
            self._standing_in = False
            return
        self.stage = Stage.BODY
        try:
            self._take_head(self._parser.get_method().decode("ascii"), self._parser.get_http_version())
        except Refusal as refusal:
            self._refuse(refusal)
        self.continue_wanted = self._framing.expects_continue
        self._field_bytes = self._bodiless_bytes = 0

    def _take_head(self, method: str, version: str) -> None:
        if method == "CONNECT":
            raise Refusal(501, "This is not a proxy.")
        self._framing = body_framing(version, self._headers)
        if (self._framing.length or 0) > self._limits.body_bytes_max:
            raise self._too_long()
        path, query = split_target(method, self._target)
        self._request = Request(
            method=method,
            path=path,
            query=query,
            headers=self._headers,
            version=version,
            keep_alive=self._parser.should_keep_alive(),
            wants_trailers=version == "1.1" and has_token(self._headers.get(b"te"), b"trailers"),
        )

    def on_body(self, piece: bytes) -> None:
        """A piece of the body, without its framing."""
        self._body += piece
        if len(self._body) > self._limits.body_bytes_max:
            self._refuse(self._too_long())
        self.continue_wanted = False
        self._bodiless_bytes = 0

    def on_message_complete(self) -> None:
        """The message is whole."""
        if self._parser.should_upgrade() and self._framing.length != 0:
            return  # complete for llhttp only: the body comes after the upgrade
        if len(self.ready) >= self._limits.pipelined_max:
            self._refuse(Refusal(503, f"More than {self._limits.pipelined_max} requests sent ahead."))
        self._request.body = bytes(self._body)
        self._closing = not self._request.keep_alive
        self.ready.append(self._request)
        self.stage = Stage.IDLE
        self.continue_wanted = False
        self._target = b""
        self._headers, self._body = {}, bytearray()
        self._fields = self._field_bytes = self._bodiless_bytes = 0

    def _too_long(self) -> Refusal:
        return Refusal(413, f"The body may be at most {self._limits.body_bytes_max} bytes long.")
