"""What the tests of the bus share: a token, a free port, and how to wait for another process."""

import asyncio
import socket
from collections.abc import Callable

TOKEN = "s3cret-token"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    """Wait until `condition()` holds. Raises TimeoutError."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - another process's doing
            await asyncio.sleep(0.01)
