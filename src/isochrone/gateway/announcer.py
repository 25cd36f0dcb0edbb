"""Every decision as one event on the bus, while anybody listens."""

from collections.abc import Coroutine
from typing import Any

from isochrone.ports import Bus, Clock
from isochrone.wire.explain import Record, encode_record

ASK_S = 1.0
"""Between two looks whether anybody listens: so long a new listener waits at most."""


class Announcer:
    """Says what was decided and what became of it.

    A record tells the estimate of every candidate, most of which nobody looks at otherwise: working them out
    and writing them down is a sixth of a request. So a record a second is sent in a way that tells whether
    it reached anybody, and the others only when that one did.
    """

    def __init__(self, bus: Bus, clock: Clock, subject: str) -> None:
        self._bus, self._clock, self._subject = bus, clock, subject
        self._listened = False
        self._ask_at_s = -float("inf")

    def announce(self, record: Record) -> Coroutine[Any, Any, None] | None:
        """What is to be done to announce `record`; None when nobody listens."""
        now_s = self._clock.now_s()
        if now_s >= self._ask_at_s:
            self._ask_at_s = now_s + ASK_S
            return self._ask(record)
        return self._bus.publish(self._subject, encode_record(record)) if self._listened else None

    async def _ask(self, record: Record) -> None:
        self._listened = await self._bus.publish_heard(self._subject, encode_record(record))
