"""The gateway's metrics, in Prometheus' words."""

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Gauge, Histogram

from isochrone.demand import ArrivalRates
from isochrone.gateway.counts import Counts
from isochrone.gateway.key_metrics import KeyMetrics
from isochrone.model import Decision, Estimate, Outcome, OutcomeKind

if TYPE_CHECKING:
    from isochrone.gateway.membership import Membership

_SECONDS = (0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 60.0)
_SHARES = (0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.0, 5.0)


class GatewayMetrics:
    """Counters since the start, and gauges read at each exposition."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self._requests = Counts(
            "isochrone_requests_total", "Requests by what the client was told", ("status",), registry=registry
        )
        self._attempts = Counts(
            "isochrone_attempts_total", "Attempts at nodes by end", ("node", "kind"), registry=registry
        )
        self._ttft = Histogram(
            "isochrone_time_to_first_token_seconds",
            "Dispatch to first token of streamed answers",
            ["node"],
            registry=registry,
            buckets=_SECONDS,
        )
        self._error = Histogram(
            "isochrone_ttft_prediction_error_ratio",
            "Absolute error of the predicted first token over the measured one",
            registry=registry,
            buckets=_SHARES,
        )
        self._slo = Counts(
            "isochrone_slo_decisions_total",
            "First decisions on requests with an SLO, by whether the choice was predicted to keep it",
            ("predicted",),
            registry=registry,
        )
        self.probes_sent = Counts(
            "isochrone_probes_sent_total", "Probes sent for a policy's sake", registry=registry
        )
        self.probes_dropped = Counts(
            "isochrone_probes_dropped_total", "Probes not sent: too many were under way", registry=registry
        )
        self.probes_failed = Counts(
            "isochrone_probes_failed_total", "Probes sent that brought no load", registry=registry
        )
        self._idle_heard = Gauge(
            "isochrone_idle_announcements", "Nodes heard to become idle since the start", registry=registry
        )
        self._ledger = Gauge(
            "isochrone_ledger_dispatches",
            "Dispatches since the start that we told other gateways of, or they us",
            ["way"],
            registry=registry,
        )
        self._in_flight = Gauge("isochrone_in_flight", "Requests under way", registry=registry)
        self._bus_up = Gauge("isochrone_bus_up", "1 while the message bus is there", registry=registry)
        self._undecodable = Gauge(
            "isochrone_messages_undecodable", "Messages dropped since the start", registry=registry
        )
        self._node = Gauge(
            "isochrone_node_belief", "What is believed of a node", ["node", "what"], registry=registry
        )
        self._rate = Gauge(
            "isochrone_model_requests_per_second", "Arrival rate", ["model"], registry=registry
        )

        self.keys = KeyMetrics(registry)

    def answered(self, status: int) -> None:
        """Count what a client was told."""
        self._requests.add(str(status))

    def decided(self, decision: Decision) -> None:
        """Count what an SLO can expect of a request's first decision."""
        if decision.slo is not None:
            self._slo.add("met" if decision.slo.met else "unmet")

    def attempted(self, outcome: Outcome, estimate: Estimate) -> None:
        """Count one attempt."""
        self._attempts.add(outcome.node, outcome.kind)
        if outcome.kind is OutcomeKind.ANSWERED and outcome.ttft_ms:
            self._ttft.labels(outcome.node).observe(outcome.ttft_ms / 1e3)
            self._error.observe(abs(estimate.ttft_ms - outcome.ttft_ms) / outcome.ttft_ms)

    def registry_of(self, membership: "Membership", rates: ArrivalRates, now_s: float) -> CollectorRegistry:
        """All there is to tell, as of now."""
        fleet = membership.fleet
        self._in_flight.set(fleet.in_flight)
        self._bus_up.set(fleet.bus_up)
        self._undecodable.set(membership.undecodable + membership.telling.undecodable)
        self._ledger.labels("told").set(membership.telling.told)
        self._ledger.labels("heard").set(fleet.told)
        self._idle_heard.set(membership.idle_heard)
        self._node.clear()
        for belief in fleet.beliefs():
            for what, value in (
                ("rtt_ms", belief.rtt_ms),
                ("wait_s", belief.wait_s(now_s)),
                ("age_s", now_s - belief.load_at_s),
                ("available", float(belief.unavailable(now_s, bus_up=fleet.bus_up) is None)),
            ):
                self._node.labels(belief.name, what).set(value)
        self._rate.clear()
        for model in fleet.models():
            self._rate.labels(model).set(rates.rate_per_s(model, now_s))
        return self.registry
