"""The client against scripted servers, and against our own."""

import asyncio
import ssl

import pytest

from isochrone.ports.errors import UpstreamError
from isochrone.relay import Exchange

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED = (
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n"
    b"3;e=1\r\none\r\na\r\n0123456789\r\n0\r\nX-Took: 5\r\nX-More: 6 \r\n\r\n"
)
PATIENCE_S = 3.0


def always(reply: bytes):
    """A script that answers each request with the same bytes."""

    async def script(raw):
        while True:
            await raw.reader.readuntil(b"\r\n\r\n")
            raw.send(reply)

    return script


def once(reply: bytes):
    """A script that answers one request and closes."""

    async def script(raw):
        await raw.reader.readuntil(b"\r\n\r\n")
        raw.send(reply)
        await raw.writer.drain()
        raw.writer.close()
        await raw.writer.wait_closed()

    return script


async def soon(awaitable):
    async with asyncio.timeout(PATIENCE_S):
        return await awaitable


async def fails(response_or_request) -> str:
    with pytest.raises(UpstreamError) as caught:
        await soon(response_or_request)
    return str(caught.value)


# Requests


async def test_request_bytes(upstream, client):
    seen = []

    async def script(raw):
        while True:
            head = await raw.reader.readuntil(b"\r\n\r\n")
            length = 4 if b"content-length: 4" in head else 0
            seen.append(head + await raw.reader.readexactly(length))
            raw.send(OK)

    up = await upstream(script)
    given = ((b"te", b"trailers"), (b"connection", b"close"), (b"transfer-encoding", b"x"))
    await (await client.request("GET", up.url, given)).read()
    await (await client.request("POST", f"http://u:p@localhost:{up.port}/a%20b?c=d#e")).read()
    await (await client.request("POST", up.url + "/x", ((b"host", b"h"),), b"body")).read()
    assert seen == [
        b"GET / HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nte: trailers\r\n\r\n" % up.port,
        b"POST /a%%20b?c=d HTTP/1.1\r\nhost: localhost:%d\r\ncontent-length: 0\r\n\r\n" % up.port,
        b"POST /x HTTP/1.1\r\ncontent-length: 4\r\nhost: h\r\n\r\nbody",
    ]


@pytest.mark.parametrize(
    "url",
    ["ftp://h/", "//h/", "h:80", "http:///x", "http://h:x/", "http://h/a b", "http://h/\xe9", "http://[x/"],
)
async def test_bad_urls(client, url):
    assert "is no http or https URL" in await fails(client.request("GET", url))


async def test_headers_can_not_break_out(client):
    with pytest.raises(ValueError, match="CR, LF or NUL"):
        await client.request("GET", "http://127.0.0.1:1/", ((b"x", b"a\r\ny: b"),))
    with pytest.raises(ValueError, match="CR, LF or NUL"):
        await client.request("GET / HTTP/1.1\r\nx: y\r\n\r\nGET", "http://127.0.0.1:1/")


# Framing of replies


async def test_chunked_reply_with_trailers_split_at_every_byte(upstream, client):
    async def script(raw):
        await raw.reader.readuntil(b"\r\n\r\n")
        for at in range(len(CHUNKED)):
            raw.send(CHUNKED[at : at + 1])
            await asyncio.sleep(0)
        await raw.reader.read()

    up = await upstream(script)
    response = await soon(client.request("GET", up.url))
    assert (response.status, response.header(b"x-a"), response.reused) == (200, b"b", False)
    assert response.headers == ((b"transfer-encoding", b"chunked"), (b"x-a", b"b"))
    assert await soon(response.read()) == b"one0123456789"
    assert response.trailers == ((b"x-took", b"5"), (b"x-more", b"6"))
    assert client.idle == 1


