"""What every long-running command shares: the loop, the signals, the words."""

import asyncio
import errno
import gc
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

_GC_THRESHOLD = (2_000, 200, 100)
"""How many more objects there are before cycles are looked for: rarely among those that last, for a gateway
holds many and next to no cycles; and never among so many at once that answers wait (decision 0014)."""

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
        gc.collect()
        gc.freeze()  # what is there now stays: it is not looked through again and again
        gc.set_threshold(*_GC_THRESHOLD)
        await waiting
    finally:
        waiting.cancel()
        await stop()


def network_token() -> str:
    """The network's token, from the environment: never from the arguments, which everybody can see."""
    return secret(TOKEN_VARIABLE)


def secret(variable: str) -> str:
    """A secret from the environment, without the line's end that files often give it; "" when not set.

    Raises SettingError, without quoting it, when it could not stand in a header.
    """
    return _checked(os.environ.get(variable, ""), variable)


def secrets(variable: str) -> list[str]:
    """Secrets from the environment, separated by commas. Raises SettingError as `secret` does."""
    values = [_checked(value, variable) for value in os.environ.get(variable, "").split(",")]
    return [value for value in values if value]


def _checked(value: str, variable: str) -> str:
    value = value.strip()
    if not all("!" <= character <= "~" for character in value):
        raise SettingError(f"{variable} must consist of printable ASCII characters without spaces")
    return value


def cannot_listen(what: str, where: tuple[str, int], option: str, error: OSError) -> SettingError:
    """The error for an address that can't be listened on, most often because the port is in use."""
    host, port = where
    if error.errno != errno.EADDRINUSE:
        return SettingError(f"{what} can't listen on {host}:{port}: {error.strerror or error}")
    return SettingError(
        f"{what} can't listen on {host}:{port}: the port is taken; stop what uses it, or choose another "
        f"with {option}"
    )
