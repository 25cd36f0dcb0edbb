"""How exchanges end on real sockets: by the client, by the handler, and with the server."""

import asyncio

import pytest
from server_nouns import GET, PATIENCE_S, Held, echo, happens

from isochrone.relay import HttpServer

# The client goes


@pytest.mark.parametrize("first", [None, b"token"])
@pytest.mark.parametrize("how", ["reset", "close"])
async def test_a_client_that_goes_cancels_the_handler(serve, dial, first, how):
    held = Held(first)
    running = await serve(held)
    raw = await dial(running.port)
    raw.send(GET + b"\r\n" + GET + b"\r\n")
    await happens(held.begun)
    if how == "reset":
        raw.vanish()
    else:
        raw.writer.close()
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
