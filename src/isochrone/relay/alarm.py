"""A deadline that moves often and seldom comes."""

import asyncio
from collections.abc import Callable


class Alarm:
    """Rings once when the delay last set has passed.

    Setting and clearing happen with each request, so they only note a time: the one timer underneath
    is moved when it goes off early, or when the deadline comes to lie before it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._due_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def set(self, delay_s: float) -> None:
        """Ring in `delay_s` seconds and not before."""
        due_s = self._due_s = self._loop.time() + delay_s
        if self._timer is not None and due_s < self._timer.when():
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self._loop.call_at(due_s, self._check)

    def clear(self) -> None:
        """Do not ring."""
        self._due_s = None

    def close(self) -> None:
        """Never ring again."""
        self.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        self._timer = None
        if self._due_s is None:
            return
        if self._loop.time() + 1e-3 < self._due_s:
            self._timer = self._loop.call_at(self._due_s, self._check)
        else:
            self._due_s = None
            self._ring()
