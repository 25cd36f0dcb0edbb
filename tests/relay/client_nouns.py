"""Scripts for servers, and how to wait for what a client does."""

import asyncio

import pytest

from isochrone.ports.errors import UpstreamError

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
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
