"""The toy model of stale state: who herds, and by how much, in a small edition of the scenario `toy`.

One seed is enough, since every margin here is well within what eight seeds gave.
"""

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from isochrone.sim.results import RunColumns
from isochrone.sim.results.statistics import compare
from isochrone.sim.runner import Run, simulate
from isochrone.sim.scenario.files import changed, load_scenario

SERVICE_S = 10.0
BEST, STALE, CORRECTED = "reference-b1", "stale-greedy", "corrected:others=0"
DRAWN_OF_MANY, DRAWN_OF_FOUR = "drawn:d=32,weighted=0,others=0", "drawn:d=4,weighted=1,others=0"

HERD = {"nodes.count": 100, "gateways.count": 16, "duration_s": 100, "warmup_s": 30}
ALONE = {
    "nodes.count": 40, "gateways.count": 1, "duration_s": 60, "warmup_s": 15, "bus.pulse_s": 0.01 * SERVICE_S
}  # fmt: skip
"""One gateway with fresh news: as near to omniscience as a policy can be."""

CONTENDERS = [
    "soonest", "corrected", "stale-greedy", "shortest-expected-delay", "least-request", "c3", "drawn"
]  # fmt: skip


def run(changes: dict[str, object], policy: str) -> RunColumns:
    return simulate(Run(changed(load_scenario("toy"), changes), policy, seed=1))[1]


def responses_ms(columns: RunColumns) -> NDArray[np.float64]:
    """Of all counted requests; every one of them must have been answered."""
    counted = columns["counted"].astype(bool)
    assert set(columns["kind"][counted].tolist()) == {"answered"}
    return columns["total_ms"][counted].astype(np.float64)


@cache
def mean_ms(policy: str, age: float = 0.5) -> float:
    """Mean response of the herd when news gets `age` times as old as a request takes (T/S)."""
    return float(np.mean(responses_ms(run({**HERD, "bus.pulse_s": age * SERVICE_S}, policy))))


@cache
def best_alone_ms() -> NDArray[np.float64]:
    return responses_ms(run(ALONE, BEST))


def test_the_rules_stand_in_the_order_of_the_toy_table():
    assert set(load_scenario("toy").policies) == {BEST, STALE, CORRECTED, DRAWN_OF_MANY, DRAWN_OF_FOUR}
    assert mean_ms(STALE) > 2.0 * mean_ms(CORRECTED)
    assert mean_ms(CORRECTED) > 1.1 * mean_ms(DRAWN_OF_MANY)
    assert mean_ms(DRAWN_OF_MANY) > 1.2 * mean_ms(DRAWN_OF_FOUR)
    assert mean_ms(DRAWN_OF_FOUR) > 1.2 * mean_ms(BEST)


def test_herding_costs_many_times_what_omniscience_takes_and_drawing_little():
    assert mean_ms(STALE) > 6.0 * mean_ms(BEST)
    assert mean_ms(CORRECTED) > 1.5 * mean_ms(DRAWN_OF_FOUR)
    assert mean_ms(DRAWN_OF_FOUR) < 2.5 * mean_ms(BEST)


def test_stale_greed_gets_worse_with_age_and_omniscience_does_not():
    assert mean_ms(STALE, 0.5) > 2.0 * mean_ms(STALE, 0.1) > 4.0 * mean_ms(BEST, 0.1)
    assert mean_ms(BEST, 0.5) == mean_ms(BEST, 0.1)


@pytest.mark.parametrize("policy", CONTENDERS)
def test_no_policy_is_better_than_omniscience_even_alone_with_fresh_news(policy):
    interval = compare([responses_ms(run(ALONE, policy))], [best_alone_ms()], "mean")
    assert interval.ratio < 1.8, "a contender"
    assert interval.high >= 1.0
