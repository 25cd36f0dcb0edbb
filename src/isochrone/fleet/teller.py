"""What is to be told to the other gateways of a company: gathered for a moment, then said in one message."""

from dataclasses import dataclass, field, replace

from isochrone.model import EndedWork, Estimate, LedgerNews, Me, SentWork

TOLD_AT_ONCE_MAX = 256
"""Dispatches and ends in one message; with so many it is due at once."""

OPEN_MAX = 16_384
"""So many dispatches that were told have not ended; the end of an older one is told to nobody."""
AGE_S_MAX = 5.0
"""A dispatch that could not be told for so long is not told any more."""
SERVICE_S_MAX = 3600.0
"""No request is told to take longer."""


@dataclass(slots=True)
class Teller:
    """News of our own ledger that was not told yet. Whoever is to hear it is told with each piece.

    Attributes:
        me: who tells.
        epoch: start of our process, as in our pulses.
        mates: names of those that are to hear what is gathered; empty when nothing is.
        told: dispatches told since the start.
    """

    me: Me
    epoch: int
    mates: frozenset[str] = frozenset()
    told: int = 0
    _seq: int = 0
    _sent: list[tuple[float, SentWork]] = field(default_factory=list)
    _ended: dict[tuple[str, str], EndedWork] = field(default_factory=dict)
    _open: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict)

    def sent(self, work: SentWork, mates: frozenset[str], now_s: float) -> bool:
        """A request left for a node, and `mates` are to know. Returns whether nothing was gathered yet."""
        if not mates:
            return False
        first = not self.mates
        self._ended.pop((work.request, work.node), None)  # it balked and comes again; ends are read last
        self._sent.append((now_s, work))
        self._open[work.request, work.node] = mates
        if len(self._open) > OPEN_MAX:
            del self._open[next(iter(self._open))]
        self.mates |= mates
        self.told += 1
        return first

    def ended(self, request: str, node: str, *, untaken: bool = False) -> bool:
        """A request is on its node no more: who was told of it is to know. Returns as `sent` does.

        `untaken` when the node took no work by it.
        """
        mates = self._open.pop((request, node), None)
        if mates is None:
            return False
        first = not self.mates
        self._ended[request, node] = EndedWork(request, node, untaken)
        self.mates |= mates
        return first

    @property
    def full(self) -> bool:
        """Whether as much is gathered as one message may hold."""
        return len(self._sent) + len(self._ended) >= TOLD_AT_ONCE_MAX

    def take(self, now_s: float) -> tuple[frozenset[str], LedgerNews]:
        """Who is to hear what was gathered, and that; from now on nothing is gathered."""
        self._seq += 1
        sent = tuple(
            replace(work, age_s=now_s - at_s) for at_s, work in self._sent if now_s - at_s <= AGE_S_MAX
        )
        news = LedgerNews(
            self.me.name, self.epoch, self._seq, self.me.region, sent=sent, ended=tuple(self._ended.values())
        )
        mates, self.mates = self.mates, frozenset()
        self._sent.clear()
        self._ended.clear()
        return mates, news


def sent_work(request: str, node: str, model: str, estimate: Estimate) -> SentWork:
    """A dispatch as others are told of it."""
    service_s, prefill_s = estimate.service_s, estimate.prefill_ms / 1e3
    return SentWork(request, node, model, min(service_s, SERVICE_S_MAX), min(prefill_s, SERVICE_S_MAX))
