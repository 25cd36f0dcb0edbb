"""Handlers for the server's tests, and how to wait for them."""

import asyncio
import json

from isochrone.relay import Exchange

GET = b"GET / HTTP/1.1\r\nhost: a\r\n"
PATIENCE_S = 3.0


async def echo(exchange: Exchange) -> None:
    told = {"method": exchange.method, "path": exchange.path, "body": exchange.body.decode()}
    exchange.reply(200, json.dumps(told).encode())


class Held:
    """A handler that says when it has begun and how it ended, and goes on when told."""

    def __init__(self, first: bytes | None = None):
        self.first = first
        self.begun, self.go, self.cancelled, self.finished = (asyncio.Event() for _ in range(4))
        self.runs = 0

    async def __call__(self, exchange: Exchange) -> None:
        self.runs += 1
        self.begun.set()
        try:
            if self.first is not None:
                exchange.start(200, ())
                await exchange.write(self.first)
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        if exchange.started:
            exchange.end()
        else:
            exchange.reply(200, b"{}")
        self.finished.set()


async def happens(event: asyncio.Event) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await event.wait()
