"""The client: asks, over a connection from the pool when there is one."""

import asyncio
import contextlib
import re
import ssl
import time
from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

from isochrone.ports.errors import UpstreamError
from isochrone.relay.head import Headers, request_head
from isochrone.relay.limits import ClientLimits
from isochrone.relay.link import Link
from isochrone.relay.pool import Origin, Pool
from isochrone.relay.response import Response

_PORTS = {"http": 80, "https": 443}
_TARGET = re.compile(r"[!-~]*")
_CLOSE_S = 1.0
_ADDRESSES_MAX = 8192
"""URLs kept taken apart: a few of each node."""


def _nothing() -> None:
    """What most callers have to do meanwhile."""


class HttpClient:
    """HTTP/1.1 over TCP or TLS, with connections kept for the next request.

    There is no time-out but for connecting: callers know their deadlines, and cancel.
    """

    def __init__(
        self,
        limits: ClientLimits = ClientLimits(),  # noqa: B008 - frozen
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`tls`: whom to trust, where it is not who the system trusts."""
        self._limits, self._tls_given = limits, tls
        self._pool = Pool(limits)
        self._closed = False

    @property
    def connections(self) -> int:
        """Connections now open, at work or idle."""
        return len(self._pool.links)

    @property
    def idle(self) -> int:
        """Connections that wait for a request."""
        return self._pool.idle

    async def request(
        self,
        method: str,
        url: str,
        headers: Headers = (),
        body: bytes = b"",
        meanwhile: Callable[[], None] = _nothing,
    ) -> Response:
        """Send a request and wait for the head of the reply.

        A connection from the pool that the server closed before any byte of the reply is replaced by a
        fresh one, once: the server had most likely closed it before the request came.

        Args:
            method: upper case.
            url: `http://host:port/path?query` or `https://...`, percent-encoded.
            headers: names in lower case; the relay adds Host and Content-Length.
            body: the whole body.
            meanwhile: called once, before the first wait: where a connection is free, with the request on its
                way already. Must not raise.

        Raises:
            UpstreamError: the peer could not be reached, or gave no HTTP/1.1 reply.
            ValueError: a header holds CR, LF or NUL.
        """
        address = _Address.of(url)
        if self._closed:
            raise UpstreamError(f"{address.origin} was not asked: the client is closed")
        head = request_head(method, address.target, address.host, headers, len(body))
        link = self._pool.take(address.origin)
        response = None if link is None else link.ask(method, head, body, connect_ms=None)
        meanwhile()
        if response is not None:
            try:
                return await response.head_arrived()
            except UpstreamError:
                if not response.stale:
                    raise
        link, connect_ms = await self._connect(address.origin)
        return await link.ask(method, head, body, connect_ms=connect_ms).head_arrived()

    async def close(self) -> None:
        """Cut all connections and wait until they are closed; what still reads gets UpstreamError."""
        self._closed = True
        self._pool.close()
        if self._pool.links:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_S):
                    await self._pool.empty.wait()

    async def _connect(self, origin: Origin) -> tuple[Link, float]:
        began_s = time.perf_counter()
        tls = self._tls if origin.scheme == "https" else None
        link = Link(origin, self._pool, self._limits)
        connected = False
        try:
            async with asyncio.timeout(self._limits.connect_s_max):
                await asyncio.get_running_loop().create_connection(
                    lambda: link, origin.host, origin.port, ssl=tls
                )
            connected = True
        except TimeoutError as error:
            raise UpstreamError(
                f"{origin} did not take a connection in {self._limits.connect_s_max:g} s"
            ) from error
        except (OSError, UnicodeError) as error:
            raise UpstreamError(f"{origin} can't be reached: {error}") from error
        finally:
            if not connected:  # uvloop closes what is cancelled meanwhile, and does not say that it is lost
                self._pool.forget(link)
        if self._closed:  # meanwhile
            link.cut()
            raise UpstreamError(f"{origin} was not asked: the client is closed")
        return link, (time.perf_counter() - began_s) * 1e3

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return self._tls_given or ssl.create_default_context()


class _Address(NamedTuple):
    """A URL taken apart: where to connect, what to ask for, and the Host header."""

    origin: Origin
    target: str
    host: str

    @classmethod
    @lru_cache(maxsize=_ADDRESSES_MAX)
    def of(cls, url: str) -> "_Address":
        """Raises UpstreamError, for URLs come from other people's nodes."""
        try:
            parts = urlsplit(url)
            port = parts.port or _PORTS[parts.scheme]
        except (ValueError, KeyError) as error:
            raise UpstreamError(f"{url!r} is no http or https URL") from error
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        host = parts.netloc.rpartition("@")[2]
        if not parts.hostname or not _TARGET.fullmatch(target) or not _TARGET.fullmatch(host):
            raise UpstreamError(f"{url!r} is no http or https URL")
        return cls(Origin(parts.scheme, parts.hostname, port), target, host)
