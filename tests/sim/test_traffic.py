import statistics
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from isochrone.sim.scenario.files import arrivals, build_nodes, changed, digest, load_scenario, read_scenario
from isochrone.sim.scenario.settings import Scenario
from isochrone.sim.scenario.traffic_settings import DaySettings, LengthSettings, TrafficSettings
from isochrone.sim.spec import BYTES_PER_TOKEN, Job
from isochrone.sim.traffic.arrivals import first_gap, gamma_gaps
from isochrone.sim.traffic.jobs import client_regions, mean_demand, model_shares, rate_per_s
from isochrone.sim.traffic.prompts import draw_tokens, mean_tokens
from isochrone.sim.traffic.rate_curve import rate_curve
from isochrone.sim.traffic.streams import hashes, luck_for, pick, whole_shares, zipf_shares

PLAIN = """
duration_s = 200
[nodes]
count = 4
hardware = { unit = 1 }
[hardware.unit]
slots = 1
queue_max = 10
memory_bytes = inf
chunk_tokens = 0
prefix_block_tokens = 0
[hardware.unit.speeds]
a = { prefill_base_ms = 0, prefill_ms_per_token = 1, tpot_ms = 1 }
b = { prefill_base_ms = 0, prefill_ms_per_token = 1, tpot_ms = 1 }
c = { prefill_base_ms = 0, prefill_ms_per_token = 1, tpot_ms = 1 }
[traffic]
rate_per_s = 50
models = ["a", "b", "c"]
regions = { "West Europe" = 3, "East US" = 1 }
"""


def plain(**changes: object) -> Scenario:
    dotted = {f"traffic.{key.replace('__', '.')}": each for key, each in changes.items()}
    return changed(read_scenario(PLAIN, "plain.toml"), dotted)


def jobs_of(scenario: Scenario, seed: int = 1) -> list[Job]:
    return list(arrivals(scenario, build_nodes(scenario, seed), seed))


def gaps_of(jobs: list[Job]) -> list[float]:
    return [later.at_s - sooner.at_s for sooner, later in pairwise(jobs)]


# -- time --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cv", [0.0, 0.5, 1.0, 3.5])
def test_gaps_have_the_mean_and_the_spread_asked_for(cv: float) -> None:
    jobs = jobs_of(changed(plain(cv=cv), {"duration_s": 1000}))
    gaps_s = gaps_of(jobs)
    assert len(jobs) == pytest.approx(50_000, rel=0.05)
    assert min(gaps_s) >= 0
    assert jobs[0].at_s >= 0
    assert jobs[-1].at_s < 1000
    assert statistics.pstdev(gaps_s) / statistics.fmean(gaps_s) == pytest.approx(cv, abs=0.15)


def test_a_bursty_process_starts_as_if_it_had_run_for_long() -> None:
    luck = luck_for(1, "test")
    counts = []
    for _ in range(4000):
        times = first_gap(3.5, luck) + np.concatenate([[0.0], np.cumsum(gamma_gaps(3.5, 200, luck))])
        counts.append(int(np.searchsorted(times, 10.0)))
    # A process started with a gap would have (3.5² - 1) / 2 = 5.6 too many.
    assert statistics.fmean(counts) == pytest.approx(10, abs=0.8)


def test_rho_is_the_share_of_what_the_nodes_can_serve() -> None:
    scenario = plain(rho=0.8, prompt={"kind": "fixed", "median_tokens": 100}, output={"kind": "fixed"})
    nodes = build_nodes(scenario, 1)
    assert rate_per_s(scenario, nodes) == pytest.approx(0.8 * 4 * 1000 / (100 + 99))
    assert len(jobs_of(scenario)) == pytest.approx(200 * rate_per_s(scenario, nodes), rel=0.05)


def test_a_surge_multiplies_the_rate_of_its_region_for_its_time() -> None:
    jobs = jobs_of(plain(surges=[{"at_s": 50, "duration_s": 50, "factor": 4, "region": "East US"}]))
    within = Counter(job.region for job in jobs if 50 <= job.at_s < 100)
    before = Counter(job.region for job in jobs if job.at_s < 50)
    assert within["East US"] == pytest.approx(4 * 50 * 12.5, rel=0.1)
    assert within["West Europe"] == pytest.approx(50 * 37.5, rel=0.1)
    assert before["East US"] == pytest.approx(50 * 12.5, rel=0.15)


def test_nothing_comes_where_a_surge_takes_all_away() -> None:
    jobs = jobs_of(plain(surges=[{"at_s": 50, "duration_s": 100, "factor": 0}]))
    assert not [job for job in jobs if 50.01 < job.at_s < 149.99]
    assert [job for job in jobs if job.at_s > 150]


