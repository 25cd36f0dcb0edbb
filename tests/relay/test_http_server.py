"""The server on real sockets."""

import asyncio
import json

import pytest

from isochrone.relay import Exchange, HttpServer

GET = b"GET / HTTP/1.1\r\nhost: a\r\n"
PATIENCE_S = 3.0


async def echo(exchange: Exchange) -> None:
    told = {"method": exchange.method, "path": exchange.path, "body": exchange.body.decode()}
    exchange.reply(200, json.dumps(told).encode())


class Held:
    """A handler that says when it has begun and how it ended, and goes on when told."""

    def __init__(self, first: bytes | None = None):
        self.first = first
        self.begun, self.go, self.cancelled, self.finished = (asyncio.Event() for _ in range(4))
        self.runs = 0

    async def __call__(self, exchange: Exchange) -> None:
        self.runs += 1
        self.begun.set()
        try:
            if self.first is not None:
                exchange.start(200, ())
                await exchange.write(self.first)
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        if exchange.started:
            exchange.end()
        else:
            exchange.reply(200, b"{}")
        self.finished.set()


async def happens(event: asyncio.Event) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await event.wait()


async def stream(exchange: Exchange) -> None:
    exchange.start(200, ((b"content-type", b"text/event-stream"), (b"content-length", b"9")))
    await exchange.write(b"one")
    await exchange.write(b"")
    await exchange.write(b"two")
    exchange.end(((b"x-took", b"5"),))


# Framing of replies


async def test_keep_alive_answers_one_after_another(serve, dial):
    raw = await dial((await serve(echo)).port)
    for path in ("/1", "/2"):
        raw.send(f"POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi".encode())
        reply = await raw.reply()
        assert json.loads(reply.body) == {"method": "POST", "path": path, "body": "hi"}
        assert reply.headers == {"content-type": "application/json", "content-length": str(len(reply.body))}


async def test_pipelined_requests_are_answered_in_order_one_at_a_time(serve, dial):
    at_work = 0

    async def handler(exchange):
        nonlocal at_work
        at_work += 1
        assert at_work == 1
        await asyncio.sleep(0)
        exchange.reply(200, exchange.path.encode())
        await asyncio.sleep(0)
        at_work -= 1

    running = await serve(handler)
    raw = await dial(running.port)
    raw.send(b"".join(b"GET /%d HTTP/1.1\r\nhost: a\r\n\r\n" % n for n in range(20)) + b"rubbish\r\n\r\n")
    assert [(await raw.reply()).body for _ in range(20)] == [b"/%d" % n for n in range(20)]
    assert (await raw.reply()).status == 400
    assert await raw.rest() == b""
    assert running.crashes == []


async def test_request_split_at_every_byte(serve, dial):
    raw = await dial((await serve(echo)).port)
    request = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
    for at in range(len(request)):
        raw.send(request[at : at + 1])
        await raw.writer.drain()
        await asyncio.sleep(0)
    assert json.loads((await raw.reply()).body)["body"] == "hi"


