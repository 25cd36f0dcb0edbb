"""Prequal: of the nodes probed lately, the least latency of those not hot; else the least loaded.

Reads: the probe pool, requests in flight of recent probe answers. Source: Wydrowski, Kleinberg, Rumble and
Archer, "Load is not what you should balance: introducing Prequal", NSDI 2024, section 4. The gateway probes
and keeps the pool as `ProbeSettings` says; the pool is cut to what the number of nodes allows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from isochrone.model import ProbeSettings
from isochrone.routing.choice import Choice
from isochrone.routing.luck import Luck
from isochrone.routing.parameters import within


@dataclass(frozen=True, slots=True)
class Parameters:
    """When a node is hot, and how to probe.

    Attributes:
        q_rif: a node is hot with more requests in flight than this quantile of what recent answers told: 0
            compares requests in flight alone, 1 latency alone. The paper: 0.84.
        pool_min: with fewer answers nodes are drawn by lot. The paper: 2.
        probing: `per_request`, `pool_max`, `age_max_s`, `removals_per_request` and `delta`, see
            `ProbeSettings`.
    """

    q_rif: float = 0.84
    pool_min: int = 2
    probing: ProbeSettings = field(default=ProbeSettings(per_request=3.0, pool_max=16))

    def __post_init__(self) -> None:
        within("q_rif", self.q_rif, 0, 1)
        within("pool_min", self.pool_min, 1)
        within("per_request", self.probing.per_request, 0)
        within("pool_max", self.probing.pool_max, 1)
        within("age_max_s", self.probing.age_max_s, 0)
        within("removals_per_request", self.probing.removals_per_request, 0)
        within("delta", self.probing.delta, 0)


def rank(choice: Choice, luck: Luck, parameters: Parameters) -> Sequence[int]:
    """Cold nodes by latency, then hot ones by requests in flight; by lot when too few were probed."""
    newest = {probe.index: probe for probe in choice.view.probes if choice.may(probe.index)}
    if len(newest) < parameters.pool_min:
        return choice.draw(choice.wanted, luck)
    hot_over = _quantile(choice.view.probed_in_flight, parameters.q_rif)
    cold = [probe for probe in newest.values() if probe.in_flight <= hot_over]
    hot = [probe for probe in newest.values() if probe.in_flight > hot_over]
    cold.sort(key=lambda probe: (probe.latency_ms, probe.in_flight))
    hot.sort(key=lambda probe: (probe.in_flight, probe.latency_ms))
    return [probe.index for probe in (*cold, *hot)][: choice.wanted]


def _quantile(values: Sequence[int], share: float) -> float:
    """The least value that is not under `share` of `values`; beyond all of them at 1, below all at 0."""
    if share >= 1.0 or not values:
        return float("inf")
    if share <= 0.0:
        return -1.0
    return sorted(values)[int(share * len(values))]
