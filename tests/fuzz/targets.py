"""What must hold of any bytes whatever. Each target takes bytes and raises AssertionError where it does not.

The same functions run on hypothesis' examples in the tests, and under atheris by `scripts/fuzz`.
"""

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import h11

from isochrone.relay.head import Headers, Values
from isochrone.relay.limits import ServerLimits
from isochrone.relay.reply_reader import ReplyError, ReplyReader
from isochrone.relay.request_reader import RequestReader
from isochrone.wire import BadRequestError, WireError, gateways, nodes, openai, orca, timings
from isochrone.wire.sse import split_done, split_events
from isochrone.wire.tail import Tail

LIMITS = ServerLimits()
STATUSES = {400, 408, 413, 417, 431, 501, 503, 505}
TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")


def pieces(data: bytes) -> list[bytes]:
    """`data` in pieces whose lengths its first bytes decide: the same bytes, fed otherwise."""
    if not data:
        return []
    cuts, at, seed = [], 0, sum(data[:8]) + 1
    while at < len(data):
        step = 1 + (seed % 7)
        cuts.append(data[at : at + step])
        at, seed = at + step, (seed * 75 + 74) % 65537
    return cuts


def request(data: bytes) -> None:
    """A request is read alike however it is split; what h11 takes as well it takes for the same."""
    whole = read_requests([data])
    assert whole == read_requests(pieces(data)) == read_requests([data[n : n + 1] for n in range(len(data))])
    ready, refusal = whole
    assert refusal is None or refusal in STATUSES
    for method, path, _query, headers, _body in ready:
        assert method.isascii()
        assert path == "*" or path.startswith("/")
        assert not set(path) & set("\r\n\0 ?#")
        check_fields(headers)
    if ready:
        theirs = h11_request(data)
        if theirs is not None:
            method, path, query, headers, body = ready[0]
            target = path + ("?" + query if query else "")
            assert theirs.method == method
            assert theirs.target.endswith(target) or path == "/"
            assert unframed(theirs.headers) == unframed(headers)
            assert theirs.body == body


def reply(data: bytes) -> None:
    """A reply is read alike however it is split, or refused."""
    whole = read_reply("GET", [data])
    assert whole == read_reply("GET", pieces(data))
    assert whole == read_reply("GET", [data[n : n + 1] for n in range(len(data))])
    if whole is not None:
        status, headers, _body, trailers, complete, _keep = whole
        assert status == 0 or 200 <= status <= 999
        assert status or not complete
        check_fields(headers)
        check_fields(trailers)


def chunks(data: bytes) -> None:
    """A chunked body is the same in a request and in a reply."""
    head = b"transfer-encoding: chunked\r\n\r\n"
    ready, refusal = read_requests([b"POST / HTTP/1.1\r\nhost: a\r\n" + head + data])
    theirs = read_reply("GET", [b"HTTP/1.1 200 OK\r\n" + head + data])
    if ready:
        assert theirs is not None
        assert theirs[4]
        assert theirs[2] == ready[0][4]
    elif refusal is None:
        assert theirs is not None
        assert not theirs[4]


def sse(data: bytes) -> None:
    """Nothing is lost or turned around, and what went out never ends within an event."""
    for split in (split_done, split_events):
        out, held = [], b""
        for piece in pieces(data):
            now, held = split(held + piece)
            out.append(now)
            sent = b"".join(out)
            assert data.startswith(sent + held)
            if split is split_events:
                assert sent == b"" or sent.endswith((b"\n\n", b"\r\n\r\n"))
        assert b"".join(out) + held == data
    tail, whole = Tail(64), Tail(64)
    whole.feed(data)
    for piece in pieces(data):
        tail.feed(piece)
    assert (tail.events, tail.bytes) == (whole.events, whole.bytes)
    assert data.endswith(tail.value)
    assert len(tail.value) >= min(64, len(data))


def body(data: bytes) -> None:
    """A request's JSON is read or refused with words."""
    for path in (openai.CHAT_PATH, openai.COMPLETIONS_PATH):
        told = parsed = None
        try:
            parsed = openai.parse_request(openai.Ask("x", path), data)
        except BadRequestError as error:
            told = error
        if parsed is not None:
            assert parsed.model
            assert parsed.output_tokens_max is None or parsed.output_tokens_max > 0
        if told is not None:
            assert (told.status, bool(told.message)) == (400, True)
            assert openai.error_body(told.status, told.message, param=told.param, code=told.code)


def news(data: bytes) -> None:
    """What comes from nodes and from the bus is decoded within its bounds, or refused."""
    for decode in (
        nodes.decode_card,
        nodes.decode_pulse,
        nodes.decode_idle,
        nodes.decode_load,
        gateways.decode_gateway_pulse,
        gateways.decode_ledger_news,
        orca.decode_orca,
        timings.decode_timings,
    ):
        with contextlib.suppress(WireError):
            decode(data)  # type: ignore[operator]
    timings.report_from_body(data)
    timings.report_from_tail(data)


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (request, reply, chunks, sse, body, news)
}


def read_requests(parts: list[bytes]) -> tuple[list[Any], int | None]:
    """(method, path, query, headers and body of each request, the status of a refusal)."""
    reader = RequestReader(LIMITS)
    for part in parts:
        reader.feed(part)
    ready = [(r.method, r.path, r.query, pairs(r.headers), r.body) for r in reader.ready]
    return ready, reader.refusal.status if reader.refusal else None


def read_reply(method: str, parts: list[bytes]) -> tuple[Any, ...] | None:
    """(status, headers, body, trailers, complete, kept alive), None where it is no reply."""
    reader = ReplyReader(method, LIMITS.head_bytes_max)
    got = b""
    for part in parts:
        try:
            reader.feed(part)
        except ReplyError:
            return None
        got += reader.take()
    reader.eof()
    trailers = reader.trailers if reader.complete else ()
    return reader.status, reader.headers, got, trailers, reader.complete, reader.keep_alive


class Theirs:
    """A request as h11 reads it."""

    def __init__(self, head: h11.Request, body: bytes) -> None:
        self.method, self.target = head.method.decode(), head.target.decode("latin-1")
        self.headers, self.body = [(bytes(n), bytes(v)) for n, v in head.headers], body


def h11_request(data: bytes) -> Theirs | None:
    """The first request in `data`, None where h11 refuses it or finds it cut short."""
    server = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    head, body = None, b""
    try:
        server.receive_data(data)
        while True:
            event = server.next_event()
            if isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return Theirs(head, body) if head else None
            else:
                return None
    except h11.RemoteProtocolError:
        return None


def pairs(headers: Values) -> Headers:
    """Each header with each of its values."""
    return tuple((name, value) for name, values in headers.items() for value in values)


def unframed(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers in order of their names, less those that h11 writes anew."""
    return sorted(h for h in headers if h[0] not in (b"content-length", b"transfer-encoding"))


def check_fields(headers: Headers) -> None:
    for name, value in headers:
        assert name
        assert set(name) <= TOKEN
        assert not set(value) & set(b"\r\n\0")
        assert value == value.strip(b" \t")
