"""Bytes in, requests out: framing, limits and everything that smells of smuggling. No sockets here."""

import pytest

from isochrone.relay.limits import ServerLimits
from isochrone.relay.request_reader import RequestReader, Stage

HOST = b"POST / HTTP/1.1\r\nhost: a\r\n"


def read(*pieces: bytes, **limits) -> RequestReader:
    reader = RequestReader(ServerLimits(**limits))
    for piece in pieces:
        reader.feed(piece)
    return reader


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


CHUNKED = (
    HOST + b"Transfer-Encoding: chunked\r\nX-Y:  some value \r\n\r\n"
    b"3;ext=1\r\nabc\r\na\r\n0123456789\r\n0\r\nx-trailer: t\r\n\r\n"
)
SIZED = b"PUT /p%20q?x=1&y=%3F HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"


def test_a_request_is_the_same_however_it_is_split():
    whole = read(CHUNKED + SIZED)
    assert [r.body for r in whole.ready] == [b"abc0123456789", b"hello"]
    assert read(*bytewise(CHUNKED + SIZED)).ready == whole.ready
    for at in range(1, len(CHUNKED)):
        assert read(CHUNKED[:at], CHUNKED[at:] + SIZED).ready == whole.ready, at


def test_target_and_headers():
    (request,) = read(SIZED).ready
    assert (request.method, request.path, request.query) == ("PUT", "/p%20q", "x=1&y=%3F")
    (request,) = read(CHUNKED).ready
    assert request.headers[b"transfer-encoding"] == [b"chunked"]
    assert request.headers[b"x-y"] == [b"some value"]


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", "/", ""),
        (b"/?", "/", ""),
        (b"/a//b?c?d", "/a//b", "c?d"),
        (b"http://other:8/v1?q", "/v1", "q"),
        (b"http://other", "/", ""),
        (b"*", "*", ""),
    ],
)
def test_forms_of_target(target, path, query):
    (request,) = read(b"OPTIONS " + target + b" HTTP/1.1\r\nhost: a\r\n\r\n").ready
    assert (request.path, request.query) == (path, query)


@pytest.mark.parametrize(
    ("head", "keep_alive"),
    [
        (b"GET / HTTP/1.1\r\nhost: a\r\n", True),
        (b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n", False),
        (b"GET / HTTP/1.1\r\nhost: a\r\nconnection: keep-alive\r\nconnection: te, Close\r\n", False),
        (b"GET / HTTP/1.0\r\n", False),
        (b"GET / HTTP/1.0\r\nconnection: Keep-Alive\r\n", True),
    ],
)
def test_keep_alive(head, keep_alive):
    reader = read(head + b"\r\n", b"GET /2 HTTP/1.1\r\nhost: a\r\n\r\n")
    assert reader.ready[0].keep_alive is keep_alive
    assert len(reader.ready) == 1 + keep_alive
    assert reader.refusal is None


def test_what_follows_a_close_is_not_read_even_in_the_same_piece():
    reader = read(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\nGET /2 HTTP/1.1\r\n\r\n")
    assert (len(reader.ready), reader.refusal) == (1, None)


@pytest.mark.parametrize("split", [lambda data: [data], bytewise], ids=["whole", "bytewise"])
@pytest.mark.parametrize(
    "head",
    [HOST + b"connection: upgrade, close\r\n", b"POST / HTTP/1.0\r\nconnection: upgrade\r\n"],
)
def test_what_follows_a_close_is_not_read_after_an_upgrade_either(head, split):
    """The parser that stands in for the one that stopped at the upgrade does not know of the close."""
    reader = read(*split(head + b"upgrade: h2c\r\ncontent-length: 3\r\n\r\nabc" + SIZED))
    assert [request.body for request in reader.ready] == [b"abc"]
    assert reader.refusal is None


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        (b"te: trailers\r\n", True),
        (b"te: gzip;q=0.5, Trailers\r\n", True),
        (b"te: gzip\r\n", False),
        (b"", False),
    ],
)
def test_wants_trailers(headers, wanted):
    assert read(b"GET / HTTP/1.1\r\nhost: a\r\n" + headers + b"\r\n").ready[0].wants_trailers is wanted
    assert not read(b"GET / HTTP/1.0\r\n" + headers + b"\r\n").ready[0].wants_trailers


