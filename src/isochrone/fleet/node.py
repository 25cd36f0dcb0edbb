"""What is believed of one node."""

from collections import deque
from dataclasses import dataclass, field

from isochrone.fleet.learn import Flow
from isochrone.fleet.ledger import Ledger
from isochrone.fleet.settings import FleetSettings
from isochrone.fleet.speed import Speed
from isochrone.fleet.wait import SinceReport, wait_s
from isochrone.model import Load, NodeCard, NodeView, Pulse

_RTT_WINDOW = 16
_RTT_OUTLIER_FACTOR = 2.0
_RTT_OUTLIER_MS = 5.0


@dataclass(slots=True)
class Rtt:
    """Round trip to one node: an average of samples, each cut off at twice the least of the last sixteen.

    Attributes:
        gain: weight of the newest sample.
        value_ms: the average; the region table's prior until the first sample.
        measured: whether a sample came in.
    """

    gain: float
    value_ms: float = 0.0
    measured: bool = False
    window: deque[float] = field(default_factory=lambda: deque(maxlen=_RTT_WINDOW))

    def add(self, sample_ms: float) -> None:
        """Take one probe in."""
        self.window.append(sample_ms)
        least_ms = min(self.window)
        sample_ms = min(sample_ms, _RTT_OUTLIER_FACTOR * least_ms + _RTT_OUTLIER_MS)
        self.value_ms += (sample_ms - self.value_ms) * (self.gain if self.measured else 1.0)
        self.measured = True


@dataclass(slots=True)
class Health:
    """Whether a node may be chosen.

    Attributes:
        failures: in a row.
        ejections: in a row.
        ejected_until_s: not chosen before.
        why: the last failure, in words.
        silent: told as silent already.
    """

    failures: int = 0
    ejections: int = 0
    ejected_until_s: float = 0.0
    why: str = ""
    silent: bool = False


@dataclass(slots=True)
class NodeBelief:
    """Everything believed of one node; changed only by `Fleet.step`."""

    settings: FleetSettings
    name: str
    card: NodeCard = field(default_factory=lambda: NodeCard(node="", url=""))
    card_digest: str = ""
    card_asked_at_s: float = float("-inf")
    pulse: Pulse | None = None
    load: Load = field(default_factory=lambda: Load(slots=1))
    heard_at_s: float = 0.0
    load_at_s: float = 0.0
    rtt: Rtt = field(init=False)
    ledger: Ledger = field(init=False)
    health: Health = field(default_factory=Health)
    speeds: dict[str, Speed] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rtt = Rtt(self.settings.rtt_gain)
        self.ledger = Ledger(Flow(self.settings.flow_memory_s))

    @property
    def known(self) -> bool:
        """Whether both its card and a pulse are here."""
        return bool(self.card_digest) and self.pulse is not None

    def hear_load(self, load: Load, now_s: float) -> None:
        """Take in a load that the node reported just now."""
        self.load, self.load_at_s, self.heard_at_s = load, now_s, now_s

    def wait_s(self, now_s: float) -> float:
        """Seconds to a free slot for a request that arrives now."""
        rtt_s = self.rtt.value_ms / 1e3
        since = SinceReport(
            age_s=now_s - self.load_at_s,
            unseen=self.ledger.unseen(self.load_at_s, rtt_s),
            others_flow=max(0.0, self.load.inflow - self.ledger.flow.at(now_s)),
        )
        return wait_s(self.load, since)

    def view(self, model: str, now_s: float, *, bus_up: bool) -> NodeView:
        """The belief as routing reads it, for requests for `model`."""
        concurrency = min(self.load.slots, self.load.running + 1)
        return NodeView(
            node=self.name,
            url=self.card.url,
            region=self.card.region,
            rtt_ms=self.rtt.value_ms,
            rtt_measured=self.rtt.measured,
            age_s=now_s - self.load_at_s,
            slots=self.load.slots,
            free_slots=max(0, self.load.slots - self.load.running - self.load.queued),
            wait_s=self.wait_s(now_s),
            own_in_flight=len(self.ledger.open),
            models={model: self.speeds[model].view(concurrency, now_s)},
            unavailable=self.unavailable(now_s, bus_up=bus_up) or self._refused(model, now_s),
            failure_domains=self.card.failure_domains,
        )

    def _refused(self, model: str, now_s: float) -> str | None:
        return "refused this model a moment ago" if now_s < self.speeds[model].refused_until_s else None

    def unavailable(self, now_s: float, *, bus_up: bool) -> str | None:
        """Why it may not be chosen now, or None. Silence says nothing while the bus is away."""
        if self.pulse is not None and self.pulse.leaving:
            return "is leaving"
        if now_s < self.health.ejected_until_s:
            left_s = self.health.ejected_until_s - now_s
            return f"put aside for {left_s:.1f} s more: {self.health.why}"
        silent_s = now_s - self.heard_at_s
        if bus_up and silent_s > self.settings.silent_s:
            return f"silent for {silent_s:.1f} s"
        return None
