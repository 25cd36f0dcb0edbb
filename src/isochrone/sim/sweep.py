"""Many runs: over cells, policies and seeds, on several cores, and on with what is left after a stop."""

import multiprocessing
import queue
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from multiprocessing.queues import Queue
from pathlib import Path

from isochrone.sim.results import has_run, write_run
from isochrone.sim.runner import Run, check_policy, simulate
from isochrone.sim.scenario.files import Scenario, cells, changed

_POLL_S = 0.2
_SHARE_STEP = 0.01

Told = Callable[[int, float], None]
"""Told that run number so and so is done to this share."""


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """What is to be compared.

    Attributes:
        scenario: with its sweep.
        policies: texts; () for the scenario's own.
        seeds: how many, from `first_seed`.
        first_seed: the first of them.
        changes: made in every cell, by dotted key; a swept key that is changed is swept no more.
    """

    scenario: Scenario
    policies: tuple[str, ...] = ()
    seeds: int = 10
    first_seed: int = 1
    changes: Mapping[str, object] | None = None


def fixed(scenario: Scenario, changes: Mapping[str, object]) -> Scenario:
    """The scenario with these values; a key that is given one is swept no more. Raises SettingError."""
    sweep = {key: values for key, values in scenario.sweep.items() if key not in changes}
    return changed(replace(scenario, sweep=sweep), changes)


def plan_runs(plan: SweepPlan) -> list[Run]:
    """Every run of the plan: for each cell and seed all policies, so that what is compared is run together.

    Raises SettingError for a policy or a change that makes no sense.
    """
    policies = plan.policies or plan.scenario.policies
    for policy in policies:
        check_policy(policy)
    scenario = fixed(plan.scenario, plan.changes or {})
    return [
        Run(scenario=cell, policy=policy, seed=plan.first_seed + number, cell=dict(changes))
        for changes, cell in cells(scenario)
        for number in range(plan.seeds)
        for policy in policies
    ]


def left_to_do(runs: Iterable[Run], folder: Path) -> list[Run]:
    """The runs whose results are not in `folder` yet."""
    return [run for run in runs if not has_run(folder, run.meta)]


def run_all(
    runs: Sequence[Run], folder: Path, jobs: int, told: Told = lambda _run, _share: None
) -> list[Path]:
    """Run all and store each as soon as it is done; returns the files in the order of `runs`.

    With `jobs` above 1 in so many processes. The results do not depend on it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if jobs <= 1 or len(runs) <= 1:
        return [_run_one(number, run, folder, told) for number, run in enumerate(runs)]
    return _run_in_processes(runs, folder, jobs, told)


def _run_one(number: int, run: Run, folder: Path, told: Told) -> Path:
    meta, columns = simulate(run, lambda share: told(number, share))
    path = write_run(folder, meta, columns)
    told(number, 1.0)
    return path


# -- in other processes ----------------------------------------------------------------------------


class _There:
    """What a pool's process has: the way to tell how far it is."""

    shares: "Queue[tuple[int, float]]"


def _begin(shares: "Queue[tuple[int, float]]") -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends us
    _There.shares = shares


def _run_there(number: int, run: Run, folder: Path) -> Path:
    last = 0.0

    def told(number: int, share: float) -> None:
        nonlocal last
        if share - last >= _SHARE_STEP or share >= 1.0:
            last = share
            _There.shares.put((number, share))

    return _run_one(number, run, folder, told)


def _run_in_processes(runs: Sequence[Run], folder: Path, jobs: int, told: Told) -> list[Path]:
    context = multiprocessing.get_context("spawn")
    shares: Queue[tuple[int, float]] = context.Queue()
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=(shares,))
    try:
        futures = [pool.submit(_run_there, number, run, folder) for number, run in enumerate(runs)]
        for number, share in _until_done(futures, shares):
            told(number, share)
        return [future.result() for future in futures]
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _until_done(
    futures: Sequence["Future[Path]"], shares: "Queue[tuple[int, float]]"
) -> Iterator[tuple[int, float]]:
    ended = threading.Event()
    while not ended.is_set():
        done, left = wait(futures, timeout=_POLL_S, return_when=FIRST_EXCEPTION)
        for future in done:
            if (error := future.exception()) is not None:
                raise error
        if not left:
            ended.set()
        while True:
            try:
                yield shares.get_nowait()
            except queue.Empty:
                break
