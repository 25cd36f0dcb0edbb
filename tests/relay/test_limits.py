"""Every bound of the server: its default, and what happens at it to a client that takes its time."""

import asyncio
import dataclasses
import json

import pytest
from server_nouns import GET, Held, echo, happens

from isochrone.relay import ServerLimits

DEFAULTS = {
    "head_bytes_max": 32 * 1024,
    "headers_max": 100,
    "body_bytes_max": 8 * 1024 * 1024,
    "head_s_max": 10.0,
    "body_s_max": 60.0,
    "idle_s_max": 75.0,
    "write_s_max": 60.0,
    "linger_s_max": 2.0,
    "connections_max": 4096,
    "connections_per_client_max": 4096,
    "write_buffer_bytes_max": 256 * 1024,
    "read_ahead_bytes_max": 64 * 1024,
    "pipelined_max": 64,
}


def test_defaults():
    assert dataclasses.asdict(ServerLimits()) == DEFAULTS


@pytest.mark.parametrize("limit", DEFAULTS)
def test_every_limit_says_what_happens_beyond_it(limit):
    assert f"        {limit}: " in (ServerLimits.__doc__ or "")


@pytest.mark.parametrize(
    ("start", "limit"),
    [
        (b"GET /", {"head_s_max": 0.05}),
        (GET + b"x: ", {"head_s_max": 0.05}),
        (GET + b"content-length: 8000000\r\n\r\n", {"body_s_max": 0.05}),
        (GET + b"transfer-encoding: chunked\r\n\r\n7a1200\r\n", {"body_s_max": 0.05}),
        (GET + b"transfer-encoding: chunked\r\n\r\n0\r\nx: ", {"body_s_max": 0.05}),
    ],
)
async def test_a_byte_now_and_then_buys_no_time(serve, dial, start, limit):
    """Slow loris: the clock of a head or a body begins with its first byte and stops with its last."""
    running = await serve(echo, head_bytes_max=10_000_000, **limit)
    raw = await dial(running.port)
    raw.send(start)

    async def trickle() -> None:
        while True:
            raw.send(b"1")
            await asyncio.sleep(0)

    trickling = asyncio.create_task(trickle())
    reply = await raw.reply()
    trickling.cancel()
    assert reply.status == 408
    assert "took too long" in json.loads(reply.body)["error"]["message"]
    raw.vanish()
    await running.emptied()


async def test_each_client_has_its_own_share_of_connections(serve, dial):
    running = await serve(echo, connections_per_client_max=2)
    kept = [await dial(running.port) for _ in range(2)]
    for raw in kept:
        raw.send(GET + b"\r\n")
        assert (await raw.reply()).status == 200
    refused = await dial(running.port)
    reply = await refused.reply()
    assert reply.status == 429
    assert "from 127.0.0.1: it may have 2" in json.loads(reply.body)["error"]["message"]
    other = await asyncio.open_connection("127.0.0.1", running.port, local_addr=("127.0.0.2", 0))
    other[1].write(GET + b"connection: close\r\n\r\n")
    assert (await other[0].read()).startswith(b"HTTP/1.1 200")
    other[1].close()
    kept[0].vanish()
    assert await refused.rest() == b""
    async with asyncio.timeout(3):
        while running.server.connections > 1:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
    again = await dial(running.port)
    again.send(GET + b"\r\n")
    assert (await again.reply()).status == 200


async def test_a_client_counts_until_its_handler_has_ended(serve, dial):
    go = asyncio.Event()
    begun = asyncio.Event()

    async def stubborn(exchange):
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await go.wait()

    running = await serve(stubborn, connections_per_client_max=1)
    raw = await dial(running.port)
    raw.send(GET + b"\r\n")
    await happens(begun)
    raw.vanish()
    assert (await (await dial(running.port)).reply()).status == 429
    go.set()
    await running.emptied()
    assert not running.server._service.of_clients


async def test_what_waits_for_a_reply_is_bounded(serve, dial):
    """A thousand requests sent ahead: those within the bound are answered, then it is said why no more."""
    held = Held()
    running = await serve(held, pipelined_max=3)
    raw = await dial(running.port)
    raw.send((GET + b"\r\n") * 1000)
    await happens(held.begun)
    held.go.set()
    assert [(await raw.reply()).status for _ in range(4)] == [200, 200, 200, 503]
