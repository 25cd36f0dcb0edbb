"""A node that changed is believed anew within a few answers; noise is not mistaken for change."""

from math import isfinite
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.fleet.shift import Shift, SpeedLine

PROMPTS = (100.0, 2000.0)


def feed(line: SpeedLine, luck: Random, samples: int, factor: float = 1.0, noise: float = 0.3) -> None:
    """Samples of a node of 80 ms and 2 ms a token, `factor` times as slow, with noise of that CV."""
    shape = 1 / noise**2 if noise else 0.0
    for _ in range(samples):
        x = luck.uniform(*PROMPTS)
        times = luck.gammavariate(shape, 1 / shape) if noise else 1.0
        line.add(x, (80.0 + 2.0 * x) * factor * times)


def believed(line: SpeedLine) -> float:
    """How many times the node of `feed` the line tells, in the middle of its prompts."""
    return line.at(1000.0) / 2080.0


@pytest.mark.parametrize("factor", [3.0, 1 / 3, 10.0, 0.1])
def test_a_change_of_speed_is_believed_within_five_answers(factor):
    line, luck = SpeedLine(40), Random(1)
    feed(line, luck, 100, noise=0.05)
    feed(line, luck, 5, factor, noise=0.05)
    assert believed(line) == pytest.approx(factor, rel=0.15)
    assert line.changes == 1


@pytest.mark.parametrize("factor", [3.0, 1 / 3])
def test_a_change_in_much_noise_is_believed_within_eight_answers(factor):
    for seed in range(40):
        line, luck = SpeedLine(40), Random(seed)
        feed(line, luck, 100)
        feed(line, luck, 8, factor)
        assert believed(line) == pytest.approx(factor, rel=0.6), seed


def test_noise_alone_is_rarely_a_change():
    alarms = 0
    for seed in range(50):
        line = SpeedLine(40)
        feed(line, Random(seed), 400)
        alarms += line.changes
    assert alarms <= 20  # of 20,000 samples


def test_one_or_two_strange_samples_are_no_change():
    line, luck = SpeedLine(40), Random(3)
    feed(line, luck, 100, noise=0.1)
    feed(line, luck, 2, factor=100.0, noise=0.0)
    assert line.changes == 0


def test_a_line_after_a_change_keeps_its_shape_and_then_learns_on():
    line, luck = SpeedLine(40), Random(2)
    feed(line, luck, 100, noise=0.0)
    feed(line, luck, 4, factor=3.0, noise=0.0)
    base, slope = line.fit()
    assert slope == pytest.approx(6.0, rel=0.15)
    assert base >= 0.0
    feed(line, luck, 60, factor=3.0, noise=0.0)
    assert line.fit() == (pytest.approx(240.0, rel=0.1), pytest.approx(6.0, rel=0.02))


def test_the_spread_is_the_usual_distance_from_the_line():
    line, luck = SpeedLine(40), Random(4)
    assert line.spread == 0.0
    feed(line, luck, 300, noise=0.2)
    assert line.spread == pytest.approx(0.2 / 1.25, rel=0.35)


def test_what_cannot_be_compared_is_no_change():
    shift = Shift(40)
    assert [shift.seen(0.0, 5.0), shift.seen(5.0, 0.0)] == [None, None]


positive = st.floats(0.0, 1e5)


@given(st.lists(st.tuples(positive, positive), max_size=60), positive, st.floats(0, 100))
def test_a_speed_is_never_negative_nor_infinite(samples, base, slope):
    line = SpeedLine(40)
    line.expect(base, slope, (0.0, 256.0), 3.0)
    for x, y in samples:
        line.add(x, y)
        got = (*line.fit(), line.at(x), line.spread)
        assert min(got) >= 0
        assert all(isfinite(number) for number in got)


@given(st.lists(st.floats(1.0, 1e3), min_size=1, max_size=60), st.floats(1.0, 1e3))
def test_a_change_is_told_no_larger_than_the_samples_show(samples, expected):
    shift = Shift(40)
    for sample in samples:
        factor = shift.seen(sample, expected)
        if factor is not None:
            assert min(samples) / expected * 0.999 <= factor <= max(samples) / expected * 1.001
