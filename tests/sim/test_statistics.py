"""Intervals that are right as often as they say, and orders that are the same."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.sim.results.statistics import (
    Outcomes,
    block_ratio,
    compare,
    mean,
    quantile,
    rank_agreement,
    seed_ratio,
    where_it_loses,
)

values = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60)


@given(values, st.floats(0.0, 1.0))
def test_a_quantile_is_the_least_value_that_enough_values_do_not_exceed(given_values, share):
    array = np.array(given_values)
    found = quantile(array, share)
    assert found in given_values
    assert np.mean(array <= found) >= share - 1e-12
    lower = array[array < found]
    if len(lower):
        assert np.mean(array <= lower.max()) < share + 1e-12


def test_nothing_has_no_quantile_and_no_mean():
    assert math.isnan(quantile(np.array([math.nan]), 0.5))
    assert math.isnan(mean(np.array([])))


def test_the_interval_over_seeds_covers_the_truth_about_as_often_as_it_says():
    luck = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        base = luck.lognormal(3.0, 0.5, 10)
        ours = base * np.exp(luck.normal(-0.1, 0.2, 10))
        interval = seed_ratio(ours.tolist(), base.tolist(), trial)
        covered += interval.low <= math.exp(-0.1) <= interval.high
    assert 0.91 <= covered / 200 <= 0.99


def test_pairing_by_seed_takes_away_the_luck_that_both_share():
    luck = np.random.default_rng(2)
    base = luck.lognormal(3.0, 1.0, 12)
    interval = seed_ratio((base * 0.9).tolist(), base.tolist())
    assert interval.ratio == pytest.approx(0.9)
    assert interval.decided
    assert interval.high < 0.91
    assert not interval.few


def test_the_same_seed_of_the_resampling_gives_the_same_interval():
    a, b = [1.0, 2.0, 4.0], [1.5, 1.9, 4.4]
    assert seed_ratio(a, b, 7) == seed_ratio(a, b, 7)
    assert seed_ratio(a, b).few


def test_one_seed_alone_has_a_ratio_but_decides_nothing_over_seeds():
    interval = seed_ratio([1.0], [2.0])
    assert interval.ratio == 0.5
    assert math.isnan(interval.low)
    assert not interval.decided


def test_blocks_give_wider_intervals_where_neighbours_are_alike():
    luck = np.random.default_rng(3)
    theirs = np.full(4000, 10.0)
    alike = np.repeat(luck.lognormal(2.0, 0.5, 80), 50)
    shuffled = luck.permutation(alike)
    together, apart = block_ratio(alike, theirs, "mean"), block_ratio(shuffled, theirs, "mean")
    assert together.ratio == pytest.approx(apart.ratio)
    assert together.high - together.low > 2 * (apart.high - apart.low)
    assert together.low < together.ratio < together.high


def test_blocks_serve_percentiles_too():
    luck = np.random.default_rng(4)
    theirs = luck.exponential(1.0, 3000)
    interval = block_ratio(theirs * 1.5, theirs, "p99")
    assert (interval.low, interval.ratio, interval.high) == pytest.approx((1.5, 1.5, 1.5))


def test_what_one_policy_did_not_answer_counts_for_neither():
    ours = [np.array([1.0, math.nan, 3.0]), np.array([2.0, 2.0, 2.0])]
    theirs = [np.array([2.0, 9.0, 6.0]), np.array([4.0, 4.0, math.nan])]
    assert compare(ours, theirs, "mean").ratio == pytest.approx(0.5)


def test_runs_that_do_not_pair_are_not_compared():
    with pytest.raises(ValueError, match="2 and 3 requests"):
        compare([np.ones(2)], [np.ones(3)], "mean")


def test_rank_agreement_is_one_for_the_same_order_and_minus_one_for_the_reverse():
    assert rank_agreement([1, 2, 3, 4], [10, 20, 30, 99]) == 1.0
    assert rank_agreement([1, 2, 3, 4], [4, 3, 2, 1]) == -1.0
    assert rank_agreement([1, 2, 3, 4], [1, 2, 4, 3]) == pytest.approx(4 / 6)
    assert math.isnan(rank_agreement([1, 1], [1, 2]))


def test_rank_agreement_with_ties_is_tau_b():
    # 6 pairs, one tie in the first: (5 - 0) / sqrt(5 * 6).
    assert rank_agreement([1, 1, 2, 3], [1, 2, 3, 4]) == pytest.approx(5 / math.sqrt(30))


def test_where_it_loses_finds_the_region_that_was_made_slow():
    rows = 400
    luck = np.random.default_rng(5)
    region = ["far" if row % 4 == 0 else "near" for row in range(rows)]
    theirs = luck.uniform(90, 110, rows)
    late = np.array([50.0 if place == "far" else -5.0 for place in region])
    ours = theirs + late
    ours[1] = math.nan
    found = where_it_loses(
        Outcomes(
            ours_ms=ours,
            theirs_ms=theirs,
            at_s=np.arange(rows, dtype=float),
            prompt_tokens=luck.integers(1, 1000, rows).astype(float),
            rtt_ms=np.where(np.isnan(ours), math.nan, 20.0),
            load_ms=np.zeros(rows),
            labels={"region": region},
        )
    )
    worst = next(loss for loss in found if loss.dimension == "region")
    assert (worst.value, worst.requests) == ("far", 100)
    assert worst.mean_ms == pytest.approx(50.0)
    assert worst.total_ms == pytest.approx(5000.0)
    assert all(loss.value != "near" for loss in found)
    assert [loss.total_ms for loss in found] == sorted((loss.total_ms for loss in found), reverse=True)
