"""The learners find what is there, forget what was, and never promise the impossible."""

from math import exp, isfinite
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.fleet.learn import Average, Flow, Line

positive = st.floats(0.0, 1e5)


def noisy(line: Line, base: float, slope: float, samples: int, noise: float = 0.05) -> None:
    luck = Random(1)
    for _ in range(samples):
        x = luck.uniform(0, 1000)
        line.add(x, (base + slope * x) * luck.gauss(1.0, noise))


def test_a_line_is_found_in_noise():
    line = Line(200)
    noisy(line, 50.0, 3.0, 1000)
    base, slope = line.fit()
    assert slope == pytest.approx(3.0, rel=0.05)
    assert base == pytest.approx(50.0, abs=40.0)
    assert line.at(500) == pytest.approx(1550, rel=0.03)


def test_a_line_without_noise_is_found_from_two_points():
    line = Line(40)
    line.add(10, 70)
    line.add(20, 90)
    assert line.fit() == (pytest.approx(50), pytest.approx(2))


def test_a_line_forgets():
    line = Line(20)
    noisy(line, 50.0, 3.0, 200, noise=0.0)
    noisy(line, 10.0, 1.0, 200, noise=0.0)
    assert line.fit() == (pytest.approx(10.0, abs=1.0), pytest.approx(1.0, rel=0.01))


def test_a_claim_stands_until_samples_outweigh_it():
    line = Line(40)
    assert line.fit() == (0.0, 0.0)
    line.expect(50.0, 5.0, (0.0, 256.0), samples=3.0)
    assert line.fit() == (pytest.approx(50.0), pytest.approx(5.0))
    assert line.count == 0
    noisy(line, 20.0, 1.0, 200, noise=0.0)
    assert line.fit() == (pytest.approx(20.0, rel=0.1), pytest.approx(1.0, rel=0.02))


@pytest.mark.parametrize(("x", "y"), [(100.0, 800.0), (100.0, 550.0), (1.0, 60.0)])
def test_samples_at_one_place_keep_the_priors_slope(x, y):
    line = Line(40)
    line.expect(50.0, 5.0, (0.0, 256.0), samples=0.5)
    for _ in range(1500):
        line.add(x, y)
        assert line.at(x) >= 0
    assert line.fit()[1] == pytest.approx(5.0)
    assert line.at(x) == pytest.approx(y)


def test_a_falling_line_is_told_as_flat():
    line = Line(40)
    for x in range(10):
        line.add(x, 100 - x)
    base, slope = line.fit()
    assert slope == 0.0
    assert 90 < base < 100


def test_a_line_that_would_begin_below_zero_begins_at_zero():
    line = Line(40)
    for x in range(10, 20):
        line.add(x, 5.0 * (x - 9))
    base, slope = line.fit()
    assert base == 0.0
    assert slope > 0


@given(st.lists(st.tuples(positive, positive), max_size=60), positive, st.floats(0, 100), positive)
def test_a_line_is_never_negative_nor_infinite(samples, base, slope, x):
    line = Line(40)
    line.expect(base, slope, (0.0, 256.0), 3.0)
    for sample in samples:
        line.add(*sample)
    got = (*line.fit(), line.at(x))
    assert min(got) >= 0
    assert all(isfinite(number) for number in got)


def test_an_average_starts_as_a_plain_mean_and_then_forgets():
    average = Average(10)
    for sample in (1.0, 2.0, 6.0):
        average.add(sample)
    assert average.value == pytest.approx(3.0)
    for _ in range(100):
        average.add(50.0)
    assert average.value == pytest.approx(50.0, rel=0.01)
    assert average.weight == 10


def test_a_prior_of_an_average_weighs_as_its_samples():
    average = Average(10, 100.0, 1.0)
    average.add(50.0)
    assert average.value == pytest.approx(75.0)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.integers(1, 20))
def test_an_average_stays_among_its_samples(samples, memory):
    average = Average(memory)
    for sample in samples:
        average.add(sample)
    assert min(samples) - 1e-3 <= average.value <= max(samples) + 1e-3


def test_a_flow_is_the_work_a_second():
    flow = Flow(10.0)
    assert flow.at(5.0) == 0.0
    for tick in range(1000):
        flow.add(0.06, tick / 10)
    assert flow.at(100.0) == pytest.approx(0.6, rel=0.02)


def test_a_flow_dies_down_by_its_memory():
    flow = Flow(10.0)
    flow.add(5.0, 1.0)
    assert flow.at(1.0) == pytest.approx(0.5)
    assert flow.at(11.0) == pytest.approx(0.5 / exp(1))
    assert 0 <= flow.at(1e6) < 1e-9


def test_an_average_tells_how_far_its_samples_usually_were():
    average = Average(40)
    average.add(50.0)
    assert average.spread == 0.0
    for number in range(200):
        average.add(100.0 + (-1) ** number * 10.0)
    assert average.spread == pytest.approx(10.0, rel=0.05)
