import asyncio
import logging
import os
import shutil
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import uvloop
from nats_nouns import TOKEN, free_port, until

from isochrone.adapters import nats_bus
from isochrone.adapters.nats_bus import NatsBus
from isochrone.adapters.nats_server import NatsServer
from isochrone.ports import Bus, BusError, SettingError

Message = tuple[str, bytes]


async def kill(server: NatsServer) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    await until(lambda: not server.alive)


def inbox() -> tuple[asyncio.Queue[Message], Callable[[str, bytes], None]]:
    messages: asyncio.Queue[Message] = asyncio.Queue()
    return messages, lambda subject, payload: messages.put_nowait((subject, payload))


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "nats"


@pytest.fixture
async def server(state_dir: Path) -> AsyncIterator[NatsServer]:
    server = NatsServer(state_dir, port=free_port(), token=TOKEN)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def bus(server: NatsServer) -> AsyncIterator[NatsBus]:
    bus = await NatsBus.connect(server.url, token=TOKEN, name="test")
    yield bus
    await bus.close()


async def test_what_is_published_reaches_who_listens(server: NatsServer, bus: NatsBus) -> None:
    as_port: Bus = bus
    other = await NatsBus.connect(server.url, token=TOKEN, name="other")
    messages, handler = inbox()
    await as_port.subscribe("pulse.*", handler)
    await other.publish("pulse.a", b"1")
    await other.publish("card.a", b"not for us")
    await other.publish("pulse.b", b"")
    async with asyncio.timeout(2):
        assert await messages.get() == ("pulse.a", b"1")
        assert await messages.get() == ("pulse.b", b"")
    await other.close()
    assert (bus.dropped, bus.overruns, bus.handler_failures) == (0, 0, 0)


async def test_a_subject_that_is_no_text_deafens_nobody(server: NatsServer, bus: NatsBus) -> None:
    """The server takes any bytes; nats-py alone stops reading at them, and is deaf until a ping is missed."""
    messages, handler = inbox()
    await bus.subscribe("pulse.*", handler)
    await bus.put("a", b"")  # once that is answered the server knows of the subscription
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as hostile:
        hostile.sendall(b'CONNECT {"auth_token":"%b","verbose":false}\r\n' % TOKEN.encode())
        hostile.sendall(b"PUB pulse.\xff\xfe 1\r\nx\r\nPUB pulse.b 1\r\ny\r\n")
        async with asyncio.timeout(3):
            assert await messages.get() == ("pulse.\ufffd\ufffd", b"x")
            assert await messages.get() == ("pulse.b", b"y")


async def test_of_those_who_share_a_queue_one_hears_each_message(server: NatsServer, bus: NatsBus) -> None:
    as_port: Bus = bus
    other = await NatsBus.connect(server.url, token=TOKEN, name="other")
    (ours, hear), (theirs, they_hear), (everything, note) = inbox(), inbox(), inbox()
    await as_port.subscribe("idle", hear, queue="gateways")
    await other.subscribe("idle", they_hear, queue="gateways")
    await other.subscribe("idle", note)
    sent = [("idle", b"%d" % number) for number in range(50)]
    for subject, payload in sent:
        await bus.publish(subject, payload)
    async with asyncio.timeout(5):
        assert [await everything.get() for _ in sent] == sent
    await until(lambda: ours.qsize() + theirs.qsize() >= len(sent))
    shares = [queue.get_nowait() for queue in (ours, theirs) for _ in range(queue.qsize())]
    assert sorted(shares) == sorted(sent)
    await other.close()


async def test_a_queue_is_joined_again_on_the_next_connection(server: NatsServer, bus: NatsBus) -> None:
    messages, handler = inbox()
    for _ in range(2):
        await bus.subscribe("idle", handler, queue="gateways")
    await kill(server)
    await until(lambda: not bus.connected)
    await server.start()
    await until(lambda: bus.connected)
    await bus.publish("idle", b"once")
    await bus.subscribe("end", handler)
    await bus.publish("end", b"")
    async with asyncio.timeout(5):
        assert [await messages.get(), await messages.get()] == [("idle", b"once"), ("end", b"")]
    assert messages.empty()


@pytest.mark.parametrize("queue", ["two words", "a.b", "*", ">", "line\nbreak"])
async def test_a_malformed_queue_is_refused(bus: NatsBus, queue: str) -> None:
    with pytest.raises(BusError, match="is no NATS queue group"):
        await bus.subscribe("idle", lambda *_: None, queue=queue)


async def test_the_bucket_keeps_replaces_and_forgets(bus: NatsBus) -> None:
    assert await bus.get("card.a") is None
    await bus.put("card.a", b"first")
    await bus.put("card.a", b"second")
    assert await bus.get("card.a") == b"second"
    await bus.put("card.empty", b"")
    assert await bus.get("card.empty") == b""
    await bus.delete("card.a")
    await bus.delete("card.never")
    assert await bus.get("card.a") is None
    with pytest.raises(BusError, match="Could not keep 'two words'"):
        await bus.put("two words", b"")


