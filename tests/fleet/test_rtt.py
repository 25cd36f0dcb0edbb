"""Round trips: measured beats believed, one slow probe does not make a node far."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.fleet.node import Rtt


def test_the_first_sample_replaces_the_prior():
    rtt = Rtt(0.25, value_ms=500.0)
    assert not rtt.measured
    rtt.add(20.0)
    assert (rtt.value_ms, rtt.measured) == (20.0, True)


def test_later_samples_count_by_the_gain():
    rtt = Rtt(0.25)
    rtt.add(20.0)
    rtt.add(24.0)
    assert rtt.value_ms == pytest.approx(21.0)


def test_an_outlier_is_cut_off_at_twice_the_least():
    rtt = Rtt(1.0)
    rtt.add(20.0)
    rtt.add(9000.0)
    assert rtt.value_ms == pytest.approx(45.0)


def test_a_real_change_of_path_is_believed_in_time():
    rtt = Rtt(0.25)
    rtt.add(20.0)
    for _ in range(40):
        rtt.add(300.0)
    assert rtt.value_ms == pytest.approx(300.0, rel=0.01)
    for _ in range(20):
        rtt.add(20.0)
    assert rtt.value_ms == pytest.approx(20.0, rel=0.05)


@given(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=50))
def test_never_below_the_least_nor_above_the_most(samples):
    rtt = Rtt(0.25, value_ms=77.0)
    for sample in samples:
        rtt.add(sample)
    assert min(samples) * (1 - 1e-9) <= rtt.value_ms <= max(samples) * (1 + 1e-9)
    assert len(rtt.window) <= 16


def test_the_spread_of_round_trips_is_their_mean_deviation():
    rtt = Rtt(0.25)
    assert rtt.spread_ms == 0.0
    rtt.add(20.0)
    assert rtt.spread_ms == 10.0
    for number in range(60):
        rtt.add(20.0 + (number % 2) * 4.0)
    assert rtt.spread_ms == pytest.approx(2.3, abs=0.3)
