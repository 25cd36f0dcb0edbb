"""Servers, raw sockets and clients for the relay's tests, on asyncio's own loop and on uvloop."""

import asyncio
from dataclasses import dataclass, field

import pytest
import uvloop

from isochrone.relay import ClientLimits, HttpClient, HttpServer, ServerLimits

PATIENCE_S = 3.0


def pytest_asyncio_loop_factories(config, item):
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@dataclass
class RawReply:
    status: int
    headers: dict[str, str]
    body: bytes = b""


class RawClient:
    """A socket that says exactly what it is told to."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> RawReply:
        async with asyncio.timeout(PATIENCE_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").rstrip().split("\r\n")
        return RawReply(int(first.split(" ")[1]), dict(line.split(": ", 1) for line in lines))

    async def reply(self) -> RawReply:
        """A whole reply with a content-length."""
        reply = await self.head()
        async with asyncio.timeout(PATIENCE_S):
            reply.body = await self.reader.readexactly(int(reply.headers["content-length"]))
        return reply

    async def rest(self) -> bytes:
        """All until the server closes; a reset counts as an end."""
        data = bytearray()
        async with asyncio.timeout(PATIENCE_S):
            try:
                while piece := await self.reader.read(65536):
                    data += piece
            except ConnectionError:
                pass
        return bytes(data)

    def vanish(self) -> None:
        self.writer.transport.abort()


@dataclass
class Running:
    server: HttpServer
    port: int
    crashes: list[BaseException]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def emptied(self) -> None:
        """Wait until no connection and no handler is left."""
        async with asyncio.timeout(PATIENCE_S):
            while self.server.connections:
                await self.server._service.empty.wait()


@pytest.fixture
async def serve():
    """`await serve(handler, **limits)`; all are closed at the end and must leave nothing behind."""
    all_running = []

    async def start(handler, **limits) -> Running:
        crashes: list[BaseException] = []
        server = HttpServer(handler, ServerLimits(**limits), on_crash=crashes.append)
        running = Running(server, await server.start("127.0.0.1", 0), crashes)
        all_running.append(running)
        return running

    yield start
    for running in all_running:
        await running.server.close(grace_s=0)
        assert running.server.connections == 0


@pytest.fixture
async def dial():
    """`await dial(port)` gives a RawClient."""
    dialled = []

    async def connect(port: int) -> RawClient:
        dialled.append(RawClient(*await asyncio.open_connection("127.0.0.1", port)))
        return dialled[-1]

    yield connect
    for raw in dialled:
        raw.writer.transport.abort()


@dataclass
class Upstream:
    """A server that plays a script on each connection."""

    script: object
    port: int = 0
    connections: int = 0
    tasks: set = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def play(self, reader, writer) -> None:
        self.connections += 1
        self.tasks.add(asyncio.current_task())
        try:
            await self.script(RawClient(reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()


@pytest.fixture
async def upstream():
    """`await upstream(script)`, where `script(raw)` speaks the server's part; its end closes."""
    servers = []

    async def start(script) -> Upstream:
        up = Upstream(script)
        server = await asyncio.start_server(up.play, "127.0.0.1", 0)
        up.port = server.sockets[0].getsockname()[1]
        servers.append((server, up))
        return up

    yield start
    for server, up in servers:
        server.close()
        for task in up.tasks:
            task.cancel()
        await asyncio.gather(*up.tasks)


@pytest.fixture
async def client_of():
    """`client_of(**limits)` gives an HttpClient; it must leave no connection behind."""
    clients = []

    def make(**limits) -> HttpClient:
        clients.append(HttpClient(ClientLimits(**limits)))
        return clients[-1]

    yield make
    for client in clients:
        await client.close()
        assert client.connections == 0


@pytest.fixture
async def client(client_of) -> HttpClient:
    return client_of()
