"""What is believed of one node."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from isochrone.fleet.learn import Flow
from isochrone.fleet.ledger import Ledger, Reservation
from isochrone.fleet.settings import FleetSettings
from isochrone.fleet.speed import Speed
from isochrone.fleet.tables import NodeTable, wait_of_row_s
from isochrone.model import Estimate, Load, NodeCard, NodeView, Pulse, name_hash

_RTT_WINDOW = 16
_RTT_OUTLIER_FACTOR = 2.0
_RTT_OUTLIER_MS = 5.0
_NO_CARD = NodeCard(node="", url="")


@dataclass(slots=True)
class Rtt:
    """Round trip to one node: an average of samples, each cut off at twice the least of the last sixteen.

    Attributes:
        gain: weight of the newest sample.
        value_ms: the average; the region table's prior until the first sample.
        measured: whether a sample came in.
        spread_ms: mean deviation of samples from the average before them, begun at half the first (RFC 6298).
    """

    gain: float
    value_ms: float = 0.0
    measured: bool = False
    spread_ms: float = 0.0
    window: deque[float] = field(default_factory=lambda: deque(maxlen=_RTT_WINDOW))

    def add(self, sample_ms: float) -> None:
        """Take one probe in."""
        self.window.append(sample_ms)
        least_ms = min(self.window)
        sample_ms = min(sample_ms, _RTT_OUTLIER_FACTOR * least_ms + _RTT_OUTLIER_MS)
        off_ms = sample_ms - self.value_ms
        if self.measured:
            self.spread_ms += self.gain * (abs(off_ms) - self.spread_ms)
            self.value_ms += self.gain * off_ms
        else:
            self.value_ms, self.spread_ms, self.measured = sample_ms, sample_ms / 2, True


@dataclass(slots=True)
class Health:
    """How often a node failed lately.

    Attributes:
        failures: in a row.
        ejections: in a row.
        why: the last failure, in words.
    """

    failures: int = 0
    ejections: int = 0
    why: str = ""


class NodeBelief:
    """Everything believed of one node; changed only by `Fleet.step`.

    Its numbers stand in its row of the table. What only some nodes need (measured round trips, a ledger,
    failures) is made when first needed: a fleet may know a hundred thousand nodes.
    """

    __slots__ = (
        "_health",
        "_ledger",
        "_rtt",
        "_settings",
        "_table",
        "card",
        "card_asked_at_s",
        "card_digest",
        "name",
        "pulse",
        "row",
        "speeds",
    )

    def __init__(self, settings: FleetSettings, table: NodeTable, row: int, name: str) -> None:
        self._settings, self._table, self.row, self.name = settings, table, row, name
        self.card, self.card_digest, self.card_asked_at_s = _NO_CARD, "", float("-inf")
        self.pulse: Pulse | None = None
        self.speeds: dict[str, Speed] = {}
        self._rtt: Rtt | None = None
        self._ledger: Ledger | None = None
        self._health: Health | None = None
        table.name_hash[row] = name_hash(name)

    @property
    def known(self) -> bool:
        """Whether both its card and a pulse are here."""
        return bool(self.card_digest) and self.pulse is not None

    # -- load ----------------------------------------------------------------------------------------

    @property
    def load(self) -> Load:
        """Its load as last heard."""
        table, row = self._table, self.row
        return Load(
            slots=int(table.slots[row]),
            running=int(table.running[row]),
            queued=int(table.queued[row]),
            wait_s=float(table.wait_s[row]),
            backlog_s=float(table.backlog_s[row]),
            inflow=float(table.inflow[row]),
            kv_used=float(table.kv_used[row]),
            prefill_s=float(table.prefill_s[row]),
        )

    @property
    def slots(self) -> float:
        """How many requests it works on at once, as last heard."""
        return self._table.slots.item(self.row)

    @property
    def load_at_s(self) -> float:
        """When its load was last heard."""
        return self._table.load_at_s.item(self.row)

    @property
    def heard_at_s(self) -> float:
        """When anything was last heard of it."""
        return float(self._table.heard_at_s[self.row])

    def hear_load(self, load: Load, now_s: float) -> None:
        """Take in a load that the node reported just now."""
        table, row = self._table, self.row
        table.slots[row], table.running[row], table.queued[row] = load.slots, load.running, load.queued
        table.wait_s[row], table.backlog_s[row] = load.wait_s, load.backlog_s
        table.inflow[row], table.kv_used[row] = load.inflow, load.kv_used
        table.prefill_s[row] = load.prefill_s
        table.load_at_s[row] = table.heard_at_s[row] = now_s
        if table.own_unseen.item(row):
            self.count_unseen()

    def count_models(self) -> None:
        """Count anew which of its models are at work, where it lists several."""
        at_work = sum(speed.at_work for speed in self.speeds.values()) if len(self.speeds) > 1 else 0
        self._table.models_at_work[self.row] = at_work

    def wait_s(self, now_s: float) -> float:
        """Seconds until the prompt of a request that arrives now would begin."""
        row = self._table.numbers(self.row)
        return wait_of_row_s(row, now_s, self._settings.flow_memory_s)

    def _others_inflow(self, now_s: float) -> float:
        """Of the inflow that the node told, what did not come from us or our company."""
        own_flow = self._ledger.flow.at(now_s) if self._ledger is not None else 0.0
        return max(0.0, float(self._table.inflow[self.row]) - own_flow)

    # -- round trip ----------------------------------------------------------------------------------

    @property
    def rtt_ms(self) -> float:
        """Round trip from here: measured, or the region table's."""
        return float(self._table.rtt_ms[self.row])

    @property
    def rtt_measured(self) -> bool:
        """Whether the round trip was measured."""
        return self._rtt is not None

    @property
    def rtt_spread_ms(self) -> float:
        """How far measured round trips usually are from their average; 0 until measured."""
        return self._rtt.spread_ms if self._rtt is not None else 0.0

    def expect_rtt(self, rtt_ms: float) -> None:
        """Take the region table's word until the first measurement."""
        if self._rtt is None:
            self._table.rtt_ms[self.row] = rtt_ms
            self._recount()

    def measure_rtt(self, sample_ms: float, now_s: float) -> None:
        """Take one probe in: the node is alive, and this far."""
        if self._rtt is None:
            self._rtt = Rtt(self._settings.rtt_gain)
        self._rtt.add(sample_ms)
        self._table.rtt_ms[self.row] = self._rtt.value_ms
        self._table.heard_at_s[self.row] = now_s
        self._recount()

    def _recount(self) -> None:
        """What a report can't know of depends on how far the node is."""
        if self._ledger is not None and (self._ledger.open or self._ledger.told):
            self.count_unseen()

    # -- our own work --------------------------------------------------------------------------------

    @property
    def own_in_flight(self) -> int:
        """Our own requests on it."""
        return len(self._ledger.open) if self._ledger is not None else 0

    def reserve(self, request_id: str, estimate: Estimate, now_s: float) -> None:
        """Count one dispatch."""
        if self._ledger is None:
            self._ledger = Ledger(Flow(self._settings.flow_memory_s))
        reservation = Reservation(now_s, estimate.service_s, estimate.prefill_ms / 1e3)
        table, row = self._table, self.row
        table.own_flow[row], table.own_flow_at_s[row] = self._ledger.reserve(request_id, reservation), now_s
        table.own_in_flight[row] = len(self._ledger.open)
        self._add(reservation, only_adds=True)

    def reserve_told(self, key: tuple[str, str], reservation: Reservation, now_s: float) -> None:
        """Count a dispatch of another gateway's, by gateway and id; only its work if a report knows of it."""
        if self._ledger is None:
            self._ledger = Ledger(Flow(self._settings.flow_memory_s))
        table, row = self._table, self.row
        table.own_flow[row] = self._ledger.flow.add(reservation.service_s, now_s)
        table.own_flow_at_s[row] = now_s
        if reservation.at_s > self.load_at_s - table.rtt_ms.item(row) / 1e3:
            self._add(reservation, only_adds=self._ledger.reserve_told(key, reservation))

    def release_told(self, untaken: Mapping[tuple[str, str], bool], now_s: float) -> None:
        """End some of another gateway's, by whether the node took no work by it.

        No error when one was not counted, or is no more.
        """
        if self._ledger is None:
            return
        ended = {key: self._ledger.release_told(key) for key in untaken}
        for key, reservation in ended.items():
            if reservation is not None and untaken[key]:
                self._take_back(reservation, now_s)
        if any(ended.values()):
            self.count_unseen()

    def _take_back(self, reservation: Reservation, now_s: float) -> None:
        """The node took no work by that one."""
        if self._ledger is not None:
            self._table.own_flow[self.row] = self._ledger.flow.add(-reservation.service_s, now_s)
            self._table.own_flow_at_s[self.row] = now_s

    def _add(self, reservation: Reservation, *, only_adds: bool) -> None:
        """Count one that was just made; what others told may come in another order than it counts in."""
        if self._ledger is None or (self._ledger.newest(reservation) and only_adds):
            self._count((reservation,))
        else:
            self.count_unseen()

    def release(self, request_id: str, now_s: float, *, untaken: bool = False) -> None:
        """End one dispatch, `untaken` when the node took no work by it; no error when it was not open."""
        reservation = self._ledger.release(request_id) if self._ledger is not None else None
        if self._ledger is None or reservation is None:
            return
        table, row = self._table, self.row
        table.own_in_flight[row] = len(self._ledger.open)
        if untaken:
            self._take_back(reservation, now_s)
        if table.own_unseen.item(row):
            self.count_unseen()

    def count_unseen(self) -> None:
        """Count anew what of our work the last report can't know of."""
        rtt_s = self._table.rtt_ms.item(self.row) / 1e3
        unseen = self._ledger.unseen(self.load_at_s, rtt_s) if self._ledger is not None else ()
        table, row = self._table, self.row
        table.own_unseen[row] = table.own_unseen_s[row] = table.own_unseen_prefill_s[row] = 0.0
        table.own_idle_s[row] = table.own_prompt_idle_s[row] = 0.0
        self._count(unseen)

    def _count(self, dispatches: Sequence[Reservation]) -> None:
        """Add dispatches that the last report can't know of, each later than those counted before."""
        table, row = self._table, self.row
        (slots, running, queued, wait_s, backlog_s, prefill_s,
         own_unseen, own_s, own_prefill_s, idle_s, prompt_idle_s) = table.numbers(row)[:11]  # fmt: skip
        load_at_s = table.load_at_s.item(row)
        begun_s = wait_s if running + queued >= slots else backlog_s / slots
        for dispatch in dispatches:
            since_s = dispatch.at_s - load_at_s
            idle_s += max(0.0, since_s - begun_s - own_s / slots - idle_s)
            prompt_idle_s += max(0.0, since_s - prefill_s - own_prefill_s - prompt_idle_s)
            own_s += dispatch.service_s
            own_prefill_s += dispatch.prefill_s
        table.own_unseen[row] = own_unseen + len(dispatches)
        table.own_unseen_s[row], table.own_unseen_prefill_s[row] = own_s, own_prefill_s
        table.own_idle_s[row], table.own_prompt_idle_s[row] = idle_s, prompt_idle_s

    # -- health --------------------------------------------------------------------------------------

    @property
    def health(self) -> Health:
        """Its failures."""
        if self._health is None:
            self._health = Health()
        return self._health

    def blame(self, why: str, now_s: float) -> float | None:
        """Count a failure; returns for how many seconds that puts the node aside, or None.

        Failures of requests sent before an ejection do not prolong it.
        """
        health, settings = self.health, self._settings
        if now_s < self._table.ejected_until_s[self.row]:
            return None
        health.failures += 1
        health.why = why
        if health.failures < settings.failures_to_eject:
            return None
        eject_s: float = min(settings.eject_s * 2**health.ejections, settings.eject_s_max)
        health.ejections = min(health.ejections + 1, 30)
        health.failures = settings.failures_to_eject - 1
        self._table.ejected_until_s[self.row] = now_s + eject_s
        return eject_s

    def recover(self) -> None:
        """It answered: earlier failures count no more."""
        if self._health is not None:
            self._health.failures = self._health.ejections = 0

    def unavailable(self, now_s: float, *, bus_up: bool) -> str | None:
        """Why it may not be chosen now, or None. Silence says nothing while the bus is away."""
        if self.pulse is not None and self.pulse.leaving:
            return "is leaving"
        ejected_until_s = float(self._table.ejected_until_s[self.row])
        if now_s < ejected_until_s:
            return f"put aside for {ejected_until_s - now_s:.1f} s more: {self.health.why}"
        silent_s = now_s - self.heard_at_s
        if bus_up and silent_s > self._settings.silent_s:
            return f"silent for {silent_s:.1f} s"
        return None

    # -- as routing sees it --------------------------------------------------------------------------

    def view(self, model: str, now_s: float, *, bus_up: bool) -> NodeView:
        """The belief as routing reads it, for requests for `model`."""
        load = self.load
        return NodeView(
            node=self.name,
            url=self.card.url,
            region=self.card.region,
            rtt_ms=self.rtt_ms,
            rtt_measured=self.rtt_measured,
            age_s=now_s - self.load_at_s,
            slots=load.slots,
            free_slots=max(0, load.slots - load.running - load.queued),
            running=load.running,
            queued=load.queued,
            kv_used=load.kv_used,
            inflow=load.inflow,
            others_inflow=self._others_inflow(now_s),
            backlog_s=load.backlog_s,
            reported_prefill_s=load.prefill_s,
            reported_wait_s=load.wait_s,
            wait_s=self.wait_s(now_s),
            own_in_flight=self.own_in_flight,
            own_unseen=int(self._table.own_unseen[self.row]),
            own_unseen_s=float(self._table.own_unseen_s[self.row]),
            own_unseen_prefill_s=float(self._table.own_unseen_prefill_s[self.row]),
            models={model: self.speeds[model].view(min(load.slots, load.running + 1), now_s)},
            models_at_work=int(self._table.models_at_work[self.row]),
            unavailable=self.unavailable(now_s, bus_up=bus_up) or self._refused(model, now_s),
            failure_domains=self.card.failure_domains,
        )

    def _refused(self, model: str, now_s: float) -> str | None:
        return "refused this model a moment ago" if now_s < self.speeds[model].refused_until_s else None
