"""`isochrone neighbour`: users of a node's own, who ask it directly and keep it busy."""

import asyncio
import random
from typing import Annotated

import msgspec
import typer

from isochrone.cli.shell import log, network_token, run, until_signal
from isochrone.cli.supervise import say_ready
from isochrone.ports import UpstreamError
from isochrone.relay import Headers, HttpClient
from isochrone.sim.live.workload import WorkloadSettings, generate

_PAUSE_AFTER_ERROR_S = 1.0


def neighbour(
    url: Annotated[str, typer.Argument(help="The node's own address.")],
    model: Annotated[str, typer.Option(help="What they ask for.")],
    users: Annotated[int, typer.Option(min=1, max=64, help="Each sends one request after the other.")] = 4,
    output_tokens: Annotated[int, typer.Option(min=1, help="Length of each answer.")] = 96,
    seed: Annotated[int, typer.Option(help="Of what they say.")] = 1,
) -> None:
    """Keep a node busy with real requests, in a closed loop, until stopped."""
    run(_run_neighbours(url.rstrip("/"), model, users, output_tokens, seed))


async def _run_neighbours(url: str, model: str, users: int, output_tokens: int, seed: int) -> None:
    client = HttpClient()
    token = network_token()
    headers: Headers = ((b"content-type", b"application/json"),)
    if token:
        headers = (*headers, (b"authorization", f"Bearer {token}".encode()))
    tasks: list[asyncio.Task[None]] = []

    async def one_user(number: int) -> None:
        settings = WorkloadSettings(rate_per_s=1.0, count=1_000_000, models=(model,))
        for arrival in generate(settings, seed + number):
            body = msgspec.json.encode(
                {
                    "model": model,
                    "messages": [{"role": "user", "content": arrival.prompt}],
                    "max_tokens": output_tokens,
                    "stream": True,
                }
            )
            try:
                response = await client.request("POST", f"{url}/v1/chat/completions", headers, body)
                try:
                    async for _ in response:
                        pass
                finally:
                    response.close()
                ok = response.status == 200
            except UpstreamError as error:
                log(f"user {number}: {error}")
                ok = False
            if not ok:
                await asyncio.sleep(_PAUSE_AFTER_ERROR_S * (1 + random.random()))

    async def start() -> None:
        tasks.extend(asyncio.create_task(one_user(number)) for number in range(users))
        say_ready(users=users)

    async def stop() -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await client.close()

    await until_signal(start, stop)
