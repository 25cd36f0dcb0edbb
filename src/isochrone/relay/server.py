"""The server: a door, its connections, and an orderly end."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from isochrone.relay.connection import Connection, Service
from isochrone.relay.exchange import Handler
from isochrone.relay.limits import ServerLimits
from isochrone.relay.tally import OwnTally, Tally

_CUT_S = 1.0
_BACKLOG = 1024
_HANDSHAKE_S_MAX = 10.0


@dataclass(frozen=True, slots=True)
class Listening:
    """How to listen.

    Attributes:
        tls: speak TLS with this, or None: plain TCP.
        shared: other processes of ours listen on the same port, and the system divides the clients.
    """

    tls: ssl.SSLContext | None = None
    shared: bool = False


def plain_error_body(status: int, message: str) -> bytes:
    """An error in the shape that OpenAI's clients read."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": None}}).encode()


class HttpServer:
    """HTTP/1.1 and HTTP/1.0 over TCP.

    Each exchange runs `handler` in a task of its own, cancelled when the client goes before the reply has
    ended. A handler that raises, or leaves no whole reply, gets the client a 500 or a truncated body, and
    `on_crash` the exception.
    """

    def __init__(
        self,
        handler: Handler,
        limits: ServerLimits = ServerLimits(),  # noqa: B008 - frozen
        *,
        error_body: Callable[[int, str], bytes] = plain_error_body,
        on_crash: Callable[[BaseException], None] | None = None,
        tally: Tally | None = None,
    ) -> None:
        """`tally`: counts connections together with other servers; default: this one's alone."""
        self._service = Service(handler, limits, error_body, on_crash or _ignore, tally or OwnTally())
        self._listener: asyncio.Server | None = None

    @property
    def connections(self) -> int:
        """Connections now open, and handlers whose client has gone but which have not ended yet."""
        return len(self._service.connections)

    async def start(self, host: str, port: int, way: Listening = Listening()) -> int:
        """Listen, and return the port (chosen by the system for 0). Raises OSError when it is taken."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: Connection(self._service),
            host,
            port,
            backlog=_BACKLOG,
            ssl=way.tls,
            ssl_handshake_timeout=_HANDSHAKE_S_MAX if way.tls is not None else None,
            reuse_port=way.shared,
        )
        return int(self._listener.sockets[0].getsockname()[1])

    async def close(self, grace_s: float = 5.0) -> None:
        """Stop listening, close what is idle, let exchanges end within `grace_s` seconds, cut the rest.

        Returns about a second after that at the latest, even when a handler refuses to be cancelled.
        """
        if self._listener is not None:
            self._listener.close()
        self._service.closing = True
        for connection in tuple(self._service.connections):
            connection.retire()
        await self._emptied(grace_s)
        for connection in tuple(self._service.connections):
            connection.drop()
        await self._emptied(_CUT_S)
        if self._listener is not None:
            await self._listener.wait_closed()
            self._listener = None

    async def _emptied(self, within_s: float) -> None:
        if self._service.connections:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    await self._service.empty.wait()


def _ignore(error: BaseException) -> None:
    """Let a crash pass: who wants to know of it says so."""