async def test_entries_that_nobody_renews_are_forgotten(server: NatsServer) -> None:
    bus = await NatsBus.connect(server.url, token=TOKEN, name="t", bucket="short", bucket_ttl_s=1)
    await bus.put("card.a", b"1")
    assert await bus.get("card.a") == b"1"
    async with asyncio.timeout(5):
        while await bus.get("card.a") is not None:  # noqa: ASYNC110 - the server's clock
            await asyncio.sleep(0.05)
    await bus.close()


async def test_a_bucket_made_otherwise_is_used_as_it_is(server: NatsServer, bus: NatsBus) -> None:
    await bus.put("card.a", b"1")
    other = await NatsBus.connect(server.url, token=TOKEN, name="other", bucket_ttl_s=60)
    assert await other.get("card.a") == b"1"
    await other.close()


async def test_it_survives_a_killed_server_that_comes_back(server: NatsServer, bus: NatsBus) -> None:
    changes: asyncio.Queue[bool] = asyncio.Queue()
    messages, handler = inbox()
    bus.on_change(changes.put_nowait)
    await bus.subscribe("pulse.>", handler)
    await bus.put("card.a", b"kept")
    await kill(server)
    async with asyncio.timeout(5):
        assert await changes.get() is False
    assert not bus.connected
    await bus.publish("pulse.a", b"lost")
    assert bus.dropped == 1
    await bus.subscribe("late", handler)
    for operation in (bus.put("card.a", b""), bus.get("card.a"), bus.delete("card.a")):
        with pytest.raises(BusError, match=r"'card\.a': NATS at 127.0.0.1:\d+ is away; try again"):
            await operation
    await server.start()
    async with asyncio.timeout(5):
        assert await changes.get() is True
    assert bus.connected
    await bus.publish("pulse.a", b"found")
    await bus.publish("late", b"too")
    async with asyncio.timeout(2):
        assert {await messages.get(), await messages.get()} == {("pulse.a", b"found"), ("late", b"too")}
    assert await bus.get("card.a") == b"kept"
    assert messages.empty()


async def test_the_bucket_is_made_again_in_an_emptied_store(
    server: NatsServer, bus: NatsBus, state_dir: Path
) -> None:
    await bus.put("card.a", b"gone")
    await kill(server)
    shutil.rmtree(state_dir)
    await until(lambda: not bus.connected)
    await server.start()
    await until(lambda: bus.connected)
    assert await bus.get("card.a") is None
    await bus.put("card.a", b"new")
    assert await bus.get("card.a") == b"new"


async def test_the_bucket_is_made_again_when_somebody_deletes_it(bus: NatsBus) -> None:
    await bus.put("card.a", b"1")
    assert bus._client is not None
    await bus._client.jetstream().delete_key_value("isochrone_nodes")
    await bus.put("card.a", b"2")
    assert await bus.get("card.a") == b"2"


async def test_it_starts_without_a_server_and_finds_it_later(state_dir: Path) -> None:
    server = NatsServer(state_dir, port=free_port(), token=TOKEN)
    changes: asyncio.Queue[bool] = asyncio.Queue()
    messages, handler = inbox()
    bus = await NatsBus.connect(server.url, token=TOKEN, name="early", wait=True)
    bus.on_change(changes.put_nowait)
    assert not bus.connected
    await bus.subscribe("a", handler)
    await bus.publish("a", b"dropped")
    with pytest.raises(BusError, match="is away"):
        await bus.get("a")
    await server.start()
    async with asyncio.timeout(5):
        assert await changes.get() is True
        await bus.publish("a", b"heard")
        assert await messages.get() == ("a", b"heard")
    await bus.close()
    await server.stop()


async def test_no_server_is_told_in_one_sentence() -> None:
    url = f"nats://127.0.0.1:{free_port()}"
    expected = r"^No NATS server answers at 127.0.0.1:\d+ \(Connection refused\); start one there or "
    with pytest.raises(BusError, match=expected):
        await NatsBus.connect(url, token=TOKEN, name="test")


async def test_a_wrong_token_is_told_but_not_shown(
    server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(BusError, match=r"refused our token; give the token") as caught:
        await NatsBus.connect(server.url, token="wr0ng", name="test")
    assert "wr0ng" not in str(caught.value) + caplog.text


async def test_what_listens_but_does_not_speak_nats_is_told() -> None:
    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.org ESMTP\r\n" * 4000)
        writer.close()

    async def sit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    for serve in (babble, sit):
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as peer:
            url = f"nats://127.0.0.1:{peer.sockets[0].getsockname()[1]}"
            with pytest.raises(BusError, match=r"No NATS server answers at 127\.0\.0\.1"):
                await NatsBus.connect(url, token=TOKEN, name="test", connect_s_max=0.3)


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:4222", "http://a:1", "nats://", "nats://a:b", "nats://a:99999"]
)
async def test_a_malformed_url_is_told(url: str) -> None:
    with pytest.raises(SettingError, match="write it as nats://host:port"):
        await NatsBus.connect(url, token=TOKEN, name="test")


