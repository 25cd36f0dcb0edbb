"""A node's answer that goes wrong at each of its bytes: the client reads a whole message, nothing is left."""

import asyncio
import itertools
import json

import pytest
from live_nouns import PATIENCE_S, Heard, Live, Talk, live

EVENTS = [
    b'data: {"choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n' % w for w in (b"Hi", b"", b"\xc3\xa9")
]
DONE = b"data: [DONE]\n\n"
STREAM = b"".join(EVENTS) + DONE
JSON = b'{"id":"x","choices":[{"index":0,"message":{"role":"assistant","content":"Hi"}}]}'


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\n%s\r\n\r\n"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
TRAILERS = b'0\r\nx-isochrone-timings: {"prompt_tokens":1}\r\n\r\n'
REPLIES = {
    "events in chunks": HEAD % (b"text/event-stream", b"transfer-encoding: chunked")
    + chunked(EVENTS[0][:20], EVENTS[0][20:] + EVENTS[1], EVENTS[2] + DONE)
    + TRAILERS,
    "interim replies first": INTERIM
    + HEAD % (b"text/event-stream", b"transfer-encoding: chunked")
    + chunked(STREAM)
    + b"0\r\n\r\n",
    "events with a length": HEAD % (b"text/event-stream", b"content-length: %d" % len(STREAM)) + STREAM,
    "one object": HEAD % (b"application/json", b"content-length: %d" % len(JSON)) + JSON,
    "an error": b"HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\n{}",
    "a refusal": b"HTTP/1.1 503 No\r\nretry-after: 3\r\ncontent-length: 2\r\n\r\n{}",
}
KINDS = ("close", "reset", "stall", "insert", "flip")
AT_ONCE = 64
STALL_MS = 150


async def play(talk: Talk, body: bytes) -> None:
    """Send a reply up to a position, and there do as the request's `user` says."""
    name, kind, told = json.loads(body)["user"].split("|")
    reply, at = REPLIES[name], int(told)
    if kind == "insert":
        talk.send(reply[:at] + b"5" + reply[at:])
    elif kind == "flip":
        talk.send(reply[:at] + bytes([reply[at] ^ 1]) + reply[at + 1 :])
    else:
        talk.send(reply[:at])
    if kind == "reset":
        await talk.writer.drain()
        talk.reset()
    elif kind == "close":
        talk.writer.close()
    elif kind == "stall":
        await talk.until_left()


def check(case: tuple[str, str, int], answer: Heard, *, stream: bool) -> None:
    name, kind, at = case
    told = f"{case}: {answer}"
    whole = at >= len(REPLIES[name])
    if not stream and answer.status == 200 and answer.broken:
        assert "incomplete" in answer.broken or "without sending complete" in answer.broken, told
        return  # one object that breaks off is cut, so that nobody takes it for whole
    assert answer.broken == "", told
    expected = {200} if whole and name not in ("an error", "a refusal") else range(200, 600)
    assert answer.status in expected, told
    if answer.status >= 500:
        assert answer.error["message"], told
        assert answer.error["code"] in ("no_node_available", "upstream_failed", "deadline_exceeded"), told
        assert ("retry-after" in answer.headers) == (answer.status == 503), told
    elif stream and kind not in ("insert", "flip"):
        check_events(answer.body, told, whole=whole)


def check_events(body: bytes, told: str, *, whole: bool) -> None:
    """Whole events of the node's, then its `[DONE]` or one error that anybody can read."""
    if body == STREAM:
        return
    assert not whole, told
    *events, last, nothing = body.split(b"\n\n")
    assert nothing == b"", told
    assert [event + b"\n\n" for event in events] == EVENTS[: len(events)], told
    error = json.loads(last.removeprefix(b"data: "))["error"]
    assert error["code"] in ("upstream_failed", "deadline_exceeded"), told


async def run_all(gateway: Live, cases: list[tuple[str, str, int]], *, stream: bool) -> None:
    room = asyncio.Semaphore(AT_ONCE)

    async def one(case: tuple[str, str, int]) -> None:
        async with room:
            user = "|".join(map(str, case))
            stalls = case[1] not in ("close", "reset") and case[2] < len(REPLIES[case[0]])
            patience = f"x-isochrone-timeout-ms: {STALL_MS if stalls else 5000}"
            check(case, await gateway.chat(patience, stream=stream, user=user), stream=stream)

    await asyncio.gather(*(one(case) for case in cases))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", REPLIES)
async def test_at_every_byte(name, kind):
    length = len(REPLIES[name])
    ends = length if kind == "flip" else length + 1
    async with live(play) as gateway:
        await run_all(gateway, [(name, kind, at) for at in range(ends)], stream=name != "one object")


async def test_every_fault_gives_its_place_back():
    """With room for one request only, none is told that the gateway is full."""
    async with live(play, in_flight_max=1) as gateway:
        for name, kind in itertools.product(REPLIES, KINDS):
            for at in (0, 20, len(REPLIES[name]) - 8):
                answer = await gateway.chat("x-isochrone-timeout-ms: 20", user=f"{name}|{kind}|{at}")
                assert answer.status != 503 or answer.error["code"] != "overloaded"


