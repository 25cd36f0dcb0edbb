"""Connections of a client: those at work, and those kept for the next request."""

import asyncio
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from isochrone.relay.limits import ClientLimits

if TYPE_CHECKING:
    from isochrone.relay.link import Link


class Origin(NamedTuple):
    """Where a connection leads."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class Pool:
    """Keeps connections that have answered, youngest first, and drops those that age.

    Attributes:
        links: all connections that are open, at work or idle.
        empty: set while there are none.
    """

    def __init__(self, limits: ClientLimits) -> None:
        self.links: set[Link] = set()
        self.empty = asyncio.Event()
        self._limits = limits
        self._idle: dict[Origin, deque[Link]] = {}
        self._sweep_timer: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> int:
        """How many connections wait for a request."""
        return sum(map(len, self._idle.values()))

    def take(self, origin: Origin) -> "Link | None":
        """The connection to `origin` that was used last, or None."""
        kept = self._idle.get(origin)
        while kept:
            link = kept.pop()
            if link.usable:
                return link
        return None

    def put(self, link: "Link") -> None:
        """Keep `link`; the oldest of its origin goes when there are too many."""
        kept = self._idle.setdefault(link.origin, deque())
        kept.append(link)
        link.idle_since_s = asyncio.get_running_loop().time()
        if len(kept) > self._limits.idle_per_origin_max:
            kept.popleft().cut()
        if self._sweep_timer is None:
            self._sweep_in(self._limits.idle_s_max)

    def add(self, link: "Link") -> None:
        """`link` is open."""
        self.links.add(link)
        self.empty.clear()

    def forget(self, link: "Link") -> None:
        """`link` is closed."""
        self.links.discard(link)
        if not self.links:
            self.empty.set()
        kept = self._idle.get(link.origin)
        if kept and link in kept:
            kept.remove(link)

    def close(self) -> None:
        """Cut all connections."""
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        self._idle.clear()
        for link in tuple(self.links):
            link.cut()

    def _sweep_in(self, delay_s: float) -> None:
        self._sweep_timer = asyncio.get_running_loop().call_later(delay_s, self._sweep)

    def _sweep(self) -> None:
        """Drop what is too old, and look again when the oldest of the rest will be."""
        self._sweep_timer = None
        too_old_s = asyncio.get_running_loop().time() - self._limits.idle_s_max
        for origin, kept in tuple(self._idle.items()):
            while kept and kept[0].idle_since_s <= too_old_s:
                kept.popleft().cut()
            if not kept:
                del self._idle[origin]
        if self._idle:
            oldest_s = min(kept[0].idle_since_s for kept in self._idle.values())
            self._sweep_in(oldest_s - too_old_s)
