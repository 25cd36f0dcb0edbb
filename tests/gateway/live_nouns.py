"""A whole gateway over real sockets, before a node whose answers are scripted byte for byte.

Its clock stands still, so that it learns no speeds and a busy machine changes no decision; time-outs run.
"""

import asyncio
import json
import random
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import h11
from gateway_nouns import Clock, FakeBus

from isochrone.fleet import CardReceived, Fleet, FleetSettings, PulseReceived, RttMeasured
from isochrone.gateway.gateway import Gateway
from isochrone.gateway.settings import GatewaySettings
from isochrone.model import Load, ModelPulse, ModelState, NodeCard, Pulse
from isochrone.wire.openai import CHAT_PATH

MODEL = "tiny"
PATIENCE_S = 10.0
READY = ModelPulse(MODEL, ModelState.READY, prefill_base_ms=0.1, prefill_ms_per_token=0.0, tpot_ms=0.1)
SETTINGS = GatewaySettings(port=0, rtt_probe_s=3600.0)

Script = Callable[["Talk", bytes], Awaitable[None]]
"""Plays the node's part for one request, whose body is given."""


@dataclass
class Talk:
    """One connection from the gateway."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def until_left(self) -> None:
        """Say nothing until the gateway goes."""
        await self.reader.read()


@dataclass
class Node:
    """Listens on a port of its own and plays `script` to each request."""

    script: Script
    port: int = 0
    open: int = 0
    heads: list[bytes] = field(default_factory=list)
    quiet: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        self.open += 1
        self.quiet.clear()
        try:
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0] or 0)
                await self.script(Talk(reader, writer), await reader.readexactly(length))
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            self.open -= 1
            if not self.open:
                self.quiet.set()
            writer.transport.abort()
            self.tasks.discard(task)


def a_fleet(url: str, names: tuple[str, ...] = ("a",)) -> Fleet:
    """A fleet that never forgets its nodes, puts none aside, and expects answers at once."""
    fleet = Fleet(FleetSettings(silent_s=1e9, forget_s=1e9, failures_to_eject=10**9, refused_s=0.0))
    now_s = Clock().now_s()
    for name in names:
        fleet.step(PulseReceived(Pulse(name, 1, 1, "digest", Load(slots=100_000), (READY,))), now_s)
        fleet.step(CardReceived(NodeCard(name, url), "digest"), now_s)
        fleet.step(RttMeasured(name, 0.1), now_s)
    return fleet


@dataclass
class Heard:
    """An answer as h11 reads it; `broken` when it ended before its end or is no HTTP/1.1."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    broken: str = ""
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)

    @property
    def error(self) -> dict:
        return json.loads(self.body)["error"]


@dataclass
class Live:
    """A gateway, its node, and how to talk to it."""

    gateway: Gateway
    node: Node
    port: int
    dialled: list[asyncio.StreamWriter] = field(default_factory=list)

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.dialled.append(writer)
        return reader, writer

    def hang_up(self) -> None:
        for writer in self.dialled:
            writer.transport.abort()

    async def raw(self, data: bytes) -> bytes:
        """All that is answered to `data` until the gateway closes."""
        reader, writer = await self.dial()
        writer.write(data)
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await reader.read()
        finally:
            writer.transport.abort()

    async def ask(self, method: str, path: str, body: bytes = b"", *headers: str) -> Heard:
        """One request on a connection of its own."""
        lines = [f"{method} {path} HTTP/1.1", "host: gateway", "connection: close", *headers]
        lines.append(f"content-length: {len(body)}")
        raw = await self.raw("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        return heard(method, raw)

    async def chat(self, *headers: str, stream: bool = True, **fields: object) -> Heard:
        """One request for tokens."""
        asked = {"model": MODEL, "messages": [{"role": "user", "content": "Why?"}], "stream": stream}
        return await self.ask("POST", CHAT_PATH, json.dumps({**asked, **fields}).encode(), *headers)

    async def at_rest(self) -> None:
        """Wait until no client is connected, and hold that nothing of any request is left."""
        gateway = self.gateway
        async with asyncio.timeout(PATIENCE_S):
            while gateway._server.connections:
                await gateway._server._service.empty.wait()
            while gateway._client.connections != gateway._client.idle:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0)
        assert gateway.fleet.in_flight == 0
        assert [belief.own_in_flight for belief in gateway.fleet.beliefs() if belief.own_in_flight] == []
        assert gateway._membership._listeners == {}


def heard(method: str, raw: bytes) -> Heard:
    """`raw` as the answer to `method`."""
    told = Heard()
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(raw)
    client.receive_data(b"")
    try:
        while True:
            event = client.next_event()
            if isinstance(event, h11.Response):
                told.status = event.status_code
                told.headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
            elif isinstance(event, h11.Data):
                told.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                told.trailers = list(event.headers)
                return told
            elif isinstance(event, h11.ConnectionClosed) or event is h11.NEED_DATA:
                told.broken = "closed before an answer"
                return told
    except h11.RemoteProtocolError as error:
        told.broken = str(error)
        return told


@asynccontextmanager
async def live(script: Script, names: tuple[str, ...] = ("a",), **settings: object) -> AsyncIterator[Live]:
    """A gateway before nodes that all play `script`; in the end nothing may be left of any request."""
    node = Node(script)
    listener = await asyncio.start_server(node.serve, "127.0.0.1", 0, backlog=1024)
    node.port = listener.sockets[0].getsockname()[1]
    gateway = Gateway(
        replace(SETTINGS, **settings),
        fleet=a_fleet(f"http://127.0.0.1:{node.port}", names),
        bus=FakeBus(),
        clock=Clock(),
        luck=random.Random(1),
    )
    running = Live(gateway, node, await gateway.start())
    try:
        yield running
        running.hang_up()
        await running.at_rest()
    finally:
        running.hang_up()
        await gateway.stop(grace_s=0.0)
        listener.close()
        for task in tuple(node.tasks):
            task.cancel()
        await asyncio.gather(*node.tasks, return_exceptions=True)
