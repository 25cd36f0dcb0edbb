"""Probes: what they bring, what they cost at most, and that none outlives the gateway."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from gateway_nouns import MODEL, Clock, a_fleet, a_membership

from isochrone.gateway.metrics import GatewayMetrics
from isochrone.gateway.prober import Prober, ProberParts
from isochrone.gateway.settings import GatewaySettings
from isochrone.model import Load, Probe, ProbeSettings
from isochrone.relay import Exchange, HttpClient, HttpServer
from isochrone.wire.orca import encode_orca
from isochrone.wire.subjects import HEADER_LOAD, LOAD_PATH

WAY_S = 0.05
BUSY = Load(slots=2, running=2, queued=1, wait_s=0.5)
TOKEN = (b"authorization", b"Bearer t")


@dataclass
class Lab:
    """A prober before a node that takes `WAY_S` of the lab's clock for each answer."""

    clock: Clock = field(default_factory=Clock)
    client: HttpClient = field(default_factory=HttpClient)
    metrics: GatewayMetrics = field(default_factory=GatewayMetrics)
    asked: list[tuple[str, bytes | None]] = field(default_factory=list)
    load: Load = BUSY
    status: int = 204
    header: bytes | None = None
    silent: bool = False
    crashes: list[str] = field(default_factory=list)

    async def open(self) -> None:
        self.server = HttpServer(self.answer, error_body=lambda *_: b"", on_crash=print)
        port = await self.server.start("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{port}"

    async def answer(self, exchange: Exchange) -> None:
        self.asked.append((exchange.path, exchange.header(b"authorization")))
        if self.silent:
            await asyncio.Event().wait()
        self.clock.at_s += WAY_S
        told = encode_orca(self.load) if self.header is None else self.header
        exchange.reply(self.status, b"", headers=((HEADER_LOAD, told),) if told else ())

    def prober(self, *nodes: str, url: str = "", **settings) -> Prober:
        pool = ProbeSettings(per_request=3.0, removals_per_request=0.0)
        self.fleet = a_fleet(*nodes, url=url or self.url, probing=pool)
        told = GatewaySettings(**settings)
        self.membership = a_membership(told, self.fleet, client=self.client, clock=self.clock)
        return Prober(
            ProberParts(
                settings=told,
                clock=self.clock,
                membership=self.membership,
                metrics=self.metrics,
                client=self.client,
                luck=random.Random(7),
                node_headers=(TOKEN,),
                log=self.crashes.append,
            )
        )

    @property
    def probes(self) -> tuple[Probe, ...]:
        return tuple(self.fleet.view(MODEL, self.clock.now_s()).probes)

    def counted(self) -> tuple[float, float, float]:
        """Sent, dropped, failed."""
        metrics = self.metrics
        counters = (metrics.probes_sent, metrics.probes_dropped, metrics.probes_failed)
        return tuple(sample.value for counter in counters for sample in next(counter.collect()).samples[:1])


async def ended(prober: Prober) -> None:
    async with asyncio.timeout(3.0):
        while prober.in_flight:  # noqa: ASYNC110 - sockets of this same loop
            await asyncio.sleep(0)


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    lab = Lab()
    await lab.open()
    yield lab
    await lab.client.close()
    await lab.server.close(0.0)
    assert not lab.crashes


async def test_a_probe_asks_for_the_load_with_the_token_and_fills_the_pool(lab: Lab) -> None:
    prober = lab.prober("a", "b")
    prober.dispatched(MODEL, 1.0)
    await ended(prober)
    assert lab.asked == [(LOAD_PATH, b"Bearer t")]
    (probe,) = lab.probes
    assert probe.in_flight == 3
    assert lab.counted() == (1, 0, 0)


async def test_only_a_warm_connection_measures_the_round_trip(lab: Lab) -> None:
    prober = lab.prober("a", "b")
    latencies_ms = []
    for _ in range(2):
        prober.dispatched(MODEL, 1.0)
        await ended(prober)
        latencies_ms.append(lab.probes[-1].latency_ms)
    believed_ms = lab.fleet.belief("a").rtt_ms
    cold_ms, warm_ms = latencies_ms
    assert warm_ms - cold_ms == pytest.approx(WAY_S * 1e3 - believed_ms)


async def test_probes_go_to_nodes_drawn_by_lot_each_once(lab: Lab) -> None:
    prober = lab.prober(*"abcdefgh")
    prober.dispatched(MODEL, 3.0)
    assert 1 <= prober.in_flight <= 3
    await ended(prober)
    names = [lab.fleet.view(MODEL, lab.clock.now_s()).nodes[probe.index].node for probe in lab.probes]
    assert len(set(names)) == len(names) == len(lab.asked)


async def test_a_policy_without_probes_sends_none_and_nobody_is_there_to_ask(lab: Lab) -> None:
    prober = lab.prober("a")
    prober.dispatched(MODEL, 0.0)
    prober.dispatched("a model that nobody has", 3.0)
    assert prober.in_flight == 0
    assert lab.counted() == (0, 0, 0)


async def test_beyond_the_most_in_flight_probes_are_dropped_and_counted(lab: Lab) -> None:
    lab.silent = True
    prober = lab.prober(*"abcdefgh", probes_in_flight_max=2)
    for _ in range(3):
        prober.dispatched(MODEL, 1e9)
    assert prober.in_flight == 2
    sent, dropped, failed = lab.counted()
    assert (sent, failed) == (2, 0)
    assert dropped >= 2
    await prober.stop()


@pytest.mark.parametrize(
    ("status", "header", "undecodable"),
    [(500, None, 0), (200, None, 0), (204, b"", 0), (204, b"JSON {}", 1), (204, b"JSON [[[", 1)],
)
async def test_answers_that_tell_no_load_are_failures(
    lab: Lab, status: int, header: bytes | None, undecodable: int
) -> None:
    lab.status, lab.header = status, header
    prober = lab.prober("a")
    prober.dispatched(MODEL, 1.0)
    await ended(prober)
    assert lab.counted() == (1, 0, 1)
    assert lab.membership.undecodable == undecodable
    assert lab.probes == ()


async def test_a_node_that_can_not_be_reached_is_a_failure(lab: Lab) -> None:
    prober = lab.prober("a", url="http://127.0.0.1:9")
    prober.dispatched(MODEL, 1.0)
    await ended(prober)
    assert lab.counted() == (1, 0, 1)


async def test_a_probe_that_takes_too_long_is_given_up(lab: Lab) -> None:
    lab.silent = True
    prober = lab.prober("a", probe_s_max=0.01)
    prober.dispatched(MODEL, 1.0)
    await ended(prober)
    assert lab.counted() == (1, 0, 1)


async def test_what_is_under_way_ends_with_the_gateway_and_nothing_is_sent_after(lab: Lab) -> None:
    lab.silent = True
    prober = lab.prober("a", "b")
    prober.dispatched(MODEL, 3.0)
    assert prober.in_flight
    await prober.stop()
    assert prober.in_flight == 0
    prober.dispatched(MODEL, 3.0)
    assert prober.in_flight == 0
