"""A node says that it has room: at the start, whenever it has room again, and to a bus that has come back."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest
from shelf_nouns import Bench, soon

from isochrone.model import Load
from isochrone.nodes.inference.agent import Agent
from isochrone.nodes.inference.desk import Job
from isochrone.nodes.inference.idle import IdleNews
from isochrone.nodes.inference.settings import ModelSpec, NodeSettings
from isochrone.ports import Handler
from isochrone.relay import HttpClient
from isochrone.wire.nodes import decode_idle
from isochrone.wire.orca import decode_orca
from isochrone.wire.subjects import HEADER_LOAD, LOAD_PATH, idle_subject


@dataclass
class FakeBus:
    """Keeps the names and loads announced; `announced` is set at each."""

    connected: bool = True
    names: list[str] = field(default_factory=list)
    loads: list[Load] = field(default_factory=list)
    announced: asyncio.Event = field(default_factory=asyncio.Event)
    listeners: list[Callable[[bool], None]] = field(default_factory=list)

    def on_change(self, listener: Callable[[bool], None]) -> None:
        self.listeners.append(listener)

    async def publish(self, subject: str, payload: bytes) -> None:
        if subject.startswith("isochrone.idle."):
            name, load = decode_idle(payload)
            assert subject == idle_subject(name)
            self.names.append(name)
            self.loads.append(load)
            self.announced.set()

    async def publish_heard(self, subject: str, payload: bytes) -> bool:
        await self.publish(subject, payload)
        return True

    async def subscribe(
        self, subject: str, handler: Handler, *, queue: str = "", urgent: bool = False
    ) -> None:
        pass

    async def put(self, key: str, value: bytes) -> None:
        pass

    async def get(self, key: str) -> bytes | None:
        return None

    async def delete(self, key: str) -> None:
        pass

    async def close(self) -> None:
        pass


@dataclass
class Room:
    """An agent that serves `m`, and what was announced of it by a second observer."""

    bench: Bench
    bus: FakeBus
    agent: Agent
    news: IdleNews
    said: list[str]

    def admit(self, name: str) -> None:
        assert self.agent.state.desk.admit(Job(name, "m", 1.0, 0.1, 10), self.bench.clock.now_s())
        self.news.look()

    def leave(self, name: str) -> None:
        self.agent.state.desk.leave(name, self.bench.clock.now_s())
        self.news.look()

    async def load_model(self) -> None:
        shelf = self.agent.state.shelf
        await soon(shelf.engine(shelf.find("m")))


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    bench, bus, said = Bench(stored={"m": 80}), FakeBus(), []
    settings = NodeSettings("n", models=(ModelSpec("m"),), preload=("m",), token="t")
    agent = Agent(settings, host=bench, store=bench, bus=bus, clock=bench.clock)
    await agent.state.shelf.open(settings.models)
    yield Room(bench, bus, agent, IdleNews(agent.state, lambda: said.append("idle")), said)
    await agent.stop(0.0)


async def test_a_node_that_starts_announces_itself_once_its_model_is_ready(room: Room) -> None:
    room.bench.starting.shut()
    await room.agent.start()
    await soon(room.bench.starting.reached.wait())
    assert room.bus.names == []
    room.bench.starting.open()
    await soon(room.bus.announced.wait())
    assert room.bus.names == ["n"]
    assert (room.bus.loads[0].running, room.bus.loads[0].wait_s) == (0, 0.0)


async def test_it_is_announced_when_the_last_request_has_left_and_only_then(room: Room) -> None:
    await room.load_model()
    room.news.look()
    room.news.look()
    assert room.said == ["idle"]
    room.admit("x")
    room.admit("y")
    room.leave("x")
    assert room.said == ["idle"]
    room.leave("y")
    assert room.said == ["idle", "idle"]


async def test_a_node_without_a_ready_model_is_not_idle(room: Room) -> None:
    room.news.look()
    assert not room.news.idle
    assert room.said == []


async def test_the_work_of_others_on_the_engine_counts_as_work(room: Room) -> None:
    await room.load_model()
    room.agent.state.desk.foreign_jobs = room.agent.state.desk.slots
    room.news.look()
    assert room.said == []
    room.agent.state.desk.foreign_jobs = 0
    room.news.look()
    assert room.said == ["idle"]


async def test_a_node_that_leaves_says_no_more(room: Room) -> None:
    await room.load_model()
    room.agent.state.leaving = True
    room.news.look()
    assert room.said == []


async def test_to_a_bus_that_has_come_back_it_is_said_again(room: Room) -> None:
    await room.agent.start()
    await soon(room.bus.announced.wait())
    room.bus.announced.clear()
    for listener in room.bus.listeners:
        listener(True)
    await soon(room.bus.announced.wait())
    assert room.bus.names == ["n", "n"]


async def test_a_probe_is_answered_with_the_load_and_only_to_the_network(room: Room) -> None:
    url = await room.agent.start()
    room.admit("x")
    client = HttpClient()
    answer = await soon(client.request("GET", url + LOAD_PATH, ((b"authorization", b"Bearer t"),)))
    assert answer.status == 204
    assert decode_orca(answer.header(HEADER_LOAD)).queued == 1
    refused = await soon(client.request("GET", url + LOAD_PATH))
    assert refused.status == 401
    refused.close()
    await client.close()