def test_a_day_has_the_mean_asked_for_and_each_region_its_own_peak() -> None:
    traffic = TrafficSettings(day=DaySettings(amplitude=1.0, peak_hour=15, time_scale=86.4))
    curve = rate_curve(traffic, {"UK South": 1.0, "Japan East": 1.0}, rate_per_s=10, duration_s=1000)
    assert curve.total == pytest.approx(10_000, rel=1e-3)
    hours = (curve.edges_s[:-1] + curve.edges_s[1:]) / 2 * 24 / 1000
    parts = np.diff(curve.shares, axis=1, prepend=0.0) * np.diff(curve.expected)[:, None]
    assert hours[parts[:, 0].argmax()] == pytest.approx(15, abs=0.2)
    assert hours[parts[:, 1].argmax()] == pytest.approx(15 - 9, abs=0.2)


def test_bursts_stay_bursts_in_a_surge() -> None:
    scenario = plain(cv=3.0, surges=[{"at_s": 0, "duration_s": 100, "factor": 5}])
    gaps_s = gaps_of([job for job in jobs_of(scenario) if job.at_s < 100])
    assert statistics.pstdev(gaps_s) / statistics.fmean(gaps_s) == pytest.approx(3.0, abs=0.4)


# -- luck --------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bytes_and_another_does_not() -> None:
    scenario = load_scenario("smoke")
    once, again, other = (repr(jobs_of(scenario, seed)) for seed in (5, 5, 6))
    assert once == again
    assert once != other


def test_each_kind_of_luck_is_its_own() -> None:
    base = jobs_of(plain())
    longer = jobs_of(plain(prompt__median_tokens=999))
    bursty = jobs_of(plain(cv=2))
    urgent = jobs_of(plain(priorities=[0.5, 0.5]))
    places = [(job.region, job.client, job.model, job.output_tokens) for job in base]
    assert [(job.region, job.client, job.model, job.output_tokens) for job in longer] == places
    assert [job.at_s for job in longer] == [job.at_s for job in base]
    count = min(len(base), len(bursty))
    assert [job.prompt_tokens for job in bursty[:count]] == [job.prompt_tokens for job in base[:count]]
    assert [job.at_s for job in urgent] == [job.at_s for job in base]
    assert statistics.fmean(job.priority for job in urgent) == pytest.approx(0.5, abs=0.05)


# -- who and what ------------------------------------------------------------------------------------


def test_a_share_asks_for_the_slo_and_nothing_else_changes() -> None:
    """Whoever asks is drawn from luck of its own: the requests are the same, whatever the share."""
    none, half = jobs_of(plain()), jobs_of(plain(slo_share=0.5))
    assert not any(job.slo for job in none)
    assert sum(job.slo for job in half) / len(half) == pytest.approx(0.5, abs=0.02)
    assert [replace(job, slo=False) for job in half] == none
    assert all(job.slo for job in jobs_of(plain(slo_share=1.0)))


def test_a_scenario_in_which_nobody_asks_has_the_digest_that_it_always_had() -> None:
    assert digest(plain(slo_share=0.0)) == digest(plain())
    assert digest(plain(slo_share=0.5)) != digest(plain())


def test_regions_clients_and_models_have_their_shares() -> None:
    scenario = plain(clients_per_region=10, client_zipf=1.0, model_zipf=1.0)
    jobs = jobs_of(scenario)
    regions, models = Counter(job.region for job in jobs), Counter(job.model for job in jobs)
    assert client_regions(scenario) == {"East US": 0.25, "West Europe": 0.75}
    assert regions["West Europe"] / len(jobs) == pytest.approx(0.75, abs=0.02)
    for name, share in model_shares(scenario).items():
        assert models[name] / len(jobs) == pytest.approx(share, abs=0.02)
    homes = {(job.client, job.region) for job in jobs}
    assert len(homes) == len({client for client, _ in homes}) == 20
    busiest = Counter(job.client for job in jobs if job.region == "East US").most_common(1)[0][1]
    assert busiest / regions["East US"] == pytest.approx(zipf_shares(10, 1.0)[0], abs=0.03)


@pytest.mark.parametrize(
    "length",
    [
        LengthSettings(median_tokens=300, sigma=1.0, max_tokens=2000),
        LengthSettings(median_tokens=50, sigma=0.0),
        LengthSettings(kind="exponential", mean_tokens=200, max_tokens=10_000),
        LengthSettings(kind="exponential", mean_tokens=200, max_tokens=300),
        LengthSettings(kind="fixed", median_tokens=7),
    ],
)
def test_lengths_have_the_mean_that_the_rate_is_computed_from(length: LengthSettings) -> None:
    drawn = draw_tokens(length, 200_000, luck_for(1, "test"))
    assert drawn.min() >= 1
    assert drawn.max() <= length.max_tokens
    assert drawn.mean() == pytest.approx(mean_tokens(length), rel=0.01)


def test_clients_set_a_limit_only_if_told_so() -> None:
    assert {job.output_tokens_max for job in jobs_of(plain())} == {None}
    limited = jobs_of(plain(output_limited=True, output={"median_tokens": 20, "max_tokens": 30}))
    assert {job.output_tokens_max for job in limited} == {30}
    assert max(job.output_tokens for job in limited) == 30