async def test_malformed_names_are_told(bus: NatsBus) -> None:
    with pytest.raises(SettingError, match="bucket name 'a b' is malformed"):
        await NatsBus.connect("nats://a:1", token=None, name="test", bucket="a b")
    for subject in ("", "a b", "a..b", ".a", "a.>.b", "a*"):
        with pytest.raises(BusError, match="is no NATS subject"):
            await bus.subscribe(subject, lambda *_: None)


async def test_a_handler_that_raises_is_counted_and_called_again(bus: NatsBus) -> None:
    messages, keep = inbox()

    def handler(subject: str, payload: bytes) -> None:
        keep(subject, payload)
        raise ValueError("a bug")

    def listener(_: bool) -> None:
        raise ValueError("another")

    bus.on_change(listener)
    await bus.subscribe("a", handler)
    for payload in (b"1", b"2", b"3"):
        await bus.publish("a", payload)
    async with asyncio.timeout(2):
        assert [(await messages.get())[1] for _ in range(3)] == [b"1", b"2", b"3"]
    await until(lambda: bus.handler_failures == 3)
    assert bus.connected


async def test_a_message_too_large_is_dropped_and_the_rest_goes_on(bus: NatsBus) -> None:
    messages, handler = inbox()
    await bus.subscribe("a", handler)
    await bus.publish("a", bytes(2 * 1024 * 1024))
    await bus.publish("two words", b"")
    assert bus.dropped == 2
    await bus.publish("a", b"small")
    async with asyncio.timeout(2):
        assert await messages.get() == ("a", b"small")


async def test_a_frozen_server_is_noticed_left_and_found_again(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_bus, "PING_S", 1)
    bus = await NatsBus.connect(server.url, token=TOKEN, name="test")
    assert server.pid is not None
    messages, handler = inbox()
    await bus.subscribe("b", handler)
    os.kill(server.pid, signal.SIGSTOP)
    try:
        start_s = time.monotonic()
        for _ in range(64):  # more than the kernel and we hold
            await bus.publish("a", bytes(512 * 1024))
        assert time.monotonic() - start_s < 1
        assert bus.dropped > 0
        assert bus._client is not None
        assert bus._client.pending_data_size <= nats_bus.PENDING_BYTES_MAX + 1024 * 1024
        with pytest.raises(BusError, match=r"no answer from NATS at .* in 2 s"):
            await bus.get("card.a")
        await until(lambda: not bus.connected, within_s=9)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    await until(lambda: bus.connected)
    await bus.publish("b", b"back")
    async with asyncio.timeout(2):
        assert await messages.get() == ("b", b"back")
    await bus.close()


async def test_leaving_is_quick_with_the_server_there_frozen_or_away(server: NatsServer) -> None:
    there, frozen, away = [await NatsBus.connect(server.url, token=TOKEN, name="x") for _ in range(3)]
    messages, handler = inbox()
    await away.subscribe("last", handler)
    await there.publish("last", b"words")
    await there.close()
    async with asyncio.timeout(2):
        assert await messages.get() == ("last", b"words")
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    start_s = time.monotonic()
    await frozen.publish("a", bytes(1024 * 1024))
    await frozen.close()
    assert time.monotonic() - start_s < 2
    await kill(server)
    await until(lambda: not away.connected)
    start_s = time.monotonic()
    await away.close()
    assert time.monotonic() - start_s < 2
    await away.close()
    for bus in (there, frozen, away):
        assert not bus.connected
        await bus.publish("a", b"")
        with pytest.raises(BusError, match="is away"):
            await bus.put("a", b"")


async def test_an_outage_is_logged_once_and_without_a_traceback(
    server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    bus = await NatsBus.connect(server.url, token=TOKEN, name="test")
    caplog.set_level(logging.DEBUG)
    await kill(server)
    await until(lambda: caplog.text.count("Connection refused") >= 4)  # several tries
    await bus.close()
    told = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.name for record in told] == ["isochrone.bus"] * 2
    assert "Lost NATS at 127.0.0.1:" in told[0].getMessage()
    assert "No NATS server answers at 127.0.0.1:" in told[1].getMessage()
    assert not any(record.exc_info for record in caplog.records)
    assert TOKEN not in caplog.text


def test_it_works_under_uvloop(state_dir: Path) -> None:
    async def live() -> bytes | None:
        server = NatsServer(state_dir, port=free_port(), token=TOKEN)
        await server.start()
        bus = await NatsBus.connect(server.url, token=TOKEN, name="test")
        await bus.put("a", b"1")
        await kill(server)
        await until(lambda: not bus.connected)
        await server.start()
        await until(lambda: bus.connected)
        kept = await bus.get("a")
        await bus.close()
        await server.stop()
        return kept

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(live()) == b"1"


async def test_whether_anybody_listens_is_told_with_what_was_published(bus: NatsBus):
    assert not await bus.publish_heard("test.heard", b"alone")
    messages, handler = inbox()
    await bus.subscribe("test.*", handler)
    assert await bus.publish_heard("test.heard", b"in company")
    assert await messages.get() == ("test.heard", b"in company")
    assert messages.empty()