@pytest.mark.parametrize(
    ("method", "reply", "body", "kept"),
    [
        ("GET", OK, b"ok", True),
        ("GET", CHUNKED, b"one0123456789", True),
        ("GET", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", b"", True),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
        ("GET", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", b"", True),
        ("HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", b"", True),
        ("GET", b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", b"ok", False),
        ("GET", b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", b"ok", False),
        ("GET", OK + OK, b"ok", False),
        ("GET", OK + b"rubbish", b"ok", False),
        ("HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", b"", False),
    ],
)
async def test_ends_of_replies(upstream, client, method, reply, body, kept):  # noqa: PLR0917
    up = await upstream(always(reply))
    for nth in range(2):
        response = await soon(client.request(method, up.url))
        assert response.reused is (kept and nth == 1)
        assert (response.connect_ms > 0) is not response.reused
        assert await soon(response.read()) == body
        response.close()
    assert client.idle == kept
    assert up.connections == (1 if kept else 2)


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 200 OK\r\nx: y\r\n\r\n"])
async def test_a_reply_that_ends_with_the_connection(upstream, client, head):
    up = await upstream(once(head + b"all there is"))
    response = await soon(client.request("GET", up.url))
    assert await soon(response.read()) == b"all there is"
    assert client.idle == 0


# What goes wrong


@pytest.mark.parametrize(
    "reply",
    [
        b"rubbish",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\nx: y\n\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
    ],
)
async def test_what_is_no_reply(upstream, client, reply):
    up = await upstream(always(reply))
    told = await fails(client.request("GET", up.url))
    assert told.startswith(f"127.0.0.1:{up.port} sent what is no HTTP/1.1 reply: ")
    assert client.idle == 0


async def test_endless_heads_are_refused(upstream, client_of):
    async def script(raw):
        await raw.reader.readuntil(b"\r\n\r\n")
        while True:
            raw.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 10)
            await raw.writer.drain()

    up = await upstream(script)
    told = await fails(client_of(head_bytes_max=1000).request("GET", up.url))
    assert "is longer than 1000 bytes" in told


@pytest.mark.parametrize("reply", [b"", b"HTTP/1.1 20", b"HTTP/1.1 200 OK\r\nx: y\r\n"])
async def test_a_connection_that_ends_before_the_head(upstream, client, reply):
    up = await upstream(once(reply))
    told = await fails(client.request("GET", up.url))
    assert told == f"127.0.0.1:{up.port} broke off " + (
        "in the middle of its reply" if reply else "before its reply"
    )


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nok",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n",
    ],
)
async def test_a_truncated_body(upstream, client, reply):
    up = await upstream(once(reply))
    response = await soon(client.request("GET", up.url))
    got = []

    async def collect():
        async for piece in response:
            got.append(piece)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(UpstreamError, match="broke off in the middle of its reply"):
        await soon(collect())
    assert b"".join(got) == b"ok"
    assert client.connections == 0


async def test_a_body_that_is_no_longer_http(upstream, client):
    up = await upstream(always(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\nrubbish"))
    response = await soon(client.request("GET", up.url))
    assert "is no HTTP/1.1" in await fails(response.read())


async def test_nobody_there(client, serve):
    running = await serve(lambda exchange: None)
    await running.server.close()
    told = await fails(client.request("GET", running.url))
    assert told.startswith(f"127.0.0.1:{running.port} can't be reached")


async def test_a_long_body_is_not_read_whole(upstream, client_of):
    up = await upstream(always(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n" + b"x" * 100))
    client = client_of(body_bytes_max=99)
    response = await soon(client.request("GET", up.url))
    assert "more than the 99 bytes" in await fails(response.read())


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


# Both ends ours


async def test_relay_through_ourselves(serve, client):
    async def tokens(exchange: Exchange) -> None:
        exchange.start(200, ())
        for n in range(50):
            await exchange.write(b"data: %d\n\n" % n)
        exchange.end(((b"x-tokens", b"50"),))

    async def gateway(exchange: Exchange) -> None:
        inner = await client.request("POST", node.url, ((b"te", b"trailers"),), exchange.body)
        exchange.start(inner.status, inner.headers)
        async for piece in inner:
            await exchange.write(piece)
        exchange.end(inner.trailers)

    node, front = await serve(tokens), await serve(gateway)
    for _ in range(3):
        outer = await soon(client.request("POST", front.url, ((b"te", b"trailers"),), b"{}"))
        assert await soon(outer.read()) == b"".join(b"data: %d\n\n" % n for n in range(50))
        assert outer.trailers == ((b"x-tokens", b"50"),)
    assert (node.server.connections, front.server.connections, client.idle) == (1, 1, 2)
    assert node.crashes == front.crashes == []


async def test_leaving_the_gateway_frees_the_node(serve, client):
    freed = asyncio.Event()

    async def node_handler(exchange: Exchange) -> None:
        exchange.start(200, ())
        await exchange.write(b"one")
        try:
            await asyncio.Event().wait()
        finally:
            freed.set()

    async def gateway(exchange: Exchange) -> None:
        inner = await client.request("GET", node.url)
        exchange.start(200, ())
        async for piece in inner:
            await exchange.write(piece)

    node, front = await serve(node_handler), await serve(gateway)
    outer = await soon(client.request("GET", front.url))
    assert await soon(anext(outer)) == b"one"
    outer.close()
    await soon(freed.wait())
    await soon(node.emptied())
    assert client.connections == 0


async def test_an_aborted_reply_is_an_upstream_error(serve, client):
    async def handler(exchange: Exchange) -> None:
        exchange.start(200, ())
        await exchange.write(b"one")
        exchange.abort()

    running = await serve(handler)
    response = await soon(client.request("GET", running.url))
    assert await soon(anext(response)) == b"one"
    assert "broke off in the middle" in await fails(anext(response))


async def test_tls_needs_a_certificate_that_we_trust(serve, client):
    running = await serve(lambda exchange: None)
    told = await fails(client.request("GET", running.url.replace("http", "https")))
    assert "can't be reached" in told
    assert client._tls.verify_mode is ssl.CERT_REQUIRED
