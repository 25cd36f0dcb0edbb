"""The least that a relay in Python can cost: for `bench/gateway` a floor.

Arguments: a port, then the engines' ports.

Both heads are parsed (httptools), each request goes to the next engine over a connection kept for that, and
all bytes pass through as they came. Nothing is checked, bounded, counted, decided, learned or recovered from:
it is no gateway.
"""

import asyncio
import gc
import sys
from collections import deque

import httptools
import uvloop


class Engine(asyncio.Protocol):
    """One connection to an engine; serves one client at a time."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Connected."""
        self.transport, self.parser = transport, httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        """On to the client; then see whether that was all."""
        self.client.transport.write(data)
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        """Free for another, or done with."""
        if self.client.stays:
            self.idle.append(self)
        else:
            self.transport.close()


class Client(asyncio.Protocol):
    """One connection of a client."""

    idle: tuple[deque[Engine], ...] = ()
    ports: tuple[int, ...] = ()
    turn = 0

    def connection_made(self, transport: asyncio.Transport) -> None:
        """A client came."""
        self.transport, self.parser, self.pieces = transport, httptools.HttpRequestParser(self), []

    def data_received(self, data: bytes) -> None:
        """Keep what came until the request is whole."""
        self.pieces.append(data)
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        """On to the next engine, asking it for trailers as ours does."""
        self.stays = self.parser.should_keep_alive()
        request, self.pieces = b"".join(self.pieces).replace(b"\r\n", b"\r\nte: trailers\r\n", 1), []
        Client.turn = at = (Client.turn + 1) % len(self.ports)
        if self.idle[at]:
            engine = self.idle[at].pop()
            engine.client = self
            engine.transport.write(request)
        else:
            task = asyncio.get_running_loop().create_task(self.connect(at, request))
            task.add_done_callback(asyncio.Task.result)

    async def connect(self, at: int, request: bytes) -> None:
        """Over a new connection."""
        loop = asyncio.get_running_loop()
        _, engine = await loop.create_connection(Engine, "127.0.0.1", self.ports[at])
        engine.idle, engine.client = self.idle[at], self
        engine.transport.write(request)


async def serve(port: int, *upstreams: int) -> None:
    """Listen for ever."""
    Client.ports, Client.idle = upstreams, tuple(deque() for _ in upstreams)
    await asyncio.get_running_loop().create_server(Client, "127.0.0.1", port, backlog=4096)
    gc.freeze()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(*map(int, sys.argv[1:])))