async def test_every_byte_by_itself_is_no_fault():
    async def dribble(talk: Talk, _body: bytes) -> None:
        for byte in REPLIES["events in chunks"]:
            talk.send(bytes([byte]))
            await asyncio.sleep(0)

    async with live(dribble) as gateway:
        answer = await gateway.chat()
        assert (answer.status, answer.body, answer.broken) == (200, STREAM, "")


ODD = {
    "nothing but interim replies": (b"HTTP/1.1 103 Early Hints\r\n\r\n" * 5000, 503),
    "a head that never ends": (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000, 503),
    "a switch of protocols": (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n", 503),
    "status 099": (b"HTTP/1.1 099 No\r\ncontent-length: 3\r\n\r\nabc" + REPLIES["one object"], 503),
    "HTTP/2.0": (REPLIES["one object"].replace(b"HTTP/1.1", b"HTTP/2.0"), 503),
    "two lengths": (HEAD % (b"a/b", b"content-length: 2\r\ncontent-length: 3") + b"abc", 503),
    "length and chunks": (HEAD % (b"a/b", b"content-length: 2\r\ntransfer-encoding: chunked"), 503),
    "an unknown coding": (HEAD % (b"a/b", b"transfer-encoding: gzip, chunked"), 503),
    "a folded line": (HEAD % (b"a/b", b"x: y\r\n z"), 503),
    "a redirect": (b"HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n", 502),
    "an endless chunk size": (HEAD % (b"a/b", b"transfer-encoding: chunked") + b"0" * 1_000_000, 502),
    "endless trailers": (
        HEAD % (b"a/b", b"transfer-encoding: chunked") + b"0\r\n" + b"x: y\r\n" * 200_000,
        502,
    ),
}


@pytest.mark.parametrize("name", ODD)
async def test_what_is_no_answer(name):
    raw, status = ODD[name]

    async def script(talk: Talk, _body: bytes) -> None:
        talk.send(raw)
        await talk.until_left()

    async with live(script) as gateway:
        answer = await gateway.chat("x-isochrone-timeout-ms: 5000", stream=False)
        assert (answer.status, answer.broken) == (status, "")
        assert gateway.gateway._client.connections == (name == "a redirect")  # all else is cut


@pytest.mark.parametrize(("status", "told"), [(503, 503), (500, 502)])
async def test_an_error_without_an_end_is_not_read_to_it(status, told):
    """Only its beginning is wanted; the rest would fill the memory until the deadline."""
    sent = 0

    async def script(talk: Talk, _body: bytes) -> None:
        nonlocal sent
        talk.send(b"HTTP/1.1 %d No\r\ntransfer-encoding: chunked\r\n\r\n" % status)
        while True:
            talk.send(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
            sent += 0x4000
            await talk.writer.drain()

    async with live(script) as gateway:
        answer = await gateway.chat("x-isochrone-timeout-ms: 60000")
        assert answer.status == told
        assert b"xxx" not in answer.body
        async with asyncio.timeout(PATIENCE_S):
            await gateway.node.quiet.wait()
        assert sent < 64_000_000


async def test_bytes_after_the_end_are_not_the_next_answer():
    """What a node sends unasked must not be read as the answer to another client's request."""
    evil = REPLIES["one object"].replace(b'"Hi"', b'"No"')
    connections = set()

    async def script(talk: Talk, body: bytes) -> None:
        connections.add(talk.writer)
        talk.send(REPLIES["one object"] + (evil if len(connections) == 1 else b""))

    async with live(script) as gateway:
        for _ in range(3):
            assert (await gateway.chat(stream=False)).body == JSON
        assert len(connections) == 2


async def test_a_node_that_does_not_read_costs_no_more_than_the_body():
    """The request is longer than what the system buffers, and the node never takes it."""
    done = asyncio.Event()

    async def deaf(reader, writer) -> None:
        sock = writer.get_extra_info("socket")
        reader._transport.pause_reading()
        await done.wait()
        assert sock is not None
        writer.transport.abort()

    async with live(play) as gateway:
        listener = await asyncio.start_server(deaf, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        for belief in gateway.gateway.fleet.beliefs():
            object.__setattr__(belief.card, "url", f"http://127.0.0.1:{port}")
        answer = await gateway.chat("x-isochrone-timeout-ms: 200", user="x" * 7_000_000)
        assert (answer.status, answer.error["code"]) == (504, "deadline_exceeded")
        assert gateway.gateway._client.connections == 0
        done.set()
        listener.close()
        await listener.wait_closed()


@pytest.mark.parametrize("first", ["close", "reset", "stall"])
async def test_another_node_answers_what_the_first_did_not_begin(first):
    """Before the first byte a client does not see that a node failed, unless the deadline has passed."""
    turns = itertools.count()

    async def script(talk: Talk, body: bytes) -> None:
        if next(turns):
            talk.send(REPLIES["events in chunks"])
        elif first == "close":
            talk.writer.close()
        elif first == "reset":
            talk.reset()
        else:
            await talk.until_left()

    async with live(script, names=("a", "b")) as gateway:
        answer = await gateway.chat("x-isochrone-timeout-ms: 300")
        if first == "stall":
            assert (answer.status, answer.error["code"]) == (504, "deadline_exceeded")
        else:
            assert (answer.status, answer.body) == (200, STREAM)
