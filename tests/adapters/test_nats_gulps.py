import asyncio
import os
import signal
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlparse

import pytest
import trustme
import uvloop
from nats_nouns import TOKEN, free_port, until

from isochrone.adapters import nats_bus
from isochrone.adapters.nats_bus import NatsBus
from isochrone.adapters.nats_gulps import (
    GULP_FROM_PER_S,
    GULP_MESSAGES,
    GULP_S_MAX,
    HURRY_S,
    PIECE_BYTES,
    GulpingTransport,
    Pace,
)
from isochrone.adapters.nats_server import NatsServer

HOUR_S = 3600.0
BUFFER = 4096
T = TypeVar("T")


def pace_at(per_s: float, seconds: int = 3) -> Pace:
    """A pace that has seen `per_s` messages a second, looked at ten times a second."""
    pace = Pace()
    for tenth in range(10 * seconds + 1):
        pace.pause_s(tenth / 10, round(per_s * tenth / 10))
    return pace


def pause_s(per_s: float) -> float:
    return pace_at(per_s).pause_s(3.0, round(3 * per_s))


# -- the pace --------------------------------------------------------------------------------------------


def test_the_defaults_are_those_that_the_docs_tell() -> None:
    assert (GULP_S_MAX, GULP_MESSAGES, GULP_FROM_PER_S) == (0.05, 64, 200.0)
    text = " ".join((Path(__file__).parents[2] / "docs/operations.md").read_text().split())
    assert f"more than {GULP_FROM_PER_S:g} messages a second (`GULP_FROM_PER_S`)" in text
    assert f"at most {GULP_S_MAX * 1e3:g} ms (`GULP_S_MAX`) or some {GULP_MESSAGES} messages" in text


def test_a_quiet_connection_is_read_at_once() -> None:
    assert pause_s(0.0) == 0.0
    assert pause_s(0.9 * GULP_FROM_PER_S) == 0.0


def test_a_busy_connection_is_read_in_gulps() -> None:
    assert pause_s(GULP_FROM_PER_S) == GULP_S_MAX
    assert pause_s(1000.0) == GULP_S_MAX


def test_the_faster_messages_come_the_shorter_the_pause_so_that_no_gulp_grows() -> None:
    assert pause_s(10_000.0) == pytest.approx(GULP_MESSAGES / 10_000.0)


def test_nothing_is_held_back_before_messages_were_counted_for_a_second() -> None:
    pace = Pace()
    assert [pace.pause_s(tenth / 10, 1000 * tenth) for tenth in range(10)] == [0.0] * 10
    assert pace.pause_s(1.0, 10_000) > 0.0


def test_gulps_end_with_the_first_read_after_a_quiet_second() -> None:
    pace = pace_at(1000.0)
    assert pace.pause_s(3.5, 3001) == GULP_S_MAX
    assert pace.pause_s(4.0, 3002) == 0.0


# -- one transport ---------------------------------------------------------------------------------------


