"""What other gateways told of their dispatches, folded into what is believed of the nodes.

Several gateways that share nodes each see a part of what goes there, and a node's own word is old by its age
and its way. So gateways tell each other each dispatch and each end at once (decision 0021), and it counts
here as our own would: until a report of the node knows of it.

A dispatch that left another gateway at t reaches the node as one of ours would that left at
t + (rtt(other, node) - rtt(us, node)) / 2. It is noted with that time, by the region table.
"""

from collections.abc import Callable, Mapping

from isochrone.fleet.ledger import Reservation
from isochrone.fleet.models import Models
from isochrone.fleet.node import NodeBelief
from isochrone.model import LedgerNews, Me, Places, SentWork

Nodes = Mapping[str, NodeBelief]


class Told:
    """The other gateways' word, in order. `heard` counts the dispatches folded in since the start."""

    def __init__(self, me: Me, places: Places, models: Models, *, most: int) -> None:
        """`most`: gateways remembered; the one not heard of for longest gives way."""
        self._me, self._places, self._models, self._most = me, places, models, most
        self._last: dict[str, tuple[int, int]] = {}
        self.heard = 0

    def fold(self, news: LedgerNews, nodes: Nodes, now_s: float) -> None:
        """Take a word in; one that is not newer than the last of that gateway is dropped."""
        word = news.epoch, news.seq
        if word <= self._last.get(news.gateway, (-1, -1)):
            return
        self._last.pop(news.gateway, None)
        self._last[news.gateway] = word
        if len(self._last) > self._most:
            del self._last[next(iter(self._last))]
        ahead = self._ahead_s(news.region)
        for work in news.sent:
            node = nodes.get(work.node)
            if node is not None and node.known:
                self._sent(work, news.gateway, node, now_s - work.age_s + ahead(node), now_s)
        for ended in news.ended:
            node = nodes.get(ended.node)
            if node is not None:
                node.release_told((news.gateway, ended.request))

    def _sent(self, work: SentWork, gateway: str, node: NodeBelief, at_s: float, now_s: float) -> None:
        self.heard += 1
        node.reserve_told((gateway, work.request), Reservation(at_s, work.service_s, work.prefill_s), now_s)
        lore = self._models.look(work.model)
        row = lore.table.row_of(node.row)
        if lore.front is not None and row is not None:
            lore.front.worsen(row, max(work.prefill_s, work.service_s / node.slots))

    def _ahead_s(self, region: str) -> Callable[[NodeBelief], float]:
        """By node, when we would have had to send, against when this message came, in seconds."""
        if region == self._me.region:
            return lambda _node: 0.0
        ours, rtt_ms = self._me.region, self._places.rtt_ms
        way_ms = rtt_ms(region, ours) / 2

        def ahead_s(node: NodeBelief) -> float:
            there = node.card.region
            return ((rtt_ms(region, there) - rtt_ms(ours, there)) / 2 - way_ms) / 1e3

        return ahead_s
