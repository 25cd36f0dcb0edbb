"""Tuning tries every setting on seeds of its own, keeps the best and writes down how it came to it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from world_nouns import QUEUE, scenario

from isochrone.ports import SettingError
from isochrone.routing import CATALOGUE, find_policy
from isochrone.sim.results import blank_columns, write_run
from isochrone.sim.runner import Run
from isochrone.sim.scenario.files import changed
from isochrone.sim.sweep import run_all
from isochrone.sim.tuning import (
    FIRST_SEED,
    TRIES_MAX,
    Trial,
    Tuned,
    judge,
    read_tuning,
    settings_of,
    tuning_runs,
    write_tuning,
)


def stored(folder: Path, run: Run, **columns: Any) -> Path:
    """A run's file with these columns in place of a simulation's."""
    rows = len(next(iter(columns.values())))
    return write_run(folder, run.meta, blank_columns(rows) | columns)


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_policy_has_settings_that_can_be_run_the_default_first(name: str) -> None:
    settings = settings_of(name)
    assert settings[0] == name
    assert len(settings) <= TRIES_MAX + 1
    assert len(set(settings)) == len(settings)
    for text in settings:
        assert find_policy(text).name == name


def test_tuning_runs_are_on_seeds_of_their_own_and_all_settings_share_them() -> None:
    runs = tuning_runs(scenario(), ["p2c", "random"], 2)
    settings = [*settings_of("p2c"), "random"]
    assert [(run.seed, run.policy) for run in runs] == [
        (FIRST_SEED + number, policy) for number in range(2) for policy in settings
    ]
    assert min(run.seed for run in runs) > 1000


def test_the_better_of_settings_wins_where_one_is_obviously_better(tmp_path: Path) -> None:
    """The nearest nodes are too few for all: who spills late pays for it."""
    changes = {
        "nodes.count": 4,
        "nodes.regions": ["West Europe", "East US"],
        "nodes.regions_by": "even",
        "traffic.rate_per_s": 24,
        "duration_s": 10,
        "bus.tick_s": 0.25,
    }
    what = scenario(QUEUE | changes)
    runs = tuning_runs(what, ["nearest-with-spill"], 1)
    (found,) = judge(what, ["nearest-with-spill"], runs, run_all(runs, tmp_path, 1))
    costs = {trial.policy: trial.cost_ms for trial in found.trials}
    assert found.best == min(costs, key=costs.__getitem__)
    assert len(found.trials) == len(settings_of("nearest-with-spill"))
    assert costs[found.best] < 0.8 * costs["nearest-with-spill:wait_max_s=2,corrected=1"]


def test_a_setting_costs_its_mean_and_whoever_has_no_answer_costs_the_deadline(tmp_path: Path) -> None:
    what = scenario({"gateways.timeout_s": 9})
    runs, settings = tuning_runs(what, ["jiq"], 2), settings_of("jiq")
    assert len(settings) >= 2
    files = []
    for run in runs:
        ttft_ms = np.array([100.0, 300.0, np.nan, 1e6])
        kinds = np.array(["answered", "answered", "refused", "answered"], dtype=object)
        if run.policy != settings[0]:
            ttft_ms[:2] = (150.0, 150.0) if run.seed == FIRST_SEED else (150.0, 50.0)
        counted = np.array([True, True, True, False])
        files.append(stored(tmp_path, run, ttft_ms=ttft_ms, kind=kinds, counted=counted))
    (found,) = judge(what, ["jiq"], runs, files)
    costs = {trial.policy: trial.cost_ms for trial in found.trials}
    assert costs[settings[0]] == pytest.approx((100 + 300 + 9000) / 3)
    assert costs[settings[1]] == pytest.approx(((150 + 150 + 9000) / 3 + (150 + 50 + 9000) / 3) / 2)
    assert found.best == settings[1]
    assert {trial.seeds for trial in found.trials} == {2}


def test_clients_who_wait_for_the_whole_are_judged_by_the_whole(tmp_path: Path) -> None:
    what = scenario({"traffic.stream": False})
    runs = tuning_runs(what, ["random"], 1)
    told = {"ttft_ms": np.array([1.0]), "total_ms": np.array([500.0])}
    (found,) = judge(what, ["random"], runs, [stored(tmp_path, runs[0], **told)])
    assert found.trials[0].cost_ms == 500.0


def test_between_equals_the_default_wins(tmp_path: Path) -> None:
    what = scenario()
    runs = tuning_runs(what, ["p2c"], 1)
    files = [stored(tmp_path, run, ttft_ms=np.array([7.0])) for run in runs]
    (found,) = judge(what, ["p2c"], runs, files)
    assert found.best == "p2c"


def test_a_run_in_which_nothing_counts_is_never_the_best(tmp_path: Path) -> None:
    what = scenario()
    runs = tuning_runs(what, ["jiq"], 1)
    files = [
        stored(tmp_path, run, ttft_ms=np.array([7.0]), counted=np.array([run.policy != "jiq"]))
        for run in runs
    ]
    (found,) = judge(what, ["jiq"], runs, files)
    assert found.best != "jiq"


def test_a_record_reads_back_and_tells_every_trial(tmp_path: Path) -> None:
    what = scenario()
    runs = tuning_runs(what, ["jiq", "random"], 1)
    files = [stored(tmp_path, run, ttft_ms=np.array([float(at)])) for at, run in enumerate(runs)]
    found = judge(what, ["jiq", "random"], runs, files)
    path = tmp_path / "deep" / "tuned.json"
    write_tuning(path, what, found, "isochrone sim small --tune")
    tuning = read_tuning(path)
    assert (tuning.scenario, tuning.best) == ("small", {"jiq": "jiq", "random": "random"})
    assert tuning.doubts(what, ["jiq", "random", "soonest"]) == []
    told = json.loads(path.read_text())
    assert told["scenario"] == "small"
    assert told["command"] == "isochrone sim small --tune"
    assert [trial["policy"] for trial in told["trials"]["jiq"]] == settings_of("jiq")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"best": 3}', '{"best": {}}', "{", "\udcff"])
def test_what_is_no_record_is_told_in_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "tuned.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(SettingError, match="no record of tuning") as caught:
        read_tuning(path)
    assert "\n" not in str(caught.value)


def test_a_record_that_is_not_there_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="no record of tuning"):
        read_tuning(tmp_path / "nowhere.json")


def test_an_unknown_policy_has_no_settings() -> None:
    with pytest.raises(KeyError, match="no policy is called 'sonest'"):
        settings_of("sonest")


def test_a_record_tells_what_speaks_against_its_use(tmp_path: Path) -> None:
    """For other values, a policy that was not tuned, and parameters that are tried by now."""
    what, path = scenario(), tmp_path / "tuned.json"
    found = [Tuned(name, (Trial(name, 1.0, 1),)) for name in ("prequal", "drawn")]
    write_tuning(path, what, found, "isochrone sim small --tune tuned.json")
    names = ["prequal", "drawn", "random", "prequal:q_rif=0.5", "soonest"]
    assert read_tuning(path).doubts(what, names) == []
    (other_values,) = read_tuning(path).doubts(changed(what, {"duration_s": 7.0}), names)
    assert other_values == (
        "tuned for small with other values than now, by: isochrone sim small --tune tuned.json"
    )
    (other_name,) = read_tuning(path).doubts(replace(what, name="large"), names)
    assert other_name == "tuned for small, which says little of large"
    (missing,) = read_tuning(path).doubts(what, [*names, "p2c", "c3"])
    assert missing == "not tuned, so with their defaults: p2c, c3"
    told = json.loads(path.read_text())
    told["grids"]["drawn"]["d"] = [1, 2]
    path.write_text(json.dumps(told))
    (grid,) = read_tuning(path).doubts(what, names)
    assert grid == "tuned over other parameters than there are now to be tried: drawn"


def test_an_older_record_that_tells_less_is_used_without_a_word(tmp_path: Path) -> None:
    path = tmp_path / "tuned.json"
    path.write_text(json.dumps({"scenario": "small", "best": {"prequal": "prequal"}}))
    assert read_tuning(path).doubts(scenario(), ["prequal"]) == []