def test_clients_alike_in_length_are_as_they_always_were() -> None:
    assert jobs_of(plain(output_client_sigma=0.0)) == jobs_of(plain())
    assert digest(plain(output_client_sigma=0.0)) == digest(plain())
    assert digest(plain(output_client_sigma=0.5)) != digest(plain())


def test_clients_differ_in_length_and_in_nothing_else() -> None:
    alike, apart = jobs_of(plain()), jobs_of(plain(output_client_sigma=1.0))
    assert apart == jobs_of(plain(output_client_sigma=1.0))
    assert [replace(job, output_tokens=1) for job in apart] == [
        replace(job, output_tokens=1) for job in alike
    ]
    ratios: dict[int, list[float]] = {}
    for one, other in zip(apart, alike, strict=True):
        if other.output_tokens >= 50:  # rounding to whole tokens says little then
            ratios.setdefault(one.client, []).append(one.output_tokens / other.output_tokens)
    often = [each for each in ratios.values() if len(each) >= 20]
    assert len(often) >= 20
    assert all(max(each) - min(each) < 0.05 * max(each) + 0.02 for each in often)
    logs = np.log([statistics.fmean(each) for each in often])
    assert logs.std() == pytest.approx(1.0, abs=0.3)


@pytest.mark.parametrize("length", [{"median_tokens": 200, "sigma": 0.8, "max_tokens": 2000}, {"sigma": 0.3}])
@pytest.mark.parametrize("per_region", [3, 100])
def test_clients_that_differ_leave_the_mean_length_as_it_is(
    length: dict[str, float], per_region: int
) -> None:
    wanted = plain(rate_per_s=400, output=length, clients_per_region=per_region)
    lengths = [job.output_tokens for job in jobs_of(changed(wanted, {"traffic.output_client_sigma": 1.0}))]
    assert min(lengths) >= 1
    assert max(lengths) <= wanted.traffic.output.max_tokens
    assert statistics.fmean(lengths) == pytest.approx(mean_tokens(wanted.traffic.output), rel=0.03)


# -- prefixes ----------------------------------------------------------------------------------------


def shared(one: Job, other: Job) -> int:
    """Tokens of blocks that two prompts begin with."""
    return one.blocks.prefix_bytes(set(other.blocks.hashes)) // BYTES_PER_TOKEN


def test_prompts_of_one_client_and_model_share_its_prefix_and_nothing_else() -> None:
    jobs = jobs_of(plain(prefix={"client_tokens": 200, "block_tokens": 10}, clients_per_region=3))[:300]
    for one, other in pairwise(jobs):
        same = (one.client, one.model) == (other.client, other.model)
        assert shared(one, other) > 90 if same else shared(one, other) == 0
    for job in jobs:
        assert len(job.blocks.hashes) == job.prompt_tokens // 10
        assert job.blocks.block_bytes == 10 * BYTES_PER_TOKEN
        assert all(0 <= block < 2**64 for block in job.blocks.hashes)
    assert len({block for job in jobs for block in job.blocks.hashes}) > 1000


def test_a_conversation_repeats_all_that_was_said() -> None:
    prefix = {"follow_up_share": 0.6, "block_tokens": 10, "conversations_max": 1, "context_tokens_max": 5000}
    scenario = plain(prefix=prefix, clients_per_region=1, prompt={"kind": "fixed"}, output={"kind": "fixed"})
    jobs = jobs_of(scenario)
    follow_ups = 0
    last: dict[int, Job] = {}
    for job in jobs:
        before = last.get(job.client)
        if before and job.prompt_tokens > 100:
            follow_ups += 1
            assert job.prompt_tokens == before.prompt_tokens + 200
            assert job.model == before.model
            assert shared(job, before) == before.prompt_tokens
        last[job.client] = job
    assert follow_ups / len(jobs) == pytest.approx(0.6, abs=0.03)
    assert max(job.prompt_tokens for job in jobs) <= 5000
    mean = mean_demand(scenario).prompt_tokens
    assert mean == pytest.approx(statistics.fmean(job.prompt_tokens for job in jobs), rel=0.05)


def test_without_blocks_there_are_no_chains() -> None:
    assert {job.blocks.hashes for job in jobs_of(plain(prefix__block_tokens=0))} == {()}


# -- numbers -----------------------------------------------------------------------------------------


def test_whole_shares_sum_up_and_are_nearest() -> None:
    assert whole_shares(np.array([1.0, 1.0, 1.0]), 10).tolist() == [4, 3, 3]
    assert whole_shares(np.array([0.0, 3.0, 1.0]), 4).tolist() == [0, 3, 1]


def test_picks_and_hashes_stay_in_their_range() -> None:
    assert pick(np.array([1.0, 0.0, 3.0]), np.array([0.0, 0.2499, 0.25, 0.9999])).tolist() == [0, 0, 2, 2]
    assert hashes(1, 2).tolist() == hashes(1, np.array([2])).tolist() != hashes(2, 1).tolist()
    assert len(set(hashes(1, np.arange(10_000)).tolist())) == 10_000
