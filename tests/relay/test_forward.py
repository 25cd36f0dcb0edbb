"""`Response.forward`: a body handed on as it arrives, without a task for each piece."""

import asyncio

import pytest
from client_nouns import soon

from isochrone.ports.errors import UpstreamError

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def piece(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Taker:
    """Keeps what it is given; after each byte string in `full` it wants no more until it is `freed`."""

    def __init__(self, *full: bytes) -> None:
        self.taken: list[bytes] = []
        self.waiting, self.freed = asyncio.Event(), asyncio.Event()
        self._full = full

    def take(self, data: bytes) -> bool:
        self.taken.append(data)
        return data not in self._full

    async def drained(self) -> None:
        self.waiting.set()
        await self.freed.wait()


def speaks(*pieces: bytes, after: asyncio.Event | None = None):
    """A script: the head and the first piece, then the others, `after` something if told."""

    async def script(raw):
        await raw.reader.readuntil(b"\r\n\r\n")
        raw.send(HEAD + pieces[0])
        if after is not None:
            await after.wait()
        for more in pieces[1:]:
            raw.send(more)
        await raw.reader.read()

    return script


async def test_each_piece_is_handed_on_and_the_end_is_told(upstream, client):
    up = await upstream(speaks(piece(b"one"), piece(b"two"), piece(b"three"), b"0\r\nx-took: 5\r\n\r\n"))
    response = await soon(client.request("GET", up.url))
    taker = Taker()
    await soon(response.forward(taker.take, taker.drained))
    assert b"".join(taker.taken) == b"onetwothree"
    assert response.complete
    assert response.trailers == ((b"x-took", b"5"),)


async def test_a_taker_that_is_full_gets_nothing_until_it_has_room(upstream, client):
    up = await upstream(speaks(piece(b"one"), piece(b"two"), b"0\r\n\r\n"))
    response = await soon(client.request("GET", up.url))
    taker = Taker(b"one", b"onetwo")
    forwarding = asyncio.create_task(response.forward(taker.take, taker.drained))
    await soon(taker.waiting.wait())
    while not response.complete:  # noqa: ASYNC110 - the rest arrives meanwhile
        await asyncio.sleep(0)
    before = list(taker.taken)
    assert before in ([b"one"], [b"onetwo"])
    taker.freed.set()
    await soon(forwarding)
    assert b"".join(taker.taken) == b"onetwo"


async def test_a_taker_that_fills_up_later_is_waited_for_too(upstream, client):
    begun = asyncio.Event()
    up = await upstream(speaks(piece(b"one"), piece(b"two"), b"0\r\n\r\n", after=begun))
    response = await soon(client.request("GET", up.url))
    taker = Taker(b"two")
    forwarding = asyncio.create_task(response.forward(taker.take, taker.drained))
    while taker.taken != [b"one"]:  # noqa: ASYNC110 - the task's doing
        await asyncio.sleep(0)
    begun.set()
    await soon(taker.waiting.wait())
    assert not forwarding.done()
    taker.freed.set()
    await soon(forwarding)
    assert taker.taken == [b"one", b"two"]


async def test_a_server_that_breaks_off_is_an_error_after_what_it_sent(upstream, client):
    async def script(raw):
        await raw.reader.readuntil(b"\r\n\r\n")
        raw.send(HEAD + piece(b"one"))
        await raw.writer.drain()
        raw.writer.close()
        await raw.writer.wait_closed()

    response = await soon(client.request("GET", (await upstream(script)).url))
    taker = Taker()
    with pytest.raises(UpstreamError, match="broke off in the middle"):
        await soon(response.forward(taker.take, taker.drained))
    assert taker.taken == [b"one"]


async def test_who_gives_up_cuts_the_connection(upstream, client):
    response = await soon(client.request("GET", (await upstream(speaks(piece(b"one")))).url))
    taker = Taker()
    forwarding = asyncio.create_task(response.forward(taker.take, taker.drained))
    while not taker.taken:  # noqa: ASYNC110 - the task's doing
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    forwarding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(forwarding)
    assert client.idle == 0
