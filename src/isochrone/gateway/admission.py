"""Whether a request may begin: bounds of the gateway and limits of its key, with all workers."""

import asyncio

from isochrone.gateway.crew import CONCURRENCY, Crew, Grant, Limiter, SharedTally, Shortage, tokens_taken
from isochrone.gateway.key_metrics import KeyMetrics
from isochrone.model import FleetView, Key, Request
from isochrone.ports import Clock
from isochrone.routing import expected_tokens
from isochrone.wire.explain import Record

_LOOKS, _LOOK_S = 10, 0.005
"""How often, and how far apart, a key's concurrency is looked at before a request is refused for it."""


class Admission:
    """Counts requests in and out.

    Attributes:
        in_flight: requests under way, of all workers.
        id_prefix: how the ids of this worker's decisions begin.
    """

    def __init__(self, crew: Crew, metrics: KeyMetrics, clock: Clock) -> None:
        self.in_flight: SharedTally = crew.table.requests
        self.id_prefix = crew.id_prefix
        self._limiter, self._metrics, self._clock = Limiter(crew.table), metrics, clock
        self._looks = _LOOKS if crew.workers > 1 else 0

    def grant(self, key: Key | None, view: FleetView, request: Request) -> Grant | Shortage | None:
        """Count a request against its key; None where there is nothing to count."""
        if key is None or key.slot is None:
            return None
        return self._limiter.admit(key, expected_tokens(view, request), view.now_s)

    async def look_again(self, shortage: Shortage) -> Grant | Shortage:
        """What becomes of a request that can't begin now.

        A client whose last answer has just ended may be sooner at this worker with its next request than the
        other one is with its books: so concurrency is looked at again for a moment.
        """
        key, tokens = shortage.key, shortage.tokens
        again: Grant | Shortage = shortage
        for _ in range(self._looks):
            if not isinstance(again, Shortage) or again.limit != CONCURRENCY:
                break
            await asyncio.sleep(_LOOK_S)
            again = self._limiter.admit(key, tokens, self._clock.now_s())
        if isinstance(again, Shortage):
            self._metrics.refused(key, again.limit)
        return again

    def settle(self, key: Key | None, grant: Grant | None, record: Record | None) -> None:
        """The request has ended: what it took is known now."""
        if key is None:
            return
        tokens = tokens_taken(record)
        self._metrics.served(key, tokens)
        if grant is not None:
            self._limiter.settle(grant, tokens, self._clock.now_s())
