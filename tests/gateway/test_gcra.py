"""The rate limiter's arithmetic against a bucket that is filled drop by drop."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.gateway.crew import gcra

LIMITS = st.integers(1, 100_000)
STEPS = st.lists(st.tuples(st.floats(0.0, 90.0), st.integers(1, 1000)), max_size=60)
START_S = 1e6


@dataclass
class Bucket:
    """The plain way: a level that rises with time, up to a minute's worth."""

    per_min: int
    level: float
    at_s: float = START_S

    def at(self, now_s: float) -> float:
        self.level = min(self.per_min, self.level + (now_s - self.at_s) * self.per_min / 60.0)
        self.at_s = now_s
        return self.level


@given(LIMITS, STEPS)
def test_it_admits_what_a_bucket_admits(per_min, steps):
    bucket, at_s, now_s = Bucket(per_min, per_min), 0.0, START_S
    for pause_s, units in steps:
        now_s += pause_s
        assert gcra.left(at_s, now_s, per_min) == pytest.approx(bucket.at(now_s), abs=1e-5 * per_min)
        if gcra.wait_s(at_s, now_s, units, per_min) == 0:
            at_s = gcra.spend(at_s, now_s, units, per_min)
            bucket.level -= units
            assert bucket.level >= -1e-5 * per_min


@given(LIMITS, STEPS)
def test_never_more_than_a_minutes_worth_and_what_came_back(per_min, steps):
    """Over any stretch of time, counted from each admission on."""
    at_s, now_s, admitted = 0.0, START_S, []
    for pause_s, units in steps:
        now_s += pause_s
        if gcra.wait_s(at_s, now_s, units, per_min) == 0:
            at_s = gcra.spend(at_s, now_s, units, per_min)
            admitted.append((now_s, units))
    for first, (from_s, _) in enumerate(admitted):
        total = 0
        for until_s, units in admitted[first:]:
            total += units
            assert total <= per_min * (1 + (until_s - from_s) / 60.0) * (1 + 1e-6)


@given(LIMITS, st.floats(0.0, 300.0), st.integers(1, 100_000))
def test_who_waits_as_long_as_told_is_let_in_and_not_much_sooner(per_min, owed_s, units):
    at_s = START_S + owed_s
    wait_s = gcra.wait_s(at_s, START_S, units, per_min)
    if units > per_min:
        assert wait_s == float("inf")
    elif wait_s > 0:
        assert gcra.wait_s(at_s, START_S + wait_s + 1e-6, units, per_min) == 0
        assert gcra.wait_s(at_s, START_S + wait_s * 0.99, units, per_min) > 0


@given(LIMITS, st.floats(0.0, 120.0), st.integers(0, 1000), st.integers(0, 1000))
def test_an_estimate_corrected_at_once_costs_what_was_used(per_min, owed_s, guessed, used):
    at_s = START_S + owed_s
    corrected = gcra.spend(gcra.spend(at_s, START_S, guessed, per_min), START_S, used - guessed, per_min)
    straight = gcra.spend(at_s, START_S, used, per_min)
    assert corrected == pytest.approx(straight, abs=1e-4)


@given(LIMITS, st.integers(1, 1000), st.floats(0.0, 600.0))
def test_what_is_given_back_never_makes_more_than_a_minutes_worth(per_min, units, later_s):
    at_s = gcra.spend(gcra.spend(0.0, START_S, units, per_min), START_S + later_s, -units, per_min)
    assert gcra.left(at_s, START_S + later_s, per_min) <= per_min


def test_a_correction_beyond_the_limit_is_paid_off_before_the_next():
    at_s = gcra.spend(gcra.spend(0.0, START_S, 10, 60), START_S, 90, 60)
    assert gcra.left(at_s, START_S, 60) == pytest.approx(-40)
    assert gcra.wait_s(at_s, START_S, 1, 60) == pytest.approx(41)
    assert gcra.full_in_s(at_s, START_S) == pytest.approx(100)
