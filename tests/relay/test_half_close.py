"""A client that has ended its own side: it still reads, or it has left, and which of the two is found out."""

import asyncio
import socket

import h11
import pytest
from server_nouns import GET, Held, echo, happens

from isochrone.relay import Exchange, half_close


def replies(raw: bytes, count: int) -> list[tuple[int, bytes]]:
    """(status, body) of each final reply in `raw`, as h11 reads them; `raw` must hold no more."""
    told = []
    ours = h11.Connection(h11.CLIENT)
    ours.receive_data(raw)
    ours.receive_data(b"")
    for _ in range(count):
        ours.send(h11.Request(method="GET", target="/", headers=[("host", "a")]))
        ours.send(h11.EndOfMessage())
        status, body = 0, b""
        while not isinstance(event := ours.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
        told.append((status, body))
        if len(told) < count:
            ours.start_next_cycle()
    assert not ours.trailing_data[0]
    return told


async def eof_seen(running) -> None:
    """Wait until the server has noticed that the client ended its side."""
    (connection,) = running.server._service.connections
    async with asyncio.timeout(3):
        while connection._watch is None:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)


async def half_closed(server, raw, held: Held, request: bytes = GET + b"\r\n") -> None:
    """Ask, end our side, and wait until both the handler and the server know."""
    raw.send(request)
    raw.writer.write_eof()
    await happens(held.begun)
    await eof_seen(server)


@pytest.mark.parametrize("first", [None, b"token"])
async def test_who_only_ends_its_side_gets_the_answer(serve, dial, first):
    held = Held(first)
    running = await serve(held)
    raw = await dial(running.port)
    await half_closed(running, raw, held)
    held.go.set()
    assert replies(await raw.rest(), 1) == [(200, first or b"{}")]
    await running.emptied()
    assert running.crashes == []


async def test_all_requests_sent_before_the_end_are_answered_in_order(serve, dial):
    async def paths(exchange: Exchange) -> None:
        await asyncio.sleep(0)
        exchange.reply(200, exchange.path.encode())

    running = await serve(paths)
    raw = await dial(running.port)
    raw.send(b"".join(b"GET /%d HTTP/1.1\r\nhost: a\r\n\r\n" % n for n in range(5)))
    raw.writer.write_eof()
    data = await raw.rest()
    assert replies(data, 5) == [(200, b"/%d" % n) for n in range(5)]
    assert data.count(b"connection: close") == 1  # the last one says that it is
    await running.emptied()


async def test_a_request_cut_short_is_not_answered(serve, dial):
    running = await serve(echo)
    raw = await dial(running.port)
    raw.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf")
    raw.writer.write_eof()
    assert await raw.rest() == b""
    await running.emptied()


@pytest.mark.parametrize("first", [None, b"token"])
async def test_who_leaves_after_ending_its_side_is_found_out(serve, dial, monkeypatch, first):
    monkeypatch.setattr(half_close, "_PROVOKE_S", 0.01)
    held = Held(first)
    running = await serve(held)
    raw = await dial(running.port)
    await half_closed(running, raw, held)
    raw.writer.close()
    await happens(held.cancelled)
    await running.emptied()


async def test_on_http_1_0_it_can_not_be_told_before_the_reply(serve, dial):
    held = Held()
    running = await serve(held)
    raw = await dial(running.port)
    raw.send(b"GET / HTTP/1.0\r\n\r\n")
    raw.writer.write_eof()
    await happens(held.cancelled)
    assert await raw.rest() == b""


async def test_on_http_1_0_a_stream_under_way_goes_on(serve, dial):
    held = Held(b"token")
    running = await serve(held)
    raw = await dial(running.port)
    raw.send(b"GET / HTTP/1.0\r\n\r\n")
    await raw.head()
    raw.writer.write_eof()
    await eof_seen(running)
    held.go.set()
    assert await raw.rest() == b"token"  # and no zero among it


async def test_nudges_before_one_chunk_are_bounded_and_read_as_nothing(serve, dial):
    begun, go = asyncio.Event(), asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        exchange.start(200, ())
        await exchange.write(b"one")
        for _ in range(20):
            exchange.nudge()
        begun.set()
        await go.wait()
        await exchange.write(b"two")
        exchange.end()

    running = await serve(handler)
    raw = await dial(running.port)
    raw.send(GET + b"connection: close\r\n\r\n")
    await happens(begun)
    go.set()
    data = await raw.rest()
    assert b"\r\n000000003\r\ntwo\r\n0\r\n\r\n" in data
    assert replies(data, 1) == [(200, b"onetwo")]


async def test_who_acknowledges_nothing_is_given_up_where_the_system_can_tell(serve, dial):
    if not hasattr(socket, "TCP_USER_TIMEOUT"):
        pytest.skip("this system has no TCP_USER_TIMEOUT")
    held = Held()
    running = await serve(held, write_s_max=7.0)
    raw = await dial(running.port)
    await half_closed(running, raw, held)
    (connection,) = running.server._service.connections
    sock = connection._transport.get_extra_info("socket")
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000
    held.go.set()
    await raw.rest()


async def test_a_refusal_after_the_end_of_its_side_need_not_wait_for_more(serve, dial):
    held = Held()
    running = await serve(held, linger_s_max=1000.0)
    raw = await dial(running.port)
    await half_closed(running, raw, held, GET + b"\r\nrubbish\r\n\r\n")
    held.go.set()
    assert b"HTTP/1.1 400 " in await raw.rest()
    await running.emptied()
