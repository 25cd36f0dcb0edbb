"""Telling the other gateways of our company what we send, and hearing what they send."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from isochrone.fleet import Event, Fleet, LedgerHeard, Teller, sent_work
from isochrone.model import Estimate, Request
from isochrone.ports import Bus, Clock
from isochrone.routing import DEFAULT_COMPANY_SETTINGS
from isochrone.wire import WireError
from isochrone.wire.gateways import decode_ledger_news, encode_ledger_news
from isochrone.wire.subjects import LEDGER_OF, ledger_subject


class Telling:
    """Gathers news of our ledger for a moment and sends it to each gateway that is to know.

    A message costs next to nothing beside a request; it is lost when the bus is away, and then the nodes'
    own words tell of the same work a little later.

    Attributes:
        heard: messages of others that were taken in since the start.
        undecodable: those that made no sense.
    """

    def __init__(
        self,
        teller: Teller,
        *,
        fleet: Fleet,
        bus: Bus,
        clock: Clock,
        fold: Callable[[Event], None],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        """`teller` gathers for us; `fold` takes in what others tell; `spawn` runs what is to be sent."""
        self._teller, self._name = teller, teller.me.name
        self._fleet, self._bus, self._clock, self._fold, self._spawn = fleet, bus, clock, fold, spawn
        self._due: asyncio.TimerHandle | None = None
        self._stopped = False
        self.heard = self.undecodable = 0

    async def start(self) -> None:
        """Listen to what the others tell us."""
        await self._bus.subscribe(LEDGER_OF.format(self._name), self._heard, urgent=True)

    def stop(self) -> None:
        """Tell nothing more, not even what is gathered."""
        self._stopped = True
        if self._due is not None:
            self._due.cancel()

    @property
    def told(self) -> int:
        """Dispatches told since the start."""
        return self._teller.told

    def dispatched(self, request: Request, node: str, estimate: Estimate) -> None:
        """A request of ours left for a node."""
        company = self._fleet.company(request.model)
        if company is not None and company.mates:
            work = sent_work(request.id, node, request.model, estimate)
            self._gathered(first=self._teller.sent(work, company.mates, self._clock.now_s()))

    def finished(self, request: Request, node: str, *, untaken: bool = False) -> None:
        """It is on that node no more; `untaken` when the node took no work by it."""
        self._gathered(first=self._teller.ended(request.id, node, untaken=untaken))

    # -- out -----------------------------------------------------------------------------------------

    def _gathered(self, *, first: bool) -> None:
        if self._stopped:
            return
        if first:
            loop, after_s = asyncio.get_running_loop(), DEFAULT_COMPANY_SETTINGS.told_after_s
            self._due = loop.call_later(after_s, self._send)
        elif self._teller.full and self._due is not None:
            self._due.cancel()
            self._send()

    def _send(self) -> None:
        self._due = None
        mates, news = self._teller.take(self._clock.now_s())
        self._spawn(self._publish(mates, encode_ledger_news(news)))

    async def _publish(self, mates: frozenset[str], payload: bytes) -> None:
        for mate in sorted(mates):
            await self._bus.publish(ledger_subject(mate, self._name), payload)

    # -- in ------------------------------------------------------------------------------------------

    def _heard(self, subject: str, payload: bytes) -> None:
        try:
            news = decode_ledger_news(payload)
        except WireError:
            self.undecodable += 1
            return
        if subject != ledger_subject(self._name, news.gateway):  # whoever may publish there is that gateway
            self.undecodable += 1
            return
        self.heard += 1
        self._fold(LedgerHeard(news))
