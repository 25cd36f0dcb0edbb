"""What every long-running command shares: the loop, the signals, the words."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import uvloop

from isochrone.ports import SettingError

TOKEN_VARIABLE = "ISOCHRONE_TOKEN"  # noqa: S105 - the name of a variable
API_KEYS_VARIABLE = "ISOCHRONE_API_KEYS"

_T = TypeVar("_T")


def log(line: str) -> None:
    """One line for whoever watches, with the time of day."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stderr.flush()


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run `work` on uvloop; Ctrl-C cancels it and lets it clean up."""
    return uvloop.run(work)


async def until_signal(start: Callable[[], Awaitable[None]], stop: Callable[[], Awaitable[None]]) -> None:
    """Start, wait for SIGINT or SIGTERM (which may come while starting), and stop."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked.set)
    starting = asyncio.ensure_future(start())
    waiting = asyncio.ensure_future(asked.wait())
    try:
        await asyncio.wait((starting, waiting), return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            return
        await starting
        await waiting
    finally:
        waiting.cancel()
        await stop()


def network_token() -> str:
    """The network's token, from the environment: never from the arguments, which everybody can see."""
    return os.environ.get(TOKEN_VARIABLE, "")


def taken(what: str, host: str, port: int, option: str) -> SettingError:
    """The error for a port that is in use."""
    return SettingError(
        f"{what} can't listen on {host}:{port}: the port is taken; stop what uses it, or choose another "
        f"with {option}"
    )
