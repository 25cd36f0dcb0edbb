"""The client's connections: kept, replaced, bounded, and cut when their reader leaves."""

import asyncio
import select

import pytest
from client_nouns import OK, PATIENCE_S, always, fails, once, soon

# The pool


async def test_a_stale_connection_is_replaced_once(upstream, client):
    async def script(raw):
        await raw.reader.readuntil(b"\r\n\r\n")
        raw.send(OK)
        await raw.reader.readuntil(b"\r\n\r\n")
        if up.connections == 2:
            raw.send(b"HTTP/1.1 2")

    up = await upstream(script)
    for _ in range(2):
        response = await soon(client.request("POST", up.url))
        assert not response.reused
        assert await soon(response.read()) == b"ok"
    assert up.connections == 2
    assert "in the middle of its reply" in await fails(
        client.request("GET", up.url)
    )  # it had begun: no retry
    assert up.connections == 2


async def test_what_is_done_meanwhile_is_done_once_with_the_request_on_its_way(upstream, client):
    files, seen = [], []

    async def script(raw):
        files.append(raw.writer.get_extra_info("socket").fileno())
        await always(OK)(raw)

    def meanwhile():
        readable, _, _ = select.select(files, [], [], 0)
        seen.append(bool(readable))

    up = await upstream(script)
    for _ in range(2):
        await (await soon(client.request("GET", up.url, meanwhile=meanwhile))).read()
    assert seen == [False, True]  # the first had to connect, and does not wait for that


async def test_what_is_done_meanwhile_is_done_also_when_nobody_is_there(client):
    done = []
    await fails(client.request("GET", "http://127.0.0.1:9", meanwhile=lambda: done.append(1)))
    assert done == [1]


async def test_an_idle_connection_that_the_server_closes_is_dropped(upstream, client):
    close, gone = asyncio.Event(), asyncio.Event()

    async def script(raw):
        await raw.reader.readuntil(b"\r\n\r\n")
        raw.send(OK)
        await close.wait()
        raw.writer.write_eof()
        await raw.reader.read()
        gone.set()

    up = await upstream(script)
    await (await soon(client.request("GET", up.url))).read()
    assert client.idle == 1
    close.set()
    await soon(gone.wait())
    assert (client.idle, client.connections) == (0, 0)


async def test_an_idle_connection_on_which_the_server_speaks_is_dropped(upstream, client):
    up = await upstream(once(OK + OK[:9]))
    await (await soon(client.request("GET", up.url))).read()
    assert client.idle == 0


async def test_idle_connections_are_bounded_in_number_and_time(upstream, client_of):
    up = await upstream(always(OK))
    client = client_of(idle_per_origin_max=2, idle_s_max=0.1)
    responses = await asyncio.gather(*(client.request("GET", up.url) for _ in range(5)))
    for response in responses:
        assert await soon(response.read()) == b"ok"
    assert client.idle == 2
    await soon(client._pool.empty.wait())
    assert client._pool._idle == {}


async def test_origins_do_not_share_connections(upstream, client):
    ups = [await upstream(always(OK)) for _ in range(2)]
    for up in ups * 2:
        await (await soon(client.request("GET", up.url))).read()
    assert [up.connections for up in ups] == [1, 1]
    assert client.idle == 2


# Leaving


async def stalling(raw):
    """Sends a head and a token, then nothing, until the client has gone."""
    await raw.reader.readuntil(b"\r\n\r\n")
    raw.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n")
    await raw.reader.read()


async def test_close_before_the_end_cuts_the_connection(upstream, client):
    up = await upstream(stalling)
    response = await soon(client.request("GET", up.url))
    response.close()
    response.close()
    await soon(asyncio.gather(*up.tasks))
    assert (client.idle, client.connections) == (0, 0)
    assert "was left" in await fails(response.read())


async def test_cancelled_iteration_cuts_the_connection(upstream, client):
    up = await upstream(stalling)
    response = await soon(client.request("GET", up.url))
    assert await soon(anext(response)) == b"one"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await anext(response)
    await soon(asyncio.gather(*up.tasks))
    assert client.connections == 0


async def test_cancelled_request_cuts_the_connection(upstream, client):
    asked = asyncio.Event()

    async def script(raw):
        await raw.reader.readuntil(b"\r\n\r\n")
        asked.set()
        await raw.reader.read()

    up = await upstream(script)
    request = asyncio.create_task(client.request("GET", up.url))
    await soon(asked.wait())
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    await soon(asyncio.gather(*up.tasks))
    assert client.connections == 0


async def test_closing_the_client_fails_who_still_reads(upstream, client):
    up = await upstream(once(b""))
    up.script = stalling_until_eof
    response = await soon(client.request("GET", up.url))
    assert await soon(anext(response)) == b"one"
    await client.close()
    assert "by this side" in await fails(anext(response))
    assert "the client is closed" in await fails(client.request("GET", up.url))


async def stalling_until_eof(raw):
    await raw.reader.readuntil(b"\r\n\r\n")
    raw.send(b"HTTP/1.1 200 OK\r\n\r\none")
    await raw.reader.read()


async def test_a_slow_consumer_holds_back_the_server(upstream, client_of):
    total = 12_000_000

    async def script(raw):
        await raw.reader.readuntil(b"\r\n\r\n")
        raw.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
        for _ in range(total // 60_000):
            raw.send(b"x" * 60_000)
            await raw.writer.drain()
        await raw.reader.read()

    up = await upstream(script)
    client = client_of(read_buffer_bytes_max=100_000)
    response = await soon(client.request("GET", up.url))
    async with asyncio.timeout(PATIENCE_S):
        while response._link._transport.is_reading():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
    most = got = 0
    async for piece in response:
        got += len(piece)
        most = max(most, len(piece))
        await asyncio.sleep(0)
    assert got == total
    assert most <= 100_000 + 256 * 1024
    assert client.idle == 1


@pytest.mark.parametrize("turns", range(12))
async def test_who_gives_up_while_it_connects_leaves_nothing_behind(upstream, client, turns):
    """uvloop tells nobody of a connection that it closes while it is being made."""

    async def silent(raw):
        await raw.reader.read()

    up = await upstream(silent)
    for _ in range(10):
        asking = asyncio.create_task(client.request("GET", up.url))
        for _ in range(turns):
            await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    async with asyncio.timeout(3):
        while client.connections:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)


async def test_who_leaves_in_the_middle_is_seen_to_leave(upstream, client):
    """By a reset: the end of our side alone would be for the server to wonder about."""
    how = asyncio.get_running_loop().create_future()

    async def script(raw):
        await raw.reader.readuntil(b"\r\n\r\n")
        raw.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")
        try:
            how.set_result(await raw.reader.read())
        except ConnectionResetError as error:
            how.set_result(error)

    up = await upstream(script)
    response = await soon(client.request("GET", up.url))
    assert await soon(anext(response)) == b"half"
    response.close()
    assert isinstance(await soon(how), ConnectionResetError)
