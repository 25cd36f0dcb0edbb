"""A node speaks as often as the size of the fleet allows, by what gateways told it lately."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from shelf_nouns import Bench, Clock, soon
from test_idle_news import FakeBus

from isochrone.nodes.inference.agent import Agent
from isochrone.nodes.inference.settings import ModelSpec, NodeSettings
from isochrone.nodes.inference.tempo import Tempo
from isochrone.relay import HttpClient
from isochrone.wire.http_headers import told_count
from isochrone.wire.subjects import HEADER_NODES, PING_PATH, pulse_subject

SETTINGS = NodeSettings("n")


def told(*counts: int) -> tuple[Tempo, Clock]:
    clock = Clock()
    tempo = Tempo(SETTINGS, clock)
    for count in counts:
        tempo.told(count)
    return tempo, clock


def test_a_node_that_nobody_told_anything_speaks_once_a_second() -> None:
    assert told()[0].interval_s == SETTINGS.pulse_s == 1.0


def test_a_node_of_a_small_fleet_speaks_more_often() -> None:
    assert told(3)[0].interval_s == SETTINGS.pulse_s_min == 0.2
    assert told(40)[0].interval_s == 0.8


def test_the_largest_fleet_counts_whoever_tells_of_it_and_in_any_order() -> None:
    """Each pulse goes to all gateways: one that knows few must not make 10,000 nodes shout."""
    assert told(3, 10_000, 0, 3)[0].interval_s == 1.0


def test_what_was_told_is_forgotten_after_one_to_two_windows() -> None:
    tempo, clock = told(10_000)
    clock.at_s += 0.99 * SETTINGS.fleet_told_s
    tempo.told(3)
    assert tempo.nodes == 10_000
    clock.at_s += 0.5 * SETTINGS.fleet_told_s
    tempo.told(3)
    assert tempo.nodes == 10_000
    clock.at_s += 0.6 * SETTINGS.fleet_told_s
    assert tempo.nodes == 3
    clock.at_s += 2 * SETTINGS.fleet_told_s
    assert tempo.nodes == 0


def test_a_fleet_of_which_nobody_tells_for_long_is_forgotten_at_once() -> None:
    tempo, clock = told(3)
    clock.at_s += 5 * SETTINGS.fleet_told_s
    assert tempo.interval_s == 1.0


@pytest.mark.parametrize(
    ("header", "count"),
    [(b"3", 3), (b" 12 ", 12), (b"999999999", 999_999_999), (None, 0), (b"", 0), (b"-3", 0), (b"3.5", 0),
     (b"1e9", 0), (b"\xb2", 0), (b"\xd9\xa3", 0), (b"1234567890", 0), (b"9" * 10_000, 0)],
)  # fmt: skip
def test_only_a_whole_number_is_a_count(header: bytes | None, count: int) -> None:
    assert told_count(header) == count


class CountingBus(FakeBus):
    """Sets `heard` at the third pulse."""

    def __init__(self) -> None:
        super().__init__()
        self.pulses, self.heard = 0, asyncio.Event()

    async def publish(self, subject: str, payload: bytes) -> None:
        if subject == pulse_subject("n"):
            self.pulses += 1
        if self.pulses == 3:
            self.heard.set()


async def test_its_pulses_follow_what_was_told() -> None:
    bench, bus = Bench(stored={"m": 80}), CountingBus()
    settings = NodeSettings(
        "n", models=(ModelSpec("m"),), pulse_s=3600.0, pulse_s_min=0.001, pulses_per_s=1e4
    )
    agent = Agent(settings, host=bench, store=bench, bus=bus, clock=bench.clock)
    agent.state.tempo.told(1)
    await agent.start()
    await soon(bus.heard.wait())
    await agent.stop(0.0)


@pytest.fixture
async def agent() -> AsyncIterator[tuple[Agent, str]]:
    bench = Bench(stored={"m": 80})
    settings = NodeSettings("n", models=(ModelSpec("m"),), token="t", pulse_s=3600.0)
    agent = Agent(settings, host=bench, store=bench, bus=FakeBus(), clock=bench.clock)
    yield agent, await agent.start()
    await agent.stop(0.0)


async def test_a_probe_of_the_round_trip_tells_it_and_only_with_the_token(agent: tuple[Agent, str]) -> None:
    node, url = agent
    client, size = HttpClient(), (HEADER_NODES, b"3")
    for headers, status, nodes in (
        ((size,), 401, 0),
        (((b"authorization", b"Bearer t"),), 204, 0),
        (((b"authorization", b"Bearer t"), size), 204, 3),
    ):
        response = await soon(client.request("GET", url + PING_PATH, headers))
        assert (response.status, node.state.tempo.nodes) == (status, nodes)
        response.close()
    assert node.state.tempo.interval_s == 0.2
    await client.close()
