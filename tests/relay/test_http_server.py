"""The server on real sockets: framing and limits."""

import asyncio
import json

import pytest
from server_nouns import GET, PATIENCE_S, Held, echo, happens

from isochrone.relay import Exchange


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


async def test_a_head_leaves_with_an_empty_piece_before_any_other(serve, dial):
    async def handler(exchange):
        exchange.start(200, ())
        exchange.push(b"")
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