async def test_stream_is_chunked_and_trailers_go_to_who_wants_them(serve, dial):
    raw = await dial((await serve(stream)).port)
    raw.send(GET + b"te: trailers\r\n\r\n" + GET + b"connection: close\r\n\r\n")
    reply = await raw.head()
    assert reply.headers == {"transfer-encoding": "chunked", "content-type": "text/event-stream"}
    body = b"3\r\none\r\n3\r\ntwo\r\n0\r\n"
    first, _, second = (await raw.rest()).partition(b"\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert first == body + b"x-took: 5"
    assert second.endswith(b"\r\n\r\n" + body + b"\r\n")
    assert b"connection: close\r\n" in second


async def test_http_1_0_streams_to_the_end_of_the_connection(serve, dial):
    raw = await dial((await serve(stream)).port)
    raw.send(b"GET / HTTP/1.0\r\nconnection: keep-alive\r\nte: trailers\r\n\r\n")
    head = await raw.head()
    assert head.headers == {"connection": "close", "content-type": "text/event-stream"}
    assert await raw.rest() == b"onetwo"


async def test_http_1_0_keeps_alive_when_asked(serve, dial):
    raw = await dial((await serve(echo)).port)
    raw.send(b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
    assert (await raw.reply()).headers["connection"] == "keep-alive"
    raw.send(b"GET / HTTP/1.0\r\n\r\n")
    assert (await raw.reply()).headers["connection"] == "close"
    assert await raw.rest() == b""


@pytest.mark.parametrize("handler", [echo, stream])
async def test_head_has_no_body(serve, dial, handler):
    raw = await dial((await serve(handler)).port)
    raw.send(
        b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n" * 2 + b"HEAD / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
    )
    for _ in range(3):
        assert (await raw.head()).status == 200
    assert await raw.rest() == b""


async def test_204_has_neither_body_nor_length(serve, dial):
    async def handler(exchange):
        exchange.reply(204, b"")

    raw = await dial((await serve(handler)).port)
    raw.send(GET + b"connection: close\r\n\r\n")
    assert await raw.rest() == b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"


async def test_head_and_first_piece_leave_together(serve, dial):
    sent = []

    async def handler(exchange):
        send = exchange._sink.send
        exchange._sink.send = lambda data: (sent.append(data), send(data))
        exchange.start(200, ())
        await exchange.write(b"one")
        exchange.end()

    raw = await dial((await serve(handler)).port)
    raw.send(GET + b"connection: close\r\n\r\n")
    await raw.rest()
    assert sent == [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n",
        b"0\r\n\r\n",
    ]


async def test_a_head_without_a_piece_leaves_by_itself(serve, dial):
    async def handler(exchange):
        exchange.start(200, ())
        await asyncio.Event().wait()

    raw = await dial((await serve(handler)).port)
    raw.send(GET + b"\r\n")
    assert (await raw.head()).status == 200


async def test_100_continue(serve, dial):
    raw = await dial((await serve(echo, body_bytes_max=10)).port)
    post = b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-Continue\r\n"
    for _ in range(2):
        raw.send(post + b"content-length: 2\r\n\r\n")
        assert (await raw.head()).status == 100
        raw.send(b"hi")
        assert json.loads((await raw.reply()).body)["body"] == "hi"
    raw.send(post + b"content-length: 2\r\n\r\nhi")  # does not wait: needs no telling
    assert (await raw.reply()).status == 200
    raw.send(post + b"content-length: 11\r\n\r\n")
    reply = await raw.reply()
    assert (reply.status, reply.headers["connection"]) == (413, "close")


async def test_100_continue_waits_for_the_reply_before_it(serve, dial):
    held = Held()
    raw = await dial((await serve(held)).port)
    raw.send(GET + b"\r\nPOST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
    await happens(held.begun)
    held.go.set()
    assert (await raw.reply()).status == 200
    assert (await raw.head()).status == 100


# Limits


@pytest.mark.parametrize(
    ("data", "limits", "status"),
    [
        (GET + b"x: y\r\n" * 5 + b"\r\n", {"headers_max": 5}, 431),
        (GET + b"x: " + b"y" * 500, {"head_bytes_max": 300}, 431),
        (GET + b"content-length: 11\r\n\r\n", {"body_bytes_max": 10}, 413),
        (GET + b"transfer-encoding: chunked\r\n\r\nb\r\n01234567890", {"body_bytes_max": 10}, 413),
        (b"GET / HTT", {"head_s_max": 0.02}, 408),
        (GET + b"content-length: 9\r\n\r\nhalf", {"body_s_max": 0.02}, 408),
        (b"rubbish\r\n\r\n", {}, 400),
        (b"GET / HTTP/2.0\r\nhost: a\r\n\r\n", {}, 505),
    ],
)
async def test_refusals(serve, dial, data, limits, status):
    raw = await dial((await serve(echo, **limits)).port)
    raw.send(data)
    reply = await raw.reply()
    assert reply.status == status
    assert reply.headers["connection"] == "close"
    assert reply.headers["content-type"] == "application/json"
    assert json.loads(reply.body)["error"]["message"]
    assert await raw.rest() == b""


async def test_a_refused_client_that_still_sends_can_read_why(serve, dial):
    raw = await dial((await serve(echo, body_bytes_max=1000)).port)
    raw.writer.transport.set_write_buffer_limits(high=0)
    raw.send(GET + b"content-length: 4000000\r\n\r\n" + b"x" * 4_000_000)
    async with asyncio.timeout(PATIENCE_S):
        await raw.writer.drain()  # would fail, and might lose the reply, were the connection reset
    assert (await raw.reply()).status == 413
    assert await raw.rest() == b""


async def test_lingering_is_bounded(serve, dial):
    running = await serve(echo, linger_s_max=0.02)
    raw = await dial(running.port)
    raw.send(b"rubbish\r\n\r\n")
    await running.emptied()  # although the client never closes
    assert (await raw.reply()).status == 400


async def test_idle_connections_are_closed(serve, dial):
    running = await serve(echo, idle_s_max=0.1)
    fresh, used = await dial(running.port), await dial(running.port)
    used.send(GET + b"\r\n")
    assert (await used.reply()).status == 200
    assert await fresh.rest() == await used.rest() == b""
    await running.emptied()


async def test_a_running_exchange_is_not_idle(serve, dial):
    held = Held()
    running = await serve(held, head_s_max=0.02)
    raw = await dial(running.port)
    raw.send(GET + b"\r\nGET / HT")
    await happens(held.begun)
    (connection,) = running.server._service.connections
    assert connection._alarm._due_s is None
    held.go.set()
    assert (await raw.reply()).status == 200
    assert (await raw.reply()).status == 408  # the clock of the second began with its turn


async def test_too_many_connections(serve, dial):
    running = await serve(echo, connections_max=2)
    kept = [await dial(running.port) for _ in range(2)]
    for raw in kept:
        raw.send(GET + b"\r\n")
        assert (await raw.reply()).status == 200
    refused = await dial(running.port)
    assert (await refused.reply()).status == 503
    assert await refused.rest() == b""
    kept[0].send(GET + b"\r\n")
    assert (await kept[0].reply()).status == 200
    assert running.server.connections == 2


async def test_reading_pauses_for_a_client_that_sends_far_ahead(serve, dial):
    held = Held()
    running = await serve(held, read_ahead_bytes_max=1000)
    raw = await dial(running.port)
    raw.send(GET + b"\r\n")
    await happens(held.begun)
    (connection,) = running.server._service.connections
    raw.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 6000000\r\n\r\n")
    raw.send(b"x" * 6_000_000)
    async with asyncio.timeout(PATIENCE_S):
        while connection._transport.is_reading():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
    assert len(connection._reader._body) <= 1000 + 256 * 1024
    held.go.set()
    assert [(await raw.reply()).status for _ in range(2)] == [200, 200]


# The client goes


@pytest.mark.parametrize("first", [None, b"token"])
@pytest.mark.parametrize("how", ["reset", "eof"])
async def test_a_client_that_goes_cancels_the_handler(serve, dial, first, how):
    held = Held(first)
    running = await serve(held)
    raw = await dial(running.port)
    raw.send(GET + b"\r\n" + GET + b"\r\n")
    await happens(held.begun)
    if how == "reset":
        raw.vanish()
    else:
        raw.writer.write_eof()
    await happens(held.cancelled)
    await running.emptied()
    assert (held.runs, running.crashes) == (1, [])


async def test_a_handler_that_outlives_its_client_can_not_write(serve, dial):
    begun, told = asyncio.Event(), asyncio.Event()

    async def stubborn(exchange):
        exchange.start(200, ())
        await exchange.write(b"one")
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            with pytest.raises(ConnectionResetError):
                await exchange.write(b"two")
            told.set()

    running = await serve(stubborn)
    raw = await dial(running.port)
    raw.send(GET + b"\r\n")
    await happens(begun)
    raw.vanish()
    await happens(told)
    await running.emptied()


async def test_a_client_that_goes_after_the_end_cancels_nothing(serve, dial):
    go, tidied = asyncio.Event(), asyncio.Event()

    async def handler(exchange):
        exchange.reply(200, b"{}")
        await go.wait()
        tidied.set()

    running = await serve(handler)
    raw = await dial(running.port)
    raw.send(GET + b"connection: close\r\n\r\n")
    assert (await raw.reply()).status == 200
    assert await raw.rest() == b""  # closed although the handler still runs
    go.set()
    await happens(tidied)
    await running.emptied()


async def test_a_slow_reader_holds_back_the_writer(serve, dial):
    stuck = asyncio.Event()
    written = []

    async def handler(exchange):
        exchange.start(200, ())
        sink = exchange._sink
        for _ in range(400):
            writing = asyncio.ensure_future(exchange.write(b"x" * 65536))
            await asyncio.sleep(0)
            if not writing.done():
                written.append(sink._transport.get_write_buffer_size())
                stuck.set()
            await writing
        exchange.end()

    running = await serve(handler, write_buffer_bytes_max=100_000)
    raw = await dial(running.port)
    raw.send(GET + b"connection: close\r\n\r\n")
    await happens(stuck)
    assert (await raw.head()).status == 200
    assert len(await raw.rest()) > 400 * 65536
    assert max(written) <= 100_000 + 65536 + 100


async def test_a_client_that_never_reads_is_cut(serve, dial):
    cancelled = asyncio.Event()

    async def handler(exchange):
        exchange.start(200, ())
        try:
            while True:
                await exchange.write(b"x" * 65536)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    running = await serve(handler, write_s_max=0.05)
    raw = await dial(running.port)
    raw.send(GET + b"\r\n")
    await happens(cancelled)
    await running.emptied()


# The handler fails


async def test_a_handler_that_raises_before_its_head(serve, dial):
    async def handler(exchange):
        raise KeyError("secret")

    running = await serve(handler)
    raw = await dial(running.port)
    for _ in range(2):  # the connection stays
        raw.send(GET + b"\r\n")
        reply = await raw.reply()
        assert reply.status == 500
        assert b"secret" not in reply.body
    assert [type(crash) for crash in running.crashes] == [KeyError] * 2


async def raises_midway(exchange):
    exchange.start(200, ())
    await exchange.write(b"one")
    raise KeyError("secret")


async def returns_midway(exchange):
    exchange.start(200, ())
    await exchange.write(b"one")


async def aborts_midway(exchange):
    exchange.start(200, ())
    await exchange.write(b"one")
    exchange.abort()
    exchange.abort()


@pytest.mark.parametrize(
    ("handler", "crashes"), [(raises_midway, 1), (returns_midway, 1), (aborts_midway, 0)]
)
async def test_a_reply_left_unfinished_is_seen_to_be(serve, dial, handler, crashes):
    running = await serve(handler)
    raw = await dial(running.port)
    raw.send(GET + b"\r\n")
    await raw.head()
    assert await raw.rest() == b"3\r\none\r\n"  # and no last chunk
    await running.emptied()
    assert len(running.crashes) == crashes


async def test_an_aborted_http_1_0_reply_is_reset(serve, dial):
    running = await serve(aborts_midway)
    raw = await dial(running.port)
    raw.send(b"GET / HTTP/1.0\r\n\r\n")
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(raw.reader.read(), PATIENCE_S)


async def test_a_handler_that_says_nothing(serve, dial):
    async def handler(exchange):
        assert not exchange.started

    running = await serve(handler)
    raw = await dial(running.port)
    raw.send(GET + b"\r\n")
    assert (await raw.reply()).status == 500
    assert "without an end" in str(running.crashes[0])


async def test_misuse_is_told_to_the_handler(serve, dial):
    async def handler(exchange):
        for break_in in (b"a\r\nx: y", b"a\n", b"a\0"):
            with pytest.raises(ValueError, match="CR, LF or NUL"):
                exchange.reply(200, b"", headers=((b"x", break_in),))
        for too_early in (exchange.end, lambda: asyncio.ensure_future(exchange.write(b"x"))):
            with pytest.raises(RuntimeError, match="was not started"):
                await too_early()
        exchange.start(200, ())
        with pytest.raises(RuntimeError, match="was started"):
            exchange.reply(200, b"")
        exchange.end()
        assert exchange.ended
        with pytest.raises(RuntimeError, match="has ended"):
            exchange.end()

    running = await serve(handler)
    raw = await dial(running.port)
    raw.send(GET + b"connection: close\r\n\r\n")
    assert (await raw.rest()).endswith(b"\r\n\r\n0\r\n\r\n")
    assert running.crashes == []


# The end


async def test_close_lets_exchanges_end_and_closes_the_idle(serve, dial):
    held = Held(b"one")
    running = await serve(held)
    idle, busy = await dial(running.port), await dial(running.port)
    busy.send(GET + b"\r\n" + GET + b"\r\n")
    await happens(held.begun)
    closing = asyncio.create_task(running.server.close(grace_s=PATIENCE_S))
    assert await idle.rest() == b""
    assert not closing.done()
    with pytest.raises(ConnectionRefusedError):
        await dial(running.port)
    held.go.set()
    assert (await busy.rest()).endswith(b"0\r\n\r\n")
    async with asyncio.timeout(PATIENCE_S):
        await closing
    assert held.runs == 1  # what was sent ahead is not begun


async def test_close_says_so_to_who_is_waiting(serve, dial):
    held = Held()
    running = await serve(held)
    raw = await dial(running.port)
    raw.send(GET + b"\r\n")
    await happens(held.begun)
    closing = asyncio.create_task(running.server.close(grace_s=PATIENCE_S))
    await asyncio.sleep(0)
    held.go.set()
    assert (await raw.reply()).headers["connection"] == "close"
    await closing


async def test_close_cuts_what_does_not_end(serve, dial):
    held = Held(b"one")
    running = await serve(held)
    raw = await dial(running.port)
    raw.send(GET + b"\r\n")
    await happens(held.begun)
    await running.server.close(grace_s=0.01)
    assert held.cancelled.is_set()
    assert not (await raw.rest()).endswith(b"0\r\n\r\n")
    assert (running.server.connections, running.crashes) == (0, [])


async def test_a_taken_port_is_an_oserror(serve):
    running = await serve(echo)
    second = HttpServer(echo)
    with pytest.raises(OSError, match="in use"):
        await second.start("127.0.0.1", running.port)
    await second.close()


async def test_peer(serve, dial):
    async def handler(exchange):
        exchange.reply(200, exchange.peer.encode(), "text/plain")

    raw = await dial((await serve(handler)).port)
    raw.send(GET + b"\r\n")
    host, port = raw.writer.get_extra_info("sockname")
    assert (await raw.reply()).body.decode() == f"{host}:{port}"
