import asyncio
import socket
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from isochrone.adapters.nats_bus import NatsBus
from isochrone.adapters.nats_client import DirectClient
from isochrone.adapters.nats_server import NatsServer

Heard = list[tuple[str, bytes]]


async def subscribe(client: DirectClient, sid: int, heard: Heard) -> Subscription:
    """A subscription as nats-py makes it, without a server."""

    async def take(message: Msg) -> None:
        heard.append((message.subject, message.data))

    subscription = Subscription(client, sid, "pulse.*", cb=take)
    client._subs[sid] = subscription
    subscription._start(None)  # type: ignore[no-untyped-call]
    return subscription


async def come(client: DirectClient, sid: int, payload: bytes) -> None:
    await client._process_msg(sid, b"pulse.a", b"", payload, b"")


async def test_a_handler_is_called_before_the_reader_goes_on() -> None:
    client, heard = DirectClient(), Heard()
    subscription = await subscribe(client, 1, heard)
    client.hand_over(subscription, lambda subject, payload: heard.append((subject, payload)))
    await come(client, 1, b"1")
    assert heard == [("pulse.a", b"1")]
    assert (client.stats["in_msgs"], client.stats["in_bytes"]) == (1, 1)


async def test_what_is_urgent_makes_the_reader_hurry_and_what_is_not_does_not() -> None:
    client, heard = DirectClient(), Heard()
    hurried: list[bytes] = []
    client.gulping.hurry = lambda: hurried.append(heard[-1][1] if heard else b"")  # type: ignore[method-assign]
    for sid, urgent in ((1, False), (2, True)):
        subscription = await subscribe(client, sid, heard)
        client.hand_over(subscription, lambda *said: heard.append(said), urgent=urgent)
    await come(client, 1, b"1")
    assert hurried == []
    await come(client, 2, b"2")
    assert hurried == [b"1"]  # before it is handed over
    assert [payload for _, payload in heard] == [b"1", b"2"]


async def test_what_waited_before_the_handler_was_there_is_heard_first() -> None:
    client, heard = DirectClient(), Heard()
    subscription = await subscribe(client, 1, heard)
    await come(client, 1, b"1")
    client.hand_over(subscription, lambda subject, payload: heard.append((subject, payload)))
    await come(client, 1, b"2")
    assert heard == []
    async with asyncio.timeout(5):
        await subscription._pending_queue.join()
    await come(client, 1, b"3")
    assert [payload for _, payload in heard] == [b"1", b"2", b"3"]


async def test_other_subscriptions_are_left_to_nats_py(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[tuple[int, bytes]] = []

    async def process(_: Client, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        left.append((sid, data))

    monkeypatch.setattr(Client, "_process_msg", process)
    client, heard = DirectClient(), Heard()
    client.hand_over(await subscribe(client, 1, heard), lambda *_: None)
    await come(client, 2, b"an answer")
    assert left == [(2, b"an answer")]


async def test_what_nats_py_takes_over_has_a_subject_that_it_can_read() -> None:
    client, heard = DirectClient(), Heard()
    subscription = await subscribe(client, 1, heard)
    await client._process_msg(1, b"pulse.\xff", b"", b"1", b"")
    async with asyncio.timeout(5):
        await subscription._pending_queue.join()
    assert heard == [("pulse.\ufffd", b"1")]


async def test_the_handlers_of_a_bus_are_called_by_the_task_that_reads(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    server = NatsServer(tmp_path / "nats", port=port, token="t")
    await server.start()
    bus = await NatsBus.connect(server.url, token="t", name="test")
    callers: asyncio.Queue[asyncio.Task[object] | None] = asyncio.Queue()
    await bus.subscribe("pulse.*", lambda *_: callers.put_nowait(asyncio.current_task()))
    await bus.publish("pulse.a", b"")
    assert bus._client is not None
    async with asyncio.timeout(5):
        assert await callers.get() is bus._client._reading_task
    await bus.close()
    await server.stop()
