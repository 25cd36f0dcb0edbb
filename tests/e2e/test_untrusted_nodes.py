"""Nodes are not trusted: a rogue joins a real network and answers, or pulses, whatever it likes."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import httpx
import nats
import pytest

from isochrone.adapters.nats_bus import NatsBus
from isochrone.model import Load, ModelCard, ModelPulse, ModelState, NodeCard, Pulse
from isochrone.wire.nodes import card_digest, encode_card, encode_pulse
from isochrone.wire.subjects import pulse_subject
from tests.e2e.cluster import MODEL, TOKEN, Cluster, until

BODY = {"model": MODEL, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 4, "stream": True}
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'
DONE = b"data: [DONE]\n\n"
A_CARD = NodeCard("rogue", "http://127.0.0.1:9", models=(ModelCard(MODEL),))


def chunked(*chunks: bytes, headers: bytes = b"", trailers: bytes = b"") -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
    pieces = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return head + headers + b"\r\n" + pieces + b"0\r\n" + trailers + b"\r\n"


@dataclass
class Rogue:
    """A node that answers each request for tokens with `answer`, byte for byte, and then hangs up."""

    bus: NatsBus
    answer: bytes = b""
    afterthought: bytes = b""
    asked: list[bytes] = field(default_factory=list)
    card: NodeCard = A_CARD
    epoch: int = field(default_factory=lambda: int(time.time() * 1e3))
    talks: set["asyncio.Task[None]"] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = asyncio.current_task()
        assert talk is not None
        self.talks.add(talk)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"GET"):
                    writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
                    continue
                self.asked.append(head)
                writer.write(self.answer)
                if self.afterthought:
                    await asyncio.sleep(0.3)  # a slow sender, not a synchronisation
                    writer.write(self.afterthought)
                return
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            return
        finally:
            writer.close()

    async def hang_up(self) -> None:
        """End every talk, so that no connection is left to be found unclosed."""
        for talk in self.talks:
            talk.cancel()
        await asyncio.gather(*self.talks, return_exceptions=True)
        await asyncio.sleep(0)  # the transports close in the loop's next turn

    def pulse(self, seq: int) -> Pulse:
        ready = ModelPulse(
            MODEL, ModelState.READY, prefill_base_ms=1.0, prefill_ms_per_token=0.1, tpot_ms=1.0
        )
        return Pulse("rogue", self.epoch, seq, card_digest(self.card), Load(4), (ready,))

    async def live(self) -> None:
        await self.bus.put("rogue", encode_card(self.card))
        seq = 0
        while True:
            seq += 1
            await self.bus.publish(pulse_subject("rogue"), encode_pulse(self.pulse(seq)))
            await asyncio.sleep(0.2)


@asynccontextmanager
async def rogue_in(cluster: Cluster, **card: object) -> AsyncIterator[Rogue]:
    bus = await NatsBus.connect(cluster.nats_url, token=TOKEN, name="rogue")
    rogue = Rogue(bus)
    server = await asyncio.start_server(rogue.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    rogue.card = replace(rogue.card, url=url, **card)
    life = asyncio.create_task(rogue.live())
    try:
        yield rogue
    finally:
        life.cancel()
        server.close()
        await rogue.hang_up()
        await bus.delete("rogue")
        await bus.close()


@pytest.fixture
def gateway(empty_cluster: Cluster) -> Cluster:
    empty_cluster.start_gateway()
    return empty_cluster


async def known(cluster: Cluster) -> None:
    await asyncio.to_thread(cluster.wait_known, "rogue")


async def ask(cluster: Cluster) -> httpx.Response:
    async with httpx.AsyncClient(timeout=20) as client:
        return await client.post(f"{cluster.url}/v1/chat/completions", json=BODY)


ANSWERS: dict[str, tuple[bytes, int, bytes]] = {
    "garbage": (b"\x00\x01\x02 no HTTP at all\r\n\r\n", 503, b"no_node_available"),
    "nothing": (b"", 503, b"no_node_available"),
    "a head that never ends": (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000, 503, b"no_node_available"),
    "a redirect": (
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:9/\r\ncontent-length: 0\r\n\r\n",
        502,
        b"upstream_failed",
    ),
    "a traceback": (
        b"HTTP/1.1 500 No\r\ncontent-length: 33\r\n\r\nTraceback (most recent call last)",
        502,
        b"upstream_failed",
    ),
    "cut after the first token": (
        chunked(EVENT)[: -len(b"0\r\n\r\n")],
        200,
        b"upstream_failed",
    ),
    "wrong chunk size": (chunked(EVENT).replace(b"0\r\n\r\n", b"zz\r\n\r\n"), 200, b"upstream_failed"),
}


@pytest.mark.parametrize("case", ANSWERS)
async def test_bad_answers_end_in_a_clear_error(gateway: Cluster, case: str) -> None:
    async with rogue_in(gateway) as rogue:
        await known(gateway)
        rogue.answer, status, words = ANSWERS[case]
        response = await ask(gateway)
        assert response.status_code == status
        assert words in response.content
        assert b"Traceback" not in response.content
        assert "location" not in response.headers
        assert gateway.status()["in_flight"] == 0


async def test_a_node_speaks_to_clients_only_through_its_answer(gateway: Cluster) -> None:
    async with rogue_in(gateway) as rogue:
        await known(gateway)
        forged = b"x-isochrone-node: honest\r\nx-isochrone-decision: req-0\r\nset-cookie: a=b\r\n"
        rogue.answer = chunked(EVENT, DONE, headers=forged)
        response = await ask(gateway)
        assert response.status_code == 200
        assert response.headers.get_list("x-isochrone-node") == ["rogue"]
        assert response.headers["x-isochrone-decision"] != "req-0"
        assert "set-cookie" not in response.headers


async def test_lies_in_trailers_are_not_learned(gateway: Cluster) -> None:
    lies = (
        b'x-isochrone-timings: {"prefill_ms":1,"prompt_tokens":90000000,"output_tokens":90000000}\r\n'
        b'x-isochrone-load: {"slots":1,"wait_s":-5}\r\n'
    )
    async with rogue_in(gateway) as rogue:
        await known(gateway)
        rogue.answer = chunked(EVENT, DONE, trailers=lies)
        for _ in range(3):
            assert (await ask(gateway)).status_code == 200
        record = gateway.decision("last")
        assert record["candidates"][0]["prompt_tokens"] < 100
        await undecodable(gateway, 3)


async def test_a_client_that_leaves_at_done_has_been_answered(gateway: Cluster) -> None:
    """`[DONE]` is held back until the node has ended its message, which may be a while later."""
    whole = chunked(EVENT, DONE)
    async with rogue_in(gateway) as rogue, httpx.AsyncClient(timeout=20) as client:
        await known(gateway)
        rogue.answer, rogue.afterthought = whole[: -len(b"0\r\n\r\n")], b"0\r\n\r\n"
        url = f"{gateway.url}/v1/chat/completions"
        async with client.stream("POST", url, json=BODY) as response:
            async for line in response.aiter_lines():
                if "[DONE]" in line:
                    break
        record = await asyncio.to_thread(gateway.decision, response.headers["x-isochrone-decision"])
        assert [outcome["kind"] for outcome in record["outcomes"]] == ["answered"]


async def test_the_clients_key_stays_with_the_gateway(gateway: Cluster) -> None:
    async with rogue_in(gateway) as rogue:
        await known(gateway)
        rogue.answer = chunked(EVENT, DONE)
        async with httpx.AsyncClient(
            headers={"authorization": "Bearer sk-client", "cookie": "c=1"}
        ) as client:
            await client.post(f"{gateway.url}/v1/chat/completions", json=BODY)
        assert b"sk-client" not in rogue.asked[0]
        assert b"cookie" not in rogue.asked[0].lower()


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254", "http://0.0.0.0:80", "file:///etc/passwd", "http://h:99999"]
)
async def test_cards_with_addresses_that_must_not_be_called(gateway: Cluster, url: str) -> None:
    bus = await NatsBus.connect(gateway.nats_url, token=TOKEN, name="rogue")
    rogue = Rogue(bus, card=NodeCard("rogue", url, models=(ModelCard(MODEL),)))
    life = asyncio.create_task(rogue.live())
    try:
        await undecodable(gateway, 1)
        assert gateway.node("rogue") is None
    finally:
        life.cancel()
        await bus.close()


async def test_junk_and_other_nodes_names_on_the_bus(gateway: Cluster) -> None:
    async with rogue_in(gateway):
        await known(gateway)
        before = gateway.node("rogue")
        client = await nats.connect(gateway.nats_url, token=TOKEN)
        for junk in (b"", b"{", b"[" * 50_000, b'{"node":"x"}', b"\xff" * 1000):
            await client.publish("isochrone.pulse.rogue", junk)
        forged = Pulse("rogue", 2**40, 1, "", Load(1, running=1, wait_s=1e4), ())
        await client.publish("isochrone.pulse.other", encode_pulse(forged))
        await client.close()
        await undecodable(gateway, 6)
        after = gateway.node("rogue")
        assert (after["slots"], after["queue_s"]) == (before["slots"], before["queue_s"])


async def undecodable(cluster: Cluster, count: int) -> None:
    def counted() -> bool:
        lines = httpx.get(f"{cluster.url}/metrics").text.splitlines()
        (line,) = (line for line in lines if line.startswith("isochrone_messages_undecodable "))
        return float(line.split()[1]) >= count

    await asyncio.to_thread(until, f"{count} messages are dropped", counted)
