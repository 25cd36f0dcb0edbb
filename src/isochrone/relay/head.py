"""Heads of HTTP/1.1 messages: what may not pass, and how ours are written. Pure."""

import re
from dataclasses import dataclass
from http import HTTPStatus

Headers = tuple[tuple[bytes, bytes], ...]
"""Names in lower case, values without white space around them, in order of arrival."""

Values = dict[bytes, list[bytes]]
"""Headers by name: all values of each."""

_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
_FRAMING = frozenset(
    (b"connection", b"content-length", b"expect", b"keep-alive", b"transfer-encoding", b"upgrade")
)
_HOST = rb"(?:[\w.~!$&'()*+;=%-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?"
"""`uri-host [":" port]` of RFC 9110, section 7.2, not empty and without the comma, which joins repeated
fields."""
_HOST_FIELD = re.compile(_HOST)
_TARGET = re.compile(  # path, absolute URL or `*`; printable ASCII, and no fragment
    rb"(?:https?://" + _HOST + rb")?" + rb"(/[^\0-\x20?#\x7f-\xff]*|\*|)(?:\?([^\0-\x20#\x7f-\xff]*))?",
    re.IGNORECASE,
)
_NOT_IN_TRAILERS = frozenset(
    b"""
    connection keep-alive proxy-connection transfer-encoding content-length te trailer upgrade host expect
    authorization content-encoding content-type content-range
    """.split()
)
"""Framing, routing, authentication and content format, which RFC 9110, section 6.5.1, bars from trailers."""
LAST_CHUNK = b"0\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Refusal(Exception):  # noqa: N818 - it is one
    """A request that is not to be served, with the status that says so.

    Attributes:
        status: HTTP status for the client.
        message: one sentence for the person who wrote the client.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class BodyFraming:
    """How the end of a request's body is found.

    Attributes:
        length: its length in bytes; 0 when there is none, None when it is chunked.
        expects_continue: the client sends it only when told to.
    """

    length: int | None
    expects_continue: bool

    @property
    def header(self) -> bytes:
        """The header line that frames such a body."""
        if self.length is None:
            return b"transfer-encoding: chunked"
        return b"content-length: %d" % self.length


def value(headers: Headers, name: bytes) -> bytes | None:
    """The first value of `name` (lower case), or None."""
    for key, found in headers:
        if key == name:
            return found
    return None


def values(headers: Headers, name: bytes) -> list[bytes]:
    """All values of `name` (lower case)."""
    return [found for key, found in headers if key == name]


def has_token(listed: list[bytes] | None, token: bytes) -> bool:
    """Whether one of the comma-separated lists, if any, holds `token` (lower case), parameters set aside."""
    if listed is None:
        return False
    items = b",".join(listed).lower().split(b",")
    return any(item.partition(b";")[0].strip() == token for item in items)


def body_framing(version: str, headers: Values) -> BodyFraming:
    """Check what decides where a request ends and raise Refusal on any doubt.

    Two parsers that disagree about the end of a request let one client speak for another ("request
    smuggling", RFC 9112 section 11.2). llhttp refuses a good part of it by itself; what is repeated here
    must hold whatever it comes to tolerate.
    """
    if version not in ("1.0", "1.1"):
        raise Refusal(505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.")
    hosts, lengths = headers.get(b"host", []), headers.get(b"content-length", [])
    codings, expectations = headers.get(b"transfer-encoding", []), headers.get(b"expect", [])
    if len(hosts) > 1 or (not hosts and version == "1.1"):
        raise Refusal(400, "A request needs exactly one Host header.")
    if hosts and _HOST_FIELD.fullmatch(hosts[0]) is None:
        raise Refusal(400, "The Host header must be `host` or `host:port`.")
    if codings and (lengths or version == "1.0" or [c.lower() for c in codings] != [b"chunked"]):
        raise Refusal(400, "Transfer-Encoding must be `chunked` alone, on HTTP/1.1, without Content-Length.")
    if len(lengths) > 1 or (lengths and not lengths[0].isdigit()):
        raise Refusal(400, "Content-Length must be one decimal number.")
    if expectations and [e.lower() for e in expectations] != [b"100-continue"]:
        raise Refusal(417, "The only expectation met here is `100-continue`.")
    length = None if codings else int(lengths[0]) if lengths else 0
    return BodyFraming(length, expects_continue=bool(expectations) and version == "1.1" and length != 0)


def split_target(method: str, target: bytes) -> tuple[str, str]:
    """(path, query) of a request's target, percent signs not decoded. Raises Refusal.

    Takes `/path?query`, the absolute form that proxies get (whose host is left out), and `*` for OPTIONS.
    """
    found = _TARGET.fullmatch(target)
    if found is None or (target == b"*") > (method == "OPTIONS"):
        raise Refusal(400, "The request's target must be a path, in ASCII, percent-encoded.")
    path, query = found.groups(b"")
    return path.decode("ascii") or "/", query.decode("ascii")


def check_trailer(name: bytes) -> None:
    """Raise Refusal when `name` (lower case) decides how a message is framed, meant or allowed.

    llhttp reads some of these in trailers as if they stood in the head.
    """
    if name in _NOT_IN_TRAILERS:
        raise Refusal(400, f"{name.decode('ascii')} may not come in a trailer.")


def has_body(method: str, status: int) -> bool:
    """Whether a reply with `status` to `method` may have a body."""
    return method != "HEAD" and status >= 200 and status not in (204, 304)


def reply_head(status: int, headers: Headers, framing: tuple[bytes, ...]) -> bytes:
    """A reply's head. `framing` are whole lines that the relay adds. ValueError on CR, LF or NUL."""
    reason = _REASONS.get(status, b"Unknown")
    return _head(b"HTTP/1.1 %d %b" % (status, reason), headers, framing)


def request_head(method: str, target: str, host: str, headers: Headers, body_bytes: int) -> bytes:
    """A request's head, with Host and Content-Length added. ValueError on CR, LF, NUL or non-ASCII."""
    framing: tuple[bytes, ...] = ()
    if value(headers, b"host") is None:
        framing += (b"host: " + host.encode("ascii"),)
    if body_bytes or method in ("POST", "PUT", "PATCH"):
        framing += (b"content-length: %d" % body_bytes,)
    return _head(f"{method} {target} HTTP/1.1".encode("ascii"), headers, framing)


def chunk(data: bytes) -> bytes:
    """`data` (not empty) as one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def last_chunk(trailers: Headers) -> bytes:
    """The end of a chunked body. ValueError on CR, LF or NUL."""
    return _head(b"0", trailers, ()) if trailers else LAST_CHUNK


def _head(first_line: bytes, headers: Headers, framing: tuple[bytes, ...]) -> bytes:
    """The head, of `headers` without those that belong to one connection: `framing` are the relay's own."""
    fields = [name + b": " + held for name, held in headers if name not in _FRAMING]
    head = b"\r\n".join((first_line, *framing, *fields, b"", b""))
    breaks = 2 + len(framing) + len(fields)
    # A line break inside a value would be a header, or a whole message, of somebody else's making.
    if head.count(b"\r") != breaks or head.count(b"\n") != breaks or b"\0" in head:
        raise ValueError(f"CR, LF or NUL in one of the headers {[name for name, _ in headers]}")
    return head