@pytest.fixture
async def peer() -> AsyncIterator[tuple[GulpingTransport, asyncio.StreamWriter]]:
    """A transport, and what writes to it."""
    came: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()

    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.put_nowait(writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    transport = GulpingTransport({"in_msgs": 0}, asyncio.get_running_loop().time)
    port = server.sockets[0].getsockname()[1]
    await transport.connect(urlparse(f"nats://127.0.0.1:{port}"), BUFFER, 5)
    writer = await came.get()
    yield transport, writer
    transport.close()
    writer.close()
    server.close()
    await server.wait_closed()


def pausing_for(pause_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pace, "pause_s", lambda *_: pause_s)


async def test_after_a_read_that_took_all_the_socket_is_left_alone(
    peer: tuple[GulpingTransport, asyncio.StreamWriter], monkeypatch: pytest.MonkeyPatch
) -> None:
    pausing_for(HOUR_S, monkeypatch)
    transport, writer = peer
    assert transport.reading
    writer.write(b"x")
    assert await transport.read(BUFFER) == b"x"
    assert (transport.reading, transport.pauses) == (False, 1)


async def test_a_quiet_connection_is_not_paused(
    peer: tuple[GulpingTransport, asyncio.StreamWriter],
) -> None:
    transport, writer = peer
    for letter in (b"a", b"b"):
        writer.write(letter)
        assert await transport.read(BUFFER) == letter
    assert (transport.reading, transport.pauses) == (True, 0)


async def test_a_burst_is_read_to_its_end_before_any_pause(
    peer: tuple[GulpingTransport, asyncio.StreamWriter], monkeypatch: pytest.MonkeyPatch
) -> None:
    pausing_for(HOUR_S, monkeypatch)
    transport, writer = peer
    writer.write(b"x" * (2 * BUFFER))
    assert transport._io_reader is not None
    reader = transport._io_reader
    await until(lambda: len(reader._buffer) == 2 * BUFFER)  # type: ignore[attr-defined]
    assert len(await transport.read(BUFFER)) == BUFFER
    assert len(await transport.read(BUFFER)) == BUFFER
    assert (transport.reading, transport.pauses) == (True, 0)
    writer.write(b"end")
    assert await transport.read(BUFFER) == b"end"
    assert transport.pauses == 1


async def test_a_full_read_lets_others_have_a_turn(
    peer: tuple[GulpingTransport, asyncio.StreamWriter],
) -> None:
    transport, _ = peer
    assert transport._io_reader is not None
    transport._io_reader.feed_data(b"x" * BUFFER)
    turns: list[str] = []
    asyncio.get_running_loop().call_soon(turns.append, "another's")
    await transport.read(BUFFER)
    assert turns == ["another's"]


async def test_a_gulp_is_taken_in_pieces(peer: tuple[GulpingTransport, asyncio.StreamWriter]) -> None:
    transport, _ = peer
    assert transport._io_reader is not None
    transport._io_reader.feed_data(b"x" * (PIECE_BYTES + 1))
    assert [len(await transport.read(8 * PIECE_BYTES)) for _ in range(2)] == [PIECE_BYTES, 1]


async def test_what_came_in_a_pause_and_the_end_after_it_are_read_when_the_pause_ends(
    peer: tuple[GulpingTransport, asyncio.StreamWriter], monkeypatch: pytest.MonkeyPatch
) -> None:
    pausing_for(0.001, monkeypatch)
    transport, writer = peer
    writer.write(b"a")
    assert await transport.read(BUFFER) == b"a"
    writer.write(b"b")
    writer.close()
    assert await transport.read(BUFFER) == b"b"
    assert await transport.read(BUFFER) == b""
    assert transport.at_eof()


async def test_who_waits_for_an_answer_ends_the_pause_and_has_none_until_it_came(
    peer: tuple[GulpingTransport, asyncio.StreamWriter], monkeypatch: pytest.MonkeyPatch
) -> None:
    pausing_for(HOUR_S, monkeypatch)
    transport, writer = peer
    writer.write(b"a")
    assert await transport.read(BUFFER) == b"a"
    with transport.at_once():
        for letter in (b"b", b"c"):
            assert transport.reading
            writer.write(letter)
            assert await transport.read(BUFFER) == letter
    assert transport.pauses == 1
    writer.write(b"d")
    assert await transport.read(BUFFER) == b"d"
    assert (transport.reading, transport.pauses) == (False, 2)


async def test_after_something_urgent_there_are_no_pauses_for_a_while(
    peer: tuple[GulpingTransport, asyncio.StreamWriter], monkeypatch: pytest.MonkeyPatch
) -> None:
    pausing_for(HOUR_S, monkeypatch)
    transport, writer = peer
    monkeypatch.setattr(transport, "_clock_s", lambda: 100.0)
    transport.hurry()
    for passed_s in (0.0, 0.9 * HURRY_S):
        monkeypatch.setattr(transport, "_clock_s", partial(float, 100.0 + passed_s))
        writer.write(b"x")
        await transport.read(BUFFER)
        assert (transport.reading, transport.pauses) == (True, 0)
    monkeypatch.setattr(transport, "_clock_s", partial(float, 100.0 + HURRY_S))
    writer.write(b"x")
    await transport.read(BUFFER)
    assert (transport.reading, transport.pauses) == (False, 1)


async def test_a_transport_may_be_closed_in_a_pause(
    peer: tuple[GulpingTransport, asyncio.StreamWriter], monkeypatch: pytest.MonkeyPatch
) -> None:
    pausing_for(HOUR_S, monkeypatch)
    transport, writer = peer
    writer.write(b"a")
    await transport.read(BUFFER)
    transport.close()
    await transport.wait_closed()
    assert not transport.reading


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_connection_under_tls_is_paused_and_read_on(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], monkeypatch: pytest.MonkeyPatch
) -> None:
    pausing_for(0.001, monkeypatch)
    authority = trustme.CA()
    ours, theirs = ssl.create_default_context(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.configure_trust(ours)
    authority.issue_cert("127.0.0.1").configure_cert(theirs)

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for letter in (b"a", b"b", b"c"):
            writer.write(letter)
            await reader.readexactly(1)  # not before the last was heard
        writer.close()

    async def live() -> list[bytes]:
        server = await asyncio.start_server(say, "127.0.0.1", 0, ssl=theirs)
        transport = GulpingTransport({"in_msgs": 0}, asyncio.get_running_loop().time)
        uri = urlparse(f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await transport.connect(uri, BUFFER, 5)
        await transport.connect_tls("127.0.0.1", ours, BUFFER, 5)
        heard = []
        for _ in range(3):
            heard.append(await transport.read(BUFFER))
            assert not transport.reading
            transport.write(b".")  # type: ignore[no-untyped-call]
        heard.append(await transport.read(BUFFER))
        transport.close()
        await transport.wait_closed()
        server.close()
        await server.wait_closed()
        return heard

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(live()) == [b"a", b"b", b"c", b""]


# -- the bus ---------------------------------------------------------------------------------------------


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    server = NatsServer(tmp_path / "nats", port=free_port(), token=TOKEN)
    await server.start()
    yield server
    await server.stop()


def pauses(bus: NatsBus) -> int:
    assert bus._client is not None
    assert bus._client._transport is bus._client.gulping  # nats-py did not take one of its own
    return bus._client.gulping.pauses


async def hear_all(bus: NatsBus, total: int) -> None:
    """All of `total` messages, in bursts of many sizes, reach us once and in order."""
    heard: asyncio.Queue[int] = asyncio.Queue()
    await bus.subscribe("number", lambda _, payload: heard.put_nowait(int(payload[:8])))
    for number in range(total):
        await bus.publish("number", b"%08d" % number + b"x" * (number % 700))
        if number % 97 == 0:
            await asyncio.sleep(0)
    async with asyncio.timeout(20):
        assert [await heard.get() for _ in range(total)] == list(range(total))
    assert heard.empty()
    assert (bus.dropped, bus.overruns) == (0, 0)


async def test_messages_come_all_and_in_order_through_gulps(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pausing_for(GULP_S_MAX, monkeypatch)
    bus = await NatsBus.connect(server.url, token=TOKEN, name="test")
    await hear_all(bus, 2000)
    assert pauses(bus) > 0
    await bus.close()


def test_messages_come_all_and_in_order_under_uvloop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pausing_for(GULP_S_MAX, monkeypatch)

    async def live() -> int:
        server = NatsServer(tmp_path / "nats", port=free_port(), token=TOKEN)
        await server.start()
        bus = await NatsBus.connect(server.url, token=TOKEN, name="test")
        await hear_all(bus, 2000)
        gulps = pauses(bus)
        await bus.close()
        await server.stop()
        return gulps

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(live()) > 0


async def test_a_bus_becomes_one_that_gulps_when_messages_come_often(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isochrone.adapters.nats_gulps.WINDOW_S", 0.01)
    bus = await NatsBus.connect(server.url, token=TOKEN, name="test")
    await bus.subscribe("pulse.*", lambda *_: None)
    assert pauses(bus) == 0
    async with asyncio.timeout(10):
        while pauses(bus) == 0:
            for _ in range(50):
                await bus.publish("pulse.a", b"")
            await asyncio.sleep(0)
    await bus.close()


async def test_the_bucket_does_not_wait_for_the_end_of_a_pause(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = await NatsBus.connect(server.url, token=TOKEN, name="test")
    messages: asyncio.Queue[bytes] = asyncio.Queue()
    await bus.subscribe("pulse", lambda _, payload: messages.put_nowait(payload))
    pausing_for(HOUR_S, monkeypatch)
    await bus.publish("pulse", b"1")
    await within(5, messages.get, expected=b"1")
    await until(lambda: pauses(bus) == 1)
    await bus.put("card.a", b"1" * 100_000)
    assert await bus.get("card.a") == b"1" * 100_000
    await bus.delete("card.a")
    assert await bus.get("card.a") is None
    await bus.close()


async def test_a_killed_server_is_noticed_in_a_pause_and_found_again(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pausing_for(GULP_S_MAX, monkeypatch)
    bus = await NatsBus.connect(server.url, token=TOKEN, name="test")
    changes: asyncio.Queue[bool] = asyncio.Queue()
    bus.on_change(changes.put_nowait)
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    await within(5, changes.get, expected=False)
    await until(lambda: not server.alive)
    await server.start()
    await within(5, changes.get, expected=True)
    await hear_all(bus, 500)
    assert pauses(bus) > 0
    await bus.close()


async def test_a_frozen_server_is_noticed_by_pings_through_gulps(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pausing_for(GULP_S_MAX, monkeypatch)
    monkeypatch.setattr(nats_bus, "PING_S", 0.2)
    bus = await NatsBus.connect(server.url, token=TOKEN, name="test")
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    try:
        await until(lambda: not bus.connected)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    await until(lambda: bus.connected)
    await hear_all(bus, 100)
    await bus.close()


async def within(seconds: float, news: Callable[[], Awaitable[T]], *, expected: T) -> None:
    async with asyncio.timeout(seconds):
        assert await news() == expected
