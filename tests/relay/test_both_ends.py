"""Our client against our server."""

import asyncio
import gc
import ssl

from client_nouns import fails, soon

from isochrone.relay import Exchange


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


async def test_an_exchange_leaves_no_cycles_behind(serve, client):
    """They would have Python look through all young objects again and again, while answers wait."""

    async def whole(exchange: Exchange) -> None:
        exchange.reply(200, exchange.body)

    async def ask() -> None:
        response = await client.request("POST", node.url, (), b"{}")
        assert await response.read() == b"{}"
        response.close()

    node = await serve(whole)
    await soon(ask())
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            await soon(ask())
        assert gc.collect() < 20
    finally:
        gc.enable()
