import hashlib
import statistics
from collections import Counter
from dataclasses import replace
from itertools import islice, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone.ports import SettingError
from isochrone.sim import WorkloadSettings, generate

SEEDS = st.integers(0, 2**32)
SHORT = WorkloadSettings(
    rate_per_s=10, count=4000, prefix_tokens_mean=0, prompt_tokens_median=1, prompt_tokens_max=2
)


@given(seed=SEEDS, rate_per_s=st.floats(0.1, 1000), cv=st.floats(0.0, 1.5))
@settings(max_examples=15)
def test_gaps_have_the_mean_and_the_spread_asked_for(seed: int, rate_per_s: float, cv: float) -> None:
    asked = replace(SHORT, rate_per_s=rate_per_s, cv=cv)
    times_s = [0.0] + [arrival.at_s for arrival in generate(asked, seed)]
    gaps_s = [later - sooner for sooner, later in pairwise(times_s)]
    assert min(gaps_s) >= 0
    mean_s = statistics.fmean(gaps_s)
    assert mean_s * rate_per_s == pytest.approx(1, abs=0.15)
    assert statistics.pstdev(gaps_s) / mean_s == pytest.approx(cv, abs=0.25)


@given(seed=SEEDS)
@settings(max_examples=10)
def test_the_same_seed_gives_the_same_bytes_and_another_does_not(seed: int) -> None:
    asked = WorkloadSettings(rate_per_s=5, count=20)
    once, again, other = (list(generate(asked, each)) for each in (seed, seed, seed + 1))
    assert repr(once) == repr(again)
    assert repr(once) != repr(other)


def test_the_bytes_do_not_depend_on_the_process_or_the_version() -> None:
    arrivals = generate(WorkloadSettings(rate_per_s=1, count=50), 7)
    facts = [(f"{each.at_s:.6f}", replace(each, at_s=0)) for each in arrivals]
    assert hashlib.sha256(repr(facts).encode()).hexdigest()[:16] == "4b3395189a264912"


@given(seed=SEEDS, duration_s=st.floats(0.1, 5))
@settings(max_examples=20)
def test_it_ends_with_the_time_or_the_count(seed: int, duration_s: float) -> None:
    by_time = list(generate(WorkloadSettings(rate_per_s=20, duration_s=duration_s), seed))
    assert all(arrival.at_s <= duration_s for arrival in by_time)
    both = list(generate(WorkloadSettings(rate_per_s=20, duration_s=duration_s, count=3), seed))
    assert both == by_time[:3]


@given(seed=SEEDS)
@settings(max_examples=10)
def test_each_client_keeps_one_prompt_of_its_own(seed: int) -> None:
    systems: dict[str, set[str]] = {}
    for arrival in generate(WorkloadSettings(rate_per_s=5, count=200), seed):
        systems.setdefault(arrival.client, set()).add(arrival.system)
    assert all(len(texts) == 1 for texts in systems.values())
    assert len(set.union(*systems.values())) == len(systems)
    assert "" not in set.union(*systems.values())


def test_the_first_client_and_the_first_model_are_wanted_most() -> None:
    asked = replace(SHORT, clients=4, client_zipf=1.0, models=("a", "b"), model_zipf=1.0)
    arrivals = list(generate(asked, 1))
    clients = Counter(arrival.client for arrival in arrivals)
    models = Counter(arrival.model for arrival in arrivals)
    shares = [clients[f"client-{number}"] / len(arrivals) for number in (1, 2, 3, 4)]
    assert shares == pytest.approx([0.48, 0.24, 0.16, 0.12], abs=0.03)
    assert models["a"] / len(arrivals) == pytest.approx(2 / 3, abs=0.03)


def test_lengths_are_log_normal_and_capped() -> None:
    asked = WorkloadSettings(rate_per_s=10, count=2000, prompt_tokens_max=60, output_tokens_max=48)
    arrivals = list(generate(asked, 3))
    words = [len(arrival.prompt.split()) for arrival in arrivals]
    outputs = [arrival.output_tokens_max for arrival in arrivals]
    assert statistics.median(words) * 1.24 == pytest.approx(40, rel=0.08)
    assert max(words) == round(60 / 1.24)
    assert statistics.median(outputs) == pytest.approx(24, rel=0.08)
    assert max(outputs) == 48
    assert min(outputs) >= 1


def test_longer_prompts_come_at_the_same_times_from_the_same_clients() -> None:
    short = generate(WorkloadSettings(rate_per_s=10, count=50), 5)
    long = generate(WorkloadSettings(rate_per_s=10, count=50, prompt_tokens_median=200), 5)
    for one, other in zip(short, long, strict=True):
        assert (one.at_s, one.client, one.system) == (other.at_s, other.client, other.system)
        assert len(one.prompt) < len(other.prompt)


def test_an_endless_workload_is_drawn_as_it_is_read() -> None:
    endless = generate(WorkloadSettings(rate_per_s=10, duration_s=1e12), 1)
    assert len(list(islice(endless, 5))) == 5


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": None},
        {"models": ()},
        {"rate_per_s": 0},
        {"rate_per_s": float("nan")},
        {"duration_s": -1.0},
        {"count": -1},
        {"cv": -0.1},
        {"cv": 11.0},
        {"cv": float("nan")},
        {"clients": 0},
        {"client_zipf": float("inf")},
        {"prompt_tokens_median": 0},
        {"prompt_tokens_max": 39},
        {"output_tokens_max": 3},
    ],
)
def test_settings_that_make_no_sense_are_named(wrong: dict[str, object]) -> None:
    (name,) = wrong
    with pytest.raises(SettingError, match=name):
        WorkloadSettings(**({"rate_per_s": 1.0, "count": 1} | wrong))  # type: ignore[arg-type]