@pytest.mark.parametrize("split", [lambda data: [data], bytewise], ids=["whole", "bytewise"])
@pytest.mark.parametrize(
    ("framing", "body"),
    [(b"content-length: 3", b"abc"), (b"transfer-encoding: chunked", b"3\r\nabc\r\n0\r\n\r\n")],
)
def test_upgrade_is_ignored_and_its_body_is_read_as_a_body(split, framing, body):
    """As Java's HttpClient asks for h2c; the body must not be taken for a request of its own."""
    upgrade = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAA\r\n"
    post = b"PUT /up HTTP/1.1\r\nhost: a\r\n" + upgrade + framing + b"\r\n\r\n" + body
    get = b"GET /get HTTP/1.1\r\nhost: a\r\n" + upgrade + b"\r\n"
    reader = read(*split(get + post + get + SIZED))
    got = [(r.method, r.path, r.body) for r in reader.ready]
    assert got == [
        ("GET", "/get", b""),
        ("PUT", "/up", b"abc"),
        ("GET", "/get", b""),
        ("PUT", "/p%20q", b"hello"),
    ]
    assert reader.refusal is None


REFUSED = {
    "content-length twice": (400, HOST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
    "content-lengths that differ": (400, HOST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc"),
    "content-length list": (400, HOST + b"Content-Length: 3, 3\r\n\r\nabc"),
    "content-length with a sign": (400, HOST + b"Content-Length: +3\r\n\r\nabc"),
    "content-length negative": (400, HOST + b"Content-Length: -3\r\n\r\nabc"),
    "content-length hex": (400, HOST + b"Content-Length: 0x3\r\n\r\nabc"),
    "content-length with underscore": (400, HOST + b"Content-Length: 1_0\r\n\r\nabc"),
    "content-length with a gap": (400, HOST + b"Content-Length: 1 0\r\n\r\nabc"),
    "content-length empty": (400, HOST + b"Content-Length:\r\n\r\nabc"),
    "content-length beyond 64 bits": (400, HOST + b"Content-Length: 99999999999999999999999\r\n\r\n"),
    "content-length, then chunked": (
        400,
        HOST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "chunked, then content-length": (
        400,
        HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    ),
    "coding before chunked": (400, HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "coding after chunked": (400, HOST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    "chunked twice": (400, HOST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    "chunked in two lines": (
        400,
        HOST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "chunked misspelt": (400, HOST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    "chunked with vertical tab": (400, HOST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
    "chunked in quotes": (400, HOST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n'),
    "identity": (400, HOST + b"Transfer-Encoding: identity\r\n\r\n"),
    "chunked on 1.0": (400, b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "no host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "two hosts": (400, b"GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n"),
    "two hosts on 1.0": (400, b"GET / HTTP/1.0\r\nhost: a\r\nhost: b\r\n\r\n"),
    "space before colon": (400, HOST + b"Content-Length : 3\r\n\r\nabc"),
    "space before name": (400, HOST + b" Content-Length: 3\r\n\r\nabc"),
    "folded line": (400, HOST + b"X: 1\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "bare LF between headers": (400, HOST + b"X: a\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "bare CR between headers": (400, HOST + b"X: a\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "bare LF throughout": (400, b"GET / HTTP/1.1\nhost: a\n\n"),
    "NUL in a value": (400, HOST + b"X: a\0b\r\n\r\n"),
    "control character in a value": (400, HOST + b"X: \x01\r\n\r\n"),
    "NUL in a name": (400, HOST + b"X\0: a\r\n\r\n"),
    "no name": (400, HOST + b": a\r\n\r\n"),
    "no colon": (400, HOST + b"X\r\n\r\n"),
    "chunk size without CR": (400, HOST + b"Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n"),
    "chunk data without CR": (400, HOST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\n0\r\n\r\n"),
    "chunk longer than said": (400, HOST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n"),
    "chunk size negative": (400, HOST + b"Transfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n"),
    "chunk size with 0x": (400, HOST + b"Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n"),
    "chunk size with space": (400, HOST + b"Transfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n"),
    "chunk size beyond 64 bits": (400, HOST + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 17 + b"\r\n"),
    "LF in a chunk extension": (400, HOST + b"Transfer-Encoding: chunked\r\n\r\n3;a=\n\r\nabc\r\n0\r\n\r\n"),
    "space in the target": (400, b"GET /a b HTTP/1.1\r\nhost: a\r\n\r\n"),
    "high byte in the target": (400, b"GET /\xff HTTP/1.1\r\nhost: a\r\n\r\n"),
    "fragment in the target": (400, b"GET /a#b HTTP/1.1\r\nhost: a\r\n\r\n"),
    "target without a slash": (400, b"GET foo HTTP/1.1\r\nhost: a\r\n\r\n"),
    "method in lower case": (400, b"get / HTTP/1.1\r\nhost: a\r\n\r\n"),
    "method unknown": (400, b"FOO / HTTP/1.1\r\nhost: a\r\n\r\n"),
    "TLS": (400, b"\x16\x03\x01\x02\x00\x01"),
    "HTTP/0.9": (505, b"GET /\r\n\r\n"),
    "HTTP/1.2": (505, b"GET / HTTP/1.2\r\nhost: a\r\n\r\n"),
    "HTTP/2.0": (505, b"GET / HTTP/2.0\r\nhost: a\r\n\r\n"),
    "HTTP/2 preface": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "CONNECT": (501, b"CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n"),
    "another expectation": (417, HOST + b"expect: 200-ok\r\ncontent-length: 1\r\n\r\n"),
}


@pytest.mark.parametrize(("status", "data"), REFUSED.values(), ids=REFUSED)
def test_refused(status, data):
    for pieces in ([data + b"GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"], bytewise(data)):
        reader = read(*pieces)
        assert reader.refusal is not None
        assert (reader.refusal.status, list(reader.ready)) == (status, [])


def test_what_came_before_a_refusal_is_still_answered():
    reader = read(SIZED + b"rubbish\r\n\r\n" + SIZED)
    assert (len(reader.ready), reader.refusal.status) == (1, 400)


def test_limits_of_the_head():
    get = b"GET / HTTP/1.1\r\nhost: a\r\n"
    assert read(get + b"x: y\r\n" * 9 + b"\r\n", headers_max=10).refusal is None
    assert read(get + b"x: y\r\n" * 10 + b"\r\n", headers_max=10).refusal.status == 431
    long = get + b"x: " + b"y" * 1000 + b"\r\n\r\n"
    assert read(long, head_bytes_max=1100).refusal is None
    for pieces in ([long], bytewise(long)):
        assert read(*pieces, head_bytes_max=900).refusal.status == 431
    # Never ending: refused although no header is whole.
    assert read(get + b"x: ", *[b"y" * 100] * 10, head_bytes_max=900).refusal.status == 431
    assert read(b"GET /", *[b"y" * 100] * 10, head_bytes_max=900).refusal.status == 431


def test_limits_of_the_body():
    assert read(HOST + b"content-length: 10\r\n\r\n", body_bytes_max=10).refusal is None
    assert read(HOST + b"content-length: 11\r\n\r\n", body_bytes_max=10).refusal.status == 413
    chunked = HOST + b"transfer-encoding: chunked\r\n\r\n"
    five = b"5\r\nabcde\r\n"
    assert read(chunked, five, five, body_bytes_max=10).refusal is None
    assert read(chunked, five, five, b"1\r\nx", body_bytes_max=10).refusal.status == 413


@pytest.mark.parametrize("start", [b"0\r\nx: ", b"3;x="], ids=["trailer", "extension"])
def test_framing_without_body_is_bounded(start):
    chunked = HOST + b"transfer-encoding: chunked\r\n\r\n"
    reader = read(chunked, start, *[b"y" * 100] * 10, head_bytes_max=900)
    assert reader.refusal.status == 431


def test_many_small_chunks_are_no_excess_of_framing():
    chunked = HOST + b"transfer-encoding: chunked\r\n\r\n"
    (request,) = read(chunked, *[b"1\r\nx\r\n"] * 1000, b"0\r\n\r\n", head_bytes_max=200).ready
    assert request.body == b"x" * 1000


def test_requests_sent_ahead_are_bounded():
    reader = read(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n" * 9, pipelined_max=5)
    assert (len(reader.ready), reader.refusal.status) == (5, 503)


def test_stages_and_continue():
    reader = read()
    assert reader.stage is Stage.IDLE
    reader.feed(b"\r\n")
    assert reader.stage is Stage.IDLE
    reader.feed(HOST)
    assert reader.stage is Stage.HEAD
    reader.feed(b"expect: 100-continue\r\ncontent-length: 2\r\n\r\n")
    assert (reader.stage, reader.continue_wanted) == (Stage.BODY, True)
    reader.feed(b"a")
    assert not reader.continue_wanted
    reader.feed(b"b")
    assert reader.stage is Stage.IDLE
    assert reader.ready[0].body == b"ab"
