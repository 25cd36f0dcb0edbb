"""What engines do to a node: the relay is the gateway's, and so are the faults, at each byte of an answer."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from gateway_nouns import FakeBus
from live_nouns import MODEL, PATIENCE_S, Heard, Live, Node, heard
from test_upstream_faults import JSON, KINDS, REPLIES, STREAM, play

from isochrone.model import ModelCard
from isochrone.nodes.inference.agent import Agent
from isochrone.nodes.inference.settings import NodeSettings
from isochrone.ports import EngineMetrics, MonotonicClock

NAMES = ("events in chunks", "one object", "an error")


@dataclass
class Engine:
    """A server that others run; fulfils `ports.Engine` and `ports.EngineHost`."""

    url: str
    name: str = "scripted"
    loads: bool = False
    alive: bool = True
    memory_bytes: int = 0

    async def models(self) -> tuple[ModelCard, ...]:
        return (ModelCard(MODEL),)

    async def start(
        self, _model: ModelCard, _weights: Path | None, _progress: Callable[[float], None]
    ) -> "Engine":
        return self

    async def metrics(self) -> EngineMetrics:
        return EngineMetrics()

    async def stop(self) -> None:
        pass


class OneNode(Live):
    """A node instead of a gateway."""

    agent: Agent

    async def ask(self, method: str, path: str, body: bytes = b"", *headers: str) -> Heard:
        lines = [f"{method} {path} HTTP/1.1", "host: node", "connection: close", "te: trailers", *headers]
        lines.append(f"content-length: {len(body)}")
        return heard(method, await self.raw("\r\n".join(lines).encode() + b"\r\n\r\n" + body))

    async def at_rest(self) -> None:
        client, state = self.agent._client, self.agent.state
        async with asyncio.timeout(PATIENCE_S):
            while self.agent._server.connections:
                await self.agent._server._service.empty.wait()
            while client.connections != client.idle:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0)
        assert not state.desk.running
        assert not state.desk.waiting


@asynccontextmanager
async def a_node() -> AsyncIterator[OneNode]:
    engine = Node(play)
    listener = await asyncio.start_server(engine.serve, "127.0.0.1", 0, backlog=1024)
    agent = Agent(
        NodeSettings("n", slots=64, queue_max=10_000, engine_silence_s_max=0.15, pulse_s=3600.0),
        host=Engine(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"),
        store=None,
        bus=FakeBus(),
        clock=MonotonicClock(),
    )
    url = await agent.start()
    running = OneNode(None, engine, int(url.rpartition(":")[2]))
    running.agent = agent
    try:
        yield running
        running.hang_up()
        await running.at_rest()
    finally:
        running.hang_up()
        await agent.stop(grace_s=0.0)
        listener.close()
        for task in tuple(engine.tasks):
            task.cancel()
        await asyncio.gather(*engine.tasks, return_exceptions=True)


def check(case: tuple[str, str, int], answer: Heard) -> None:
    name, kind, at = case
    told = f"{case}: {answer}"
    whole = at >= len(REPLIES[name])
    if answer.status == 200 and answer.broken:  # cut, so that the gateway knows
        assert not whole, told
        assert "incomplete" in answer.broken or "without sending complete" in answer.broken, told
        if kind in ("close", "reset", "stall"):
            assert (STREAM if name == "events in chunks" else JSON).startswith(answer.body), told
        return
    assert answer.broken == "", told
    if answer.status == 200:
        assert [field for field, _ in answer.trailers] == [b"x-isochrone-timings", b"x-isochrone-load"], told
        if kind in ("close", "reset", "stall"):
            assert answer.body == (STREAM if name == "events in chunks" else JSON), told
    elif kind in ("close", "reset", "stall") and name != "an error":
        assert (answer.status, answer.error["code"]) == (502, "engine_failed"), told
        assert not whole, told


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
async def test_at_every_byte(name, kind):
    room = asyncio.Semaphore(64)
    length = len(REPLIES[name])

    async def one(node: OneNode, at: int) -> None:
        async with room:
            answer = await node.chat(stream=name == "events in chunks", user=f"{name}|{kind}|{at}")
            check((name, kind, at), answer)

    async with a_node() as node:
        await asyncio.gather(*(one(node, at) for at in range(length + (kind != "flip"))))
