"""A client that stops reading stops us from reading its node, and what waits in memory is bounded."""

import asyncio

from live_nouns import PATIENCE_S, Live, Talk, live

from isochrone.relay import ClientLimits, ServerLimits

EVENT = b"data: " + b"x" * 8186 + b"\n\n"
COUNT = 4000
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
ONE_READ_BYTES = 256 * 1024
ASK = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b"
    % (len(body := b'{"model":"tiny","stream":true,"messages":[{"role":"user","content":"?"}]}'), body)
)


class Flood:
    """Sends 32 MB to whoever asks, as fast as they are taken."""

    def __init__(self) -> None:
        self.sent: dict[int, int] = {}

    async def __call__(self, talk: Talk, _body: bytes) -> None:
        talk.send(HEAD)
        for _ in range(COUNT):
            talk.send(b"%x\r\n%b\r\n" % (len(EVENT), EVENT))
            self.sent[id(talk)] = self.sent.get(id(talk), 0) + len(EVENT)
            await talk.writer.drain()
        talk.send(b"0\r\n\r\n")


def in_memory(gateway: Live) -> list[int]:
    """Bytes that wait in this process on their way to clients, for each of them."""
    clients = [c._transport.get_write_buffer_size() for c in gateway.gateway._server._service.connections]
    nodes = [
        link._response._reader.buffered_bytes
        for link in gateway.gateway._client._pool.links
        if link._response is not None
    ]
    return [*clients, *nodes]


def all_stuck(gateway: Live, count: int) -> bool:
    links = [link for link in gateway.gateway._client._pool.links if link._response is not None]
    return len(links) == count and all(link._response._paused for link in links)


async def stuck(gateway: Live, count: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not all_stuck(gateway, count):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)


async def test_who_reads_nothing_holds_back_the_node_and_others_go_on():
    flood = Flood()
    async with live(flood) as gateway:
        slow = []
        for _ in range(4):
            reader, writer = await gateway.dial()
            writer.transport.pause_reading()
            writer.write(ASK)
            slow.append((reader, writer))
        await stuck(gateway, 4)
        of_a_node = ClientLimits().read_buffer_bytes_max + ONE_READ_BYTES
        # All that waits of a node may come on top of a buffer that is not quite full.
        room = ServerLimits().write_buffer_bytes_max + of_a_node
        assert max(in_memory(gateway)) <= room
        for _ in range(200):  # another is served meanwhile, and the systems' buffers fill up
            assert (await gateway.ask("GET", "/health")).status == 200
        assert max(in_memory(gateway)) <= room
        assert sum(in_memory(gateway)) <= 4 * (room + of_a_node)
        assert len(flood.sent) == 4
        assert all(sent < COUNT * len(EVENT) for sent in flood.sent.values())

        reader, writer = slow[0]
        writer.transport.resume_reading()
        got = bytearray()
        async with asyncio.timeout(PATIENCE_S):
            while piece := await reader.read(1 << 20):
                got += piece
        assert got.count(b"data: ") == COUNT
        assert got.endswith(b"0\r\n\r\n")


async def test_who_leaves_while_held_back_frees_the_node():
    async with live(Flood()) as gateway:
        _, writer = await gateway.dial()
        writer.transport.pause_reading()
        writer.write(ASK)
        await stuck(gateway, 1)
        writer.transport.abort()
        async with asyncio.timeout(PATIENCE_S):
            await gateway.node.quiet.wait()


async def test_who_reads_nothing_for_long_is_cut():
    limits = ServerLimits(write_s_max=0.05)
    async with live(Flood(), http=limits) as gateway:
        _, writer = await gateway.dial()
        writer.transport.pause_reading()
        writer.write(ASK)
        async with asyncio.timeout(PATIENCE_S):
            while not gateway.node.tasks:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0)
            await gateway.node.quiet.wait()
