"""Servers that count their clients together, as the workers of one gateway do."""

import asyncio

from server_nouns import GET, echo

from isochrone.relay import HttpServer, Listening, ServerLimits
from isochrone.relay.tally import OwnTally


async def test_clients_of_two_servers_are_bounded_together_and_given_back():
    tally, limits = OwnTally(), ServerLimits(connections_max=2)
    servers = [HttpServer(echo, limits, tally=tally) for _ in range(2)]
    ports = [await server.start("127.0.0.1", 0) for server in servers]

    async def status(port: int) -> tuple[bytes, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET + b"\r\n")
        return (await reader.readline())[9:12], writer

    first, second = await status(ports[0]), await status(ports[1])
    assert (first[0], second[0]) == (b"200", b"200")
    crowded = [await status(port) for port in ports]
    assert [told for told, _ in crowded] == [b"503", b"503"]
    for _, writer in (first, second, *crowded):
        writer.close()
    async with asyncio.timeout(3.0):
        for server in servers:
            await server._service.empty.wait()
    again = [await status(port) for port in ports]
    assert [told for told, _ in again] == [b"200", b"200"]
    for _, writer in again:
        writer.close()
    for server in servers:
        await server.close(grace_s=0)
    assert tally.enter() == 1, "none is left"


async def test_two_servers_of_ours_may_share_a_port():
    servers = [HttpServer(echo) for _ in range(2)]
    port = await servers[0].start("127.0.0.1", 0, Listening(shared=True))
    assert await servers[1].start("127.0.0.1", port, Listening(shared=True)) == port
    for server in servers:
        await server.close(grace_s=0)
