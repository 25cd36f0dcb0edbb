"""Arrival rates: right from the first seconds on, and growth seen soon."""

from collections import OrderedDict
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.demand import ArrivalRates


def arrive(rates: ArrivalRates, per_s: float, begin_s: float, end_s: float) -> None:
    for at in range(round((end_s - begin_s) * per_s)):
        rates.arrived("m", begin_s + at / per_s)


@pytest.mark.parametrize("after_s", [5.0, 20.0, 300.0])
def test_a_steady_rate_is_told_long_before_the_window_is_full(after_s):
    rates = ArrivalRates()
    arrive(rates, 8.0, 50.0, 50.0 + after_s)
    assert rates.rate_per_s("m", 50.0 + after_s) == pytest.approx(8.0, rel=0.05)
    assert rates.growth("m", 50.0 + after_s) == pytest.approx(1.0, abs=0.05)


def test_a_random_stream_is_told_as_its_mean():
    rates, luck, now_s, told = ArrivalRates(), Random(3), 0.0, []
    for _ in range(5000):
        now_s += luck.expovariate(5.0)
        rates.arrived("m", now_s)
        told.append(rates.rate_per_s("m", now_s))
    assert sum(told[1000:]) / 4000 == pytest.approx(5.0, rel=0.1)


def test_growth_is_seen_and_then_becomes_usual():
    rates = ArrivalRates()
    arrive(rates, 5.0, 0.0, 600.0)
    arrive(rates, 20.0, 600.0, 620.0)
    assert rates.growth("m", 620.0) > 2
    arrive(rates, 20.0, 620.0, 1400.0)
    assert rates.growth("m", 1400.0) == pytest.approx(1.0, abs=0.05)


def test_traffic_that_stops_is_seen():
    rates = ArrivalRates()
    arrive(rates, 5.0, 0.0, 600.0)
    assert rates.growth("m", 620.0) < 0.3
    assert rates.rate_per_s("m", 700.0) < 0.01


def test_of_the_unheard_of_nothing_is_claimed():
    rates = ArrivalRates()
    assert (rates.rate_per_s("m", 9.0), rates.growth("m", 9.0)) == (0.0, 1.0)


def test_models_are_counted_apart():
    rates = ArrivalRates()
    for name in "aba":
        rates.arrived(name, 1.0)
    assert rates.rate_per_s("a", 1.0) == 2 * rates.rate_per_s("b", 1.0) > 0
    assert rates.rate_per_s("c", 1.0) == 0.0


def test_at_the_bound_the_model_longest_unasked_for_is_forgotten():
    rates = ArrivalRates(models_max=2)
    for now_s, name in enumerate("abac"):
        rates.arrived(name, float(now_s))
    assert {name: rates.rate_per_s(name, 4.0) > 0 for name in "abc"} == {"a": True, "b": False, "c": True}


def test_a_model_that_was_forgotten_begins_anew():
    rates = ArrivalRates(models_max=1)
    arrive(rates, 50.0, 0.0, 60.0)
    rates.arrived("other", 60.0)
    rates.arrived("m", 61.0)
    assert rates.rate_per_s("other", 61.0) == 0.0
    assert rates.rate_per_s("m", 61.0) < 2
    assert rates.growth("m", 61.0) == pytest.approx(1.0, abs=0.1)


@given(st.integers(1, 4), st.text("abcdef", max_size=40))
def test_what_is_kept_are_the_models_asked_for_last(models_max, asked):
    rates, kept = ArrivalRates(models_max=models_max), OrderedDict()
    for now_s, name in enumerate(asked):
        rates.arrived(name, float(now_s))
        kept[name] = None
        kept.move_to_end(name)
        if len(kept) > models_max:
            kept.popitem(last=False)
        assert {n for n in "abcdef" if rates.rate_per_s(n, float(now_s)) > 0} == kept.keys()


@given(st.lists(st.floats(0, 1e5), max_size=40).map(sorted), st.floats(0, 1e5))
def test_no_rate_is_impossible(arrivals, later_s):
    rates = ArrivalRates()
    for at_s in arrivals:
        rates.arrived("m", at_s)
    now_s = (arrivals[-1] if arrivals else 0.0) + later_s
    assert 0 <= rates.rate_per_s("m", now_s) <= len(arrivals) * 1.1
    assert 0 <= rates.growth("m", now_s) < 13
