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
from isochrone.fleet.settings import FleetSettings
from isochrone.model import LedgerNews, Me, Places, SentWork

Nodes = Mapping[str, NodeBelief]


class Told:
    """The other gateways' word, in order. `heard` counts the dispatches folded in since the start."""

    def __init__(self, me: Me, places: Places, models: Models, settings: FleetSettings) -> None:
        self._me, self._places, self._models, self._settings = me, places, models, settings
        self._last: dict[str, tuple[int, int, float]] = {}
        self.heard = 0

    def fold(self, news: LedgerNews, nodes: Nodes, now_s: float) -> None:
        """Take a word in, unless it is older than the last of that gateway, which spoke a moment ago.

        What is not of our company for a model is none of ours: the plan expects it of everybody else.
        """
        if not self._is_new(news, now_s):
            return
        ahead_s = self._ahead_s(news.region)
        for work in news.sent:
            node = nodes.get(work.node)
            if node is not None and node.known and self._is_ours(work.model, news.gateway, node):
                at_s = now_s - work.age_s + ahead_s(node)
                reservation = Reservation(at_s, work.service_s, work.prefill_s)
                node.reserve_told((news.gateway, work.request), reservation, now_s)
                self._worsen(work, node)
                self.heard += 1
        left: dict[str, dict[tuple[str, str], bool]] = {}
        for ended in news.ended:
            left.setdefault(ended.node, {})[news.gateway, ended.request] = ended.untaken
        for name, untaken in left.items():
            node = nodes.get(name)
            if node is not None:
                node.release_told(untaken, now_s)

    def _is_new(self, news: LedgerNews, now_s: float) -> bool:
        epoch, seq, at_s = self._last.get(news.gateway, (-1, -1, now_s))
        if (news.epoch, news.seq) <= (epoch, seq) and now_s - at_s < self._settings.silent_s:
            return False
        self._last.pop(news.gateway, None)
        self._last[news.gateway] = news.epoch, news.seq, now_s
        if len(self._last) > self._settings.gateways_max:
            del self._last[next(iter(self._last))]
        return True

    def _is_ours(self, model: str, gateway: str, node: NodeBelief) -> bool:
        """Whether `node` lists `model`, and `gateway` is of our company for it, as far as there is a plan."""
        if model not in node.speeds:
            return False
        plan = self._models.of(model).plan
        return plan is None or plan.company is None or gateway in plan.company.mates

    def _worsen(self, work: SentWork, node: NodeBelief) -> None:
        """The next is later there, as after a dispatch of ours."""
        lore = self._models.of(work.model)
        row = lore.table.row_of(node.row)
        if lore.front is not None and row is not None:
            lore.front.worsen(row, max(work.prefill_s, work.service_s / node.slots))

    def _ahead_s(self, region: str) -> Callable[[NodeBelief], float]:
        """By node, when we would have had to send, against when this message came, in seconds.

        Where the region table does not know a way, it is taken to be as long as ours.
        """
        ours, rtt_ms = self._me.region, self._places.known_rtt_ms
        way_ms = rtt_ms(region, ours)
        if region == ours or way_ms is None:
            return lambda _node: 0.0

        def ahead_s(node: NodeBelief) -> float:
            theirs_ms, ours_ms = rtt_ms(region, node.card.region), rtt_ms(ours, node.card.region)
            longer_ms = 0.0 if theirs_ms is None or ours_ms is None else theirs_ms - ours_ms
            return (longer_ms - way_ms) / 2e3

        return ahead_s
