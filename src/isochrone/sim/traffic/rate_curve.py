"""How the rate of requests runs over time and regions: surges and the day, as steps.

Time is bent, not thinned: a point process of unit rate, in units of one expected request, is laid along the
integral of the rate. Gaps keep their coefficient of variation in any small piece of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from isochrone.sim.scenario.geography import UTC_OFFSET_HOURS
from isochrone.sim.scenario.traffic_settings import Surge, TrafficSettings
from isochrone.sim.traffic.streams import Floats, Ints

_STEPS_A_DAY = 480
_STEPS_MAX = 20_000
_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class RateCurve:
    """The rate of requests, constant between edges.

    Attributes:
        edges_s: float64 (steps + 1): when it changes; the last is the end.
        expected: float64 (steps + 1): how many requests are expected until each edge.
        shares: float64 (steps, regions): cumulative shares of the regions in each step.
    """

    edges_s: Floats
    expected: Floats
    shares: Floats

    @property
    def total(self) -> float:
        """How many requests are expected in all."""
        return float(self.expected[-1])

    def times_s(self, expected: Floats) -> Floats:
        """When so many requests, rising, are expected to have come; rising too, and before the end."""
        times_s = np.interp(expected, self.expected, self.edges_s)
        before_end_s = np.nextafter(self.edges_s[-1], 0.0)
        return np.asarray(np.minimum(np.maximum.accumulate(times_s), before_end_s))

    def regions(self, times_s: Floats, luck: Floats) -> Ints:
        """For each time and luck in [0, 1), a region by its share then."""
        if len(self.shares) == 1:
            return np.searchsorted(self.shares[0, :-1], luck, side="right").astype(np.int64)
        steps = np.clip(np.searchsorted(self.edges_s, times_s, side="right") - 1, 0, len(self.shares) - 1)
        return np.asarray((self.shares[steps, :-1] <= luck[:, None]).sum(axis=1), dtype=np.int64)


def rate_curve(
    traffic: TrafficSettings, weights: Mapping[str, float], rate_per_s: float, duration_s: float
) -> RateCurve:
    """The curve of `traffic` for clients in the regions of `weights`."""
    edges_s = _edges_s(traffic, duration_s)
    middles_s = (edges_s[:-1] + edges_s[1:]) / 2
    total = sum(weights.values())
    parts = np.stack(
        [_region_rate(traffic, name, middles_s) * weight / total for name, weight in weights.items()], axis=1
    )
    rates = parts.sum(axis=1)
    expected = np.concatenate([[0.0], np.cumsum(rates * np.diff(edges_s)) * rate_per_s])
    return RateCurve(edges_s, expected, np.cumsum(parts, axis=1) / np.where(rates > 0, rates, 1.0)[:, None])


def _region_rate(traffic: TrafficSettings, region: str, times_s: Floats) -> Floats:
    """Relative to its long-run mean; float64, one for each time."""
    day = traffic.day
    local_h = day.start_hour_utc + times_s * day.time_scale / 3600 + UTC_OFFSET_HOURS.get(region, 0.0)
    rates = 1.0 + day.amplitude * np.cos((local_h - day.peak_hour) * (2 * np.pi / 24))
    for surge in traffic.surges:
        if surge.region in {"", region}:
            within = (times_s >= surge.at_s) & (times_s < surge.at_s + surge.duration_s)
            rates = np.where(within, rates * surge.factor, rates)
    return np.asarray(rates)


def _edges_s(traffic: TrafficSettings, duration_s: float) -> Floats:
    steps = 1.0
    if traffic.day.amplitude:
        steps = np.ceil(duration_s * traffic.day.time_scale / _DAY_S * _STEPS_A_DAY)
    even = np.linspace(0.0, duration_s, 1 + int(min(max(steps, 1.0), _STEPS_MAX)))
    ends = [end for surge in traffic.surges for end in _ends_s(surge) if end < duration_s]
    return np.union1d(even, np.array(ends, dtype=np.float64))


def _ends_s(surge: Surge) -> tuple[float, float]:
    return surge.at_s, surge.at_s + surge.duration_s
