"""Asking a few nodes for their load on behalf of requests to come (Prequal)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """How a gateway probes. Defaults: Prequal (Wydrowski et al., NSDI 2024), section 4.

    Attributes:
        per_request: probes sent to nodes drawn at random for each request; 0 for none.
        pool_max: answers kept for decisions.
        age_max_s: older answers are dropped.
        removals_per_request: answers taken out for each request, the worst and the oldest in turn.
        delta: slack of the reuse budget: an answer is used at most
            `max(1, (1 + delta) / ((1 - pool_max / nodes) * per_request - removals_per_request))` times.
    """

    per_request: float = 0.0
    pool_max: int = 16
    age_max_s: float = 1.0
    removals_per_request: float = 1.0
    delta: float = 1.0


NO_PROBES = ProbeSettings()


@dataclass(frozen=True, slots=True)
class Probe:
    """One answer in the pool.

    Attributes:
        index: the node, as its index in the view.
        in_flight: requests in the node when it answered, plus ours sent there on this answer.
        latency_ms: what the node estimated a request arriving then would take, plus our round trip.
        at_s: when the answer came, on the gateway's clock.
    """

    index: int
    in_flight: int
    latency_ms: float
    at_s: float
