"""Fair rivals: each policy's parameters tried on a workload, and the best kept.

Tuned on seeds of their own, so that what is compared afterwards was never seen by any of them.
"""

import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from isochrone import __version__
from isochrone.ports import SettingError
from isochrone.routing import CATALOGUE, find_policy
from isochrone.sim.results import ended_as, numbers, read_run, truths
from isochrone.sim.runner import Run
from isochrone.sim.scenario.files import Scenario, digest

FIRST_SEED = 1001
"""Seeds from here on are for tuning only."""

UNANSWERED_S_MAX = 3600.0
"""What a request without an answer costs, where clients would wait for longer than that."""

TRIES_MAX = 32
"""Settings of one policy that are tried unless told otherwise: every policy's whole grid."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One setting of one policy, tried.

    Attributes:
        policy: with its parameters, as `find_policy` takes it.
        cost_ms: mean over all counted requests of the time to first token, or to the last where clients do
            not read along; one without an answer costs the deadline,
            an hour at most.
        seeds: over how many seeds.
    """

    policy: str
    cost_ms: float
    seeds: int


@dataclass(frozen=True, slots=True)
class Tuned:
    """What tuning found for one policy: every trial, the best first."""

    name: str
    trials: tuple[Trial, ...]

    @property
    def best(self) -> str:
        """The best setting."""
        return self.trials[0].policy


def settings_of(name: str, most: int = TRIES_MAX) -> list[str]:
    """The default, then the policy's grid; of a grid larger than `most`, so many evenly spread over it.

    Parameters in `name` are left out: a policy is tuned as a whole. Raises KeyError for an unknown name.
    """
    policy = find_policy(name)
    name = policy.name
    grid = policy.grid or {}
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    kept = [points[number * len(points) // most] for number in range(most)] if len(points) > most else points
    written = (_text(name, point) for point in kept if point)
    return list(dict.fromkeys((name, *written)))


def _text(name: str, point: Mapping[str, float]) -> str:
    return f"{name}:" + ",".join(f"{key}={value:g}" for key, value in point.items())


def tuning_runs(scenario: Scenario, names: Iterable[str], seeds: int, most: int = TRIES_MAX) -> list[Run]:
    """Every run that tuning these policies takes, at most `most` settings of the grid each."""
    return [
        Run(scenario, policy, FIRST_SEED + number)
        for number in range(seeds)
        for name in names
        for policy in settings_of(name, most)
    ]


def judge(
    scenario: Scenario, names: Iterable[str], runs: Sequence[Run], files: Sequence[Path]
) -> list[Tuned]:
    """Each policy's trials, the best first; between equals the one nearer the beginning of the grid."""
    costs: dict[str, list[float]] = {}
    for run, path in zip(runs, files, strict=True):
        costs.setdefault(run.policy, []).append(_cost_ms(path, scenario))
    found = []
    for name in names:
        tried = [policy for policy in costs if find_policy(policy).name == name]
        trials = [Trial(p, sum(costs[p]) / len(costs[p]), len(costs[p])) for p in tried]
        found.append(Tuned(name, tuple(sorted(trials, key=lambda trial: trial.cost_ms))))
    return found


def _cost_ms(path: Path, scenario: Scenario) -> float:
    _, table = read_run(path)
    counted, answered = truths(table, "counted"), ended_as(table, "answered")
    cost_ms = numbers(table, "ttft_ms" if scenario.traffic.stream else "total_ms").copy()
    cost_ms[~answered] = min(scenario.gateways.timeout_s, UNANSWERED_S_MAX) * 1e3
    return float(cost_ms[counted].mean()) if counted.any() else math.inf


def write_tuning(path: Path, scenario: Scenario, found: Sequence[Tuned], command: str) -> None:
    """Record what was tried and found, as JSON that `read_tuning` reads."""
    told = {
        "scenario": scenario.name,
        "digest": digest(scenario),
        "version": __version__,
        "command": command,
        "best": {tuned.name: tuned.best for tuned in found},
        "grids": {tuned.name: _grid(tuned.name) for tuned in found},
        "trials": {
            tuned.name: [
                {"policy": trial.policy, "cost_ms": round(trial.cost_ms, 3), "seeds": trial.seeds}
                for trial in tuned.trials
            ]
            for tuned in found
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(told, indent=1) + "\n")


@dataclass(frozen=True, slots=True)
class Tuning:
    """A record of tuning, and what it was made for.

    Attributes:
        scenario: name of the scenario.
        digest: of its values; "" where the record does not tell.
        command: that made the record, "" likewise.
        best: the best setting by policy name.
        grids: what was tried, the values of each parameter by policy name; empty where it does not tell.
    """

    scenario: str
    digest: str
    command: str
    best: Mapping[str, str]
    grids: Mapping[str, Mapping[str, Sequence[float]]]

    def doubts(self, scenario: Scenario, names: Iterable[str]) -> list[str]:
        """Why this may say little of `names` in `scenario`, each in words.

        A tuning is often made on a small edition of a scenario, so none of them is an error.
        """
        names, found = [name for name in names if name in CATALOGUE and CATALOGUE[name].grid], []
        if self.scenario != scenario.name:
            found.append(f"tuned for {self.scenario}, which says little of {scenario.name}")
        elif self.digest and self.digest != digest(scenario):
            by = f", by: {self.command}" if self.command else ""
            found.append(f"tuned for {self.scenario} with other values than now{by}")
        if missing := [name for name in names if name not in self.best]:
            found.append(f"not tuned, so with their defaults: {', '.join(missing)}")
        if other := [name for name in names if name in self.grids and self.grids[name] != _grid(name)]:
            found.append(f"tuned over other parameters than there are now to be tried: {', '.join(other)}")
        return found


def _grid(name: str) -> dict[str, list[float]]:
    return {key: list(values) for key, values in (find_policy(name).grid or {}).items()}


def read_tuning(path: Path) -> Tuning:
    """The record at `path`. Raises SettingError when the file is not one of ours."""
    try:
        told = json.loads(path.read_text("utf-8"))
        return Tuning(
            scenario=str(told["scenario"]),
            digest=str(told.get("digest", "")),
            command=str(told.get("command", "")),
            best={str(name): str(policy) for name, policy in told["best"].items()},
            grids={str(name): dict(grid) for name, grid in told.get("grids", {}).items()},
        )
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingError(f"{path} is no record of tuning: {error}; make one with --tune") from error
