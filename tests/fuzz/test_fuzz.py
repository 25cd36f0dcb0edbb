"""The fuzzing targets for a moment each, and our reader and writer against h11 on messages that are valid."""

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone.relay.head import chunk, last_chunk, reply_head
from tests.fuzz.corpus import SEEDS, WORDS
from tests.fuzz.targets import TARGETS, h11_request, pieces, read_reply, read_requests

EXAMPLES = settings(max_examples=120)


@st.composite
def near_misses(draw: st.DrawFn, name: str) -> bytes:
    """A whole message with some bytes changed, left out or put in; or words in any order."""
    if draw(st.booleans()):
        word = st.sampled_from(WORDS[name]) | st.binary(max_size=3)
        return b"".join(draw(st.lists(word, max_size=12)))
    data = draw(st.sampled_from(SEEDS[name]))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.binary(max_size=3)) + data[at + draw(st.integers(0, 3)) :]
    return data


def test_every_target_has_something_to_begin_with():
    assert set(TARGETS) == set(SEEDS) == set(WORDS)


@pytest.mark.parametrize("name", TARGETS)
def test_whole_messages_hold(name):
    for data in SEEDS[name]:
        TARGETS[name](data)


@pytest.mark.parametrize("name", TARGETS)
@EXAMPLES
@given(st.data())
def test_near_misses_hold(name, data):
    TARGETS[name](data.draw(near_misses(name)))


@pytest.mark.parametrize("name", TARGETS)
@EXAMPLES
@given(st.binary(max_size=200))
def test_any_bytes_hold(name, data):
    TARGETS[name](data)


# Valid messages: ours and h11 must say the same.

names = st.from_regex(rb"x-[a-z0-9!#$%&'*+.^_`|~-]{1,8}", fullmatch=True)
values = st.from_regex(rb"(?:[!-~\x80-\xff](?:[ \t!-~\x80-\xff]{0,10}[!-~\x80-\xff])?)?", fullmatch=True)
fields = st.lists(st.tuples(names, values), max_size=5)
bodies = st.lists(st.binary(min_size=1, max_size=40), max_size=4)
extensions = st.sampled_from((b"", b";a", b";a=b", b';a="b;c"'))
ends = st.sampled_from((b"", b"x-trailer: y\r\n"))


def framed(draw: st.DrawFn, parts: list[bytes]) -> tuple[bytes, bytes]:
    """(a header line that frames, the body framed so)."""
    if draw(st.booleans()):
        body = b"".join(parts)
        return b"content-length: %d\r\n" % len(body), body
    sized = [b"%x%b\r\n%b\r\n" % (len(part), draw(extensions), part) for part in parts]
    return b"transfer-encoding: chunked\r\n", b"".join(sized) + b"0\r\n" + draw(ends) + b"\r\n"


def lines(headers: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join(b"%b: %b\r\n" % field for field in headers)


@st.composite
def valid_requests(draw: st.DrawFn) -> bytes:
    method = draw(st.sampled_from((b"GET", b"POST", b"PUT", b"DELETE", b"OPTIONS")))
    target = draw(st.from_regex(rb"/[a-z0-9%20/._~-]{0,12}(\?[a-z0-9=&%]{0,8})?", fullmatch=True))
    framing, body = framed(draw, draw(bodies))
    head = b"%b %b HTTP/1.1\r\nhost: a.example:80\r\n" % (method, target)
    return head + lines(draw(fields)) + framing + b"\r\n" + body


@st.composite
def valid_replies(draw: st.DrawFn) -> bytes:
    status = draw(st.sampled_from((200, 201, 400, 404, 429, 500, 503)))
    interim = draw(st.sampled_from((b"", b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n")))
    framing, body = framed(draw, draw(bodies))
    return interim + b"HTTP/1.1 %d Yes\r\n" % status + lines(draw(fields)) + framing + b"\r\n" + body


@EXAMPLES
@given(st.lists(valid_requests(), min_size=1, max_size=3))
def test_valid_requests_are_read_as_h11_reads_them(raws):
    ready, refusal = read_requests(pieces(b"".join(raws)))
    assert refusal is None
    assert len(ready) == len(raws)
    for raw, (method, path, query, headers, body) in zip(raws, ready, strict=True):
        theirs = h11_request(raw)
        assert theirs is not None
        assert (theirs.method, theirs.body) == (method, body)
        assert theirs.target.rstrip("?") == (path + ("?" + query if query else "")).rstrip("?")
        assert sorted(theirs.headers) == sorted(headers)


@EXAMPLES
@given(valid_replies())
def test_valid_replies_are_read_as_h11_reads_them(raw):
    ours = read_reply("GET", pieces(raw))
    assert ours is not None
    status, headers, body, trailers, complete, keep_alive = ours
    assert complete
    assert keep_alive
    assert (status, sorted(headers), body, sorted(trailers)) == h11_reply(raw)


@EXAMPLES
@given(fields, bodies, st.booleans())
def test_what_we_write_h11_reads(headers, parts, trailing):
    trailers = ((b"x-took", b"5"),) if trailing else ()
    head = reply_head(200, tuple(headers), (b"transfer-encoding: chunked",))
    raw = head + b"".join(map(chunk, parts)) + last_chunk(trailers)
    framing = [(b"transfer-encoding", b"chunked")]
    assert h11_reply(raw) == (200, sorted([*headers, *framing]), b"".join(parts), sorted(trailers))


def h11_reply(raw: bytes) -> tuple[int, list, bytes, list]:
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(raw)
    status, headers, body = 0, [], b""
    while True:
        event = client.next_event()
        if isinstance(event, h11.Response):
            status, headers = event.status_code, [(bytes(n), bytes(v)) for n, v in event.headers]
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            return status, sorted(headers), body, sorted((bytes(n), bytes(v)) for n, v in event.headers)
        else:
            assert isinstance(event, h11.InformationalResponse)
