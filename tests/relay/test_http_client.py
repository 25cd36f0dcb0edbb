"""The client against scripted servers: requests, replies and what is none."""

import asyncio

import pytest
from client_nouns import OK, always, fails, once, soon

from isochrone.ports.errors import UpstreamError

CHUNKED = (
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n"
    b"3;e=1\r\none\r\na\r\n0123456789\r\n0\r\nX-Took: 5\r\nX-More: 6 \r\n\r\n"
)


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
        ("GET", CHUNKED.replace(b"HTTP/1.1 200", b"HTTP/1.0 200"), b"one0123456789", False),
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
        b"HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/0.9 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 099 OK\r\ncontent-length: 3\r\n\r\nabc" + OK,
        b"HTTP/1.1 000 OK\r\ncontent-length: 3\r\n\r\nabc" + OK,
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
