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
from isochrone.routing import find_policy
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


def read_tuning(path: Path) -> tuple[str, dict[str, str]]:
    """(name of the scenario it is for, the best setting by policy name).

    Raises SettingError when the file is not one of ours.
    """
    try:
        told = json.loads(path.read_text("utf-8"))
        best = {str(name): str(policy) for name, policy in told["best"].items()}
        return str(told["scenario"]), best
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingError(f"{path} is no record of tuning: {error}; make one with --tune") from error
