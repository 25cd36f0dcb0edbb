"""A sweep runs what is left, gives the same results however it is run, and says what is wrong in words."""

import math
from pathlib import Path
from typing import Any

import pytest
from world_nouns import scenario

from isochrone.ports import SettingError
from isochrone.sim import sweep
from isochrone.sim.results import has_run, read_meta, read_run, summarise
from isochrone.sim.runner import REFERENCE_B1, Run, check_policy, jobs_of, simulate
from isochrone.sim.sweep import SweepPlan, left_to_do, plan_runs, run_all

QUICK = {"duration_s": 2, "warmup_s": 0.5, "nodes.count": 2}


def quick_runs(**plan: Any) -> list[Run]:
    return plan_runs(SweepPlan(scenario(QUICK), **({"policies": ("random", "soonest"), "seeds": 2} | plan)))


# -- what is to be run -----------------------------------------------------------------------------------


def test_every_cell_seed_and_policy_is_run_once_what_is_compared_together() -> None:
    what = scenario({**QUICK, "sweep": {"nodes.count": [2, 3], "bus.pulse_s": [1, 2]}})
    runs = plan_runs(SweepPlan(what, policies=("random", REFERENCE_B1), seeds=3, first_seed=7))
    told = [(run.cell["nodes.count"], run.cell["bus.pulse_s"], run.seed, run.policy) for run in runs]
    assert told == [
        (count, pulse_s, seed, policy)
        for count in (2, 3)
        for pulse_s in (1, 2)
        for seed in (7, 8, 9)
        for policy in ("random", REFERENCE_B1)
    ]
    assert all(run.scenario.nodes.count == run.cell["nodes.count"] for run in runs)
    assert len({run.meta.digest for run in runs}) == 4


def test_the_scenarios_own_policies_are_run_when_none_are_named() -> None:
    assert {run.policy for run in plan_runs(SweepPlan(scenario(QUICK), seeds=1))} == {"soonest"}


def test_changes_are_made_in_every_cell() -> None:
    what = scenario({**QUICK, "sweep": {"nodes.count": [2, 3]}})
    runs = plan_runs(SweepPlan(what, seeds=1, changes={"bus.pulse_s": 3}))
    assert {run.scenario.bus.pulse_s for run in runs} == {3}
    assert len(runs) == 2


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        ({"policies": ("sonest",)}, "no policy is called 'sonest'"),
        ({"policies": ("p2c:e=1",)}, "has no parameter 'e'"),
        ({"changes": {"nodes.cuont": 3}}, "cuont"),
        ({"changes": {"nodes.count": -3}}, "nodes.count"),
    ],
)
def test_what_makes_no_sense_is_told_in_one_line(plan: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingError) as caught:
        quick_runs(**plan)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_reference_is_a_policy_to_run_by_its_name() -> None:
    check_policy(REFERENCE_B1)
    with pytest.raises(SettingError, match="there are: soonest"):
        check_policy("reference-b2")


# -- running ---------------------------------------------------------------------------------------------


def test_results_do_not_depend_on_how_many_processes_ran_them(tmp_path: Path) -> None:
    runs, shares = quick_runs(), dict[int, float]()
    one = run_all(runs, tmp_path / "one", 1)
    two = run_all(runs, tmp_path / "two", 2, lambda number, share: shares.update({number: share}))
    assert [path.name for path in one] == [path.name for path in two]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    assert shares == dict.fromkeys(range(4), 1.0)
    assert [(read_meta(path).policy, read_meta(path).seed) for path in one] == [
        (run.policy, run.seed) for run in runs
    ]


def test_after_a_stop_only_the_rest_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, began = quick_runs(), list[Run]()

    def stopped(run: Run, progress: Any) -> Any:
        began.append(run)
        if len(began) == 2:
            raise KeyboardInterrupt
        return simulate(run, progress)

    monkeypatch.setattr(sweep, "simulate", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_all(runs, tmp_path, 1)
    assert len(list(tmp_path.iterdir())) == 1
    rest = left_to_do(runs, tmp_path)
    assert rest == runs[1:]
    assert rest[0] == began[1], "the one that was cut off counts as not run"
    monkeypatch.setattr(sweep, "simulate", simulate)
    run_all(rest, tmp_path, 1)
    assert left_to_do(runs, tmp_path) == []
    assert len(list(tmp_path.iterdir())) == len(runs)


def test_a_damaged_file_is_run_again_to_the_same_bytes(tmp_path: Path) -> None:
    runs = quick_runs()
    files = run_all(runs, tmp_path, 1)
    whole = [file.read_bytes() for file in files]
    files[0].write_bytes(whole[0][: len(whole[0]) // 2])
    files[1].write_bytes(b"")
    files[2].write_bytes(b"no parquet at all")
    assert left_to_do(runs, tmp_path) == runs[:3]
    run_all(left_to_do(runs, tmp_path), tmp_path, 1)
    assert [file.read_bytes() for file in files] == whole


def test_another_setting_is_another_run(tmp_path: Path) -> None:
    runs = quick_runs(policies=("random",), seeds=1)
    run_all(runs, tmp_path, 1)
    assert left_to_do(quick_runs(policies=("random",), seeds=1), tmp_path) == []
    for other in ({"changes": {"bus.pulse_s": 2}}, {"first_seed": 2}, {"policies": ("p2c:d=3",)}):
        changed = quick_runs(**({"policies": ("random",), "seeds": 1} | other))
        assert left_to_do(changed, tmp_path) == changed


def test_what_goes_wrong_in_a_process_is_told_here_and_nothing_is_left_half(tmp_path: Path) -> None:
    runs = quick_runs()
    lost = [Run(runs[0].scenario, "no-such-policy", 1), *runs]
    with pytest.raises(SettingError, match="no policy is called 'no-such-policy'"):
        run_all(lost, tmp_path, 2)
    assert all(file.suffix == ".parquet" for file in tmp_path.iterdir())


# -- one run ---------------------------------------------------------------------------------------------


def test_a_run_tells_what_it_cost_and_reads_back(tmp_path: Path) -> None:
    (run,) = quick_runs(policies=("random",), seeds=1)
    (path,) = run_all([run], tmp_path, 1)
    meta, table = read_run(path)
    assert has_run(tmp_path, run.meta)
    assert meta.counters["nodes"] == 2
    assert meta.counters["window_s"] == 1.5
    assert meta.counters["answered"] == table.num_rows == len(list(jobs_of(run)))
    assert meta.counters["dispatched"] == table.num_rows + meta.counters["retries"]
    summary = summarise(table, meta)
    assert 0 < summary.requests < table.num_rows, "the warm-up does not count"
    assert math.isfinite(summary.ttft_ms.mean)
    assert summary.retry_amplification == 1.0


def test_progress_never_goes_back_and_ends_with_all() -> None:
    shares: list[float] = []
    busy = scenario({**QUICK, "traffic.rate_per_s": 1500, "hardware.box.queue_max": 5})
    simulate(Run(busy, "random", 1), shares.append)
    assert len(shares) > 2
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
