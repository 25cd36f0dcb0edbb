"""The node's own metrics, in Prometheus' words."""

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from isochrone.model import Timings

if TYPE_CHECKING:
    from isochrone.nodes.inference.state import NodeState

_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)


class NodeMetrics:
    """Counters since the start, and gauges read at each exposition."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.refused = Counter(
            "isochrone_node_refused_total",
            "Requests refused because the node was full",
            registry=self.registry,
        )
        self.balked = Counter(
            "isochrone_node_balked_total",
            "Requests not taken, since their prompts would have begun later than they were to",
            registry=self.registry,
        )
        self.failed = Counter(
            "isochrone_node_failed_total", "Requests that the engine failed", registry=self.registry
        )
        self._requests = Counter(
            "isochrone_node_requests_total", "Requests answered", ["model"], registry=self.registry
        )
        self._tokens = Counter(
            "isochrone_node_tokens_total", "Tokens processed", ["model", "kind"], registry=self.registry
        )
        self._queue = Histogram(
            "isochrone_node_queue_seconds",
            "Time that requests waited for a slot",
            registry=self.registry,
            buckets=_SECONDS,
        )
        self._load = Gauge("isochrone_node_load", "Work on the node now", ["what"], registry=self.registry)
        self._interval = Gauge(
            "isochrone_node_pulse_interval_seconds",
            "Time between two pulses, shorter in a small fleet",
            registry=self.registry,
        )
        self._ready = Gauge("isochrone_node_model_ready", "1 when loaded", ["model"], registry=self.registry)

    def answered(self, model: str, timings: Timings) -> None:
        """Count one answer."""
        self._requests.labels(model).inc()
        self._tokens.labels(model, "prompt").inc(timings.prompt_tokens)
        self._tokens.labels(model, "cached").inc(timings.cached_tokens)
        self._tokens.labels(model, "output").inc(timings.output_tokens)
        self._queue.observe(timings.queue_ms / 1e3)

    def exposition(self, state: "NodeState") -> bytes:
        """The text that a scraper reads."""
        load = state.desk.load(state.clock.now_s())
        for what in ("slots", "running", "queued", "wait_s", "backlog_s", "inflow", "kv_used", "prefill_s"):
            self._load.labels(what).set(getattr(load, what))
        self._interval.set(state.tempo.interval_s)
        ready = state.shelf.ready()
        for model in state.shelf.models():
            self._ready.labels(model.card.name).set(model.card.name in ready)
        return generate_latest(self.registry)
