"""`isochrone sim`: policies against each other in a simulated world."""

import json
import math
import os
import shlex
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from isochrone.ports import SettingError
from isochrone.routing import CATALOGUE, find_policy
from isochrone.sim.report import ReportWords, write_report
from isochrone.sim.results import RunSummary, Slo, read_run, run_path, summarise
from isochrone.sim.runner import Run
from isochrone.sim.scenario.files import Scenario, load_scenario, shipped_scenarios
from isochrone.sim.sweep import SweepPlan, fixed, left_to_do, plan_runs, run_all
from isochrone.sim.tuning import TRIES_MAX, judge, read_tuning, settings_of, tuning_runs, write_tuning

Options = list[str] | None


def sim(
    scenario: Annotated[str, typer.Argument(help="A shipped scenario, or the path of a .toml file.")] = "",
    policy: Annotated[
        Options, typer.Option(help="Only these: name or name:parameter=number,... 'all' for all. Repeat.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds; the same for every policy.")] = 10,
    first_seed: Annotated[int, typer.Option(min=0, help="The first of them.")] = 1,
    nodes: Annotated[int | None, typer.Option(min=1, help="Short for --set nodes.count=N.")] = None,
    change: Annotated[
        Options, typer.Option("--set", help="Another value: key=value, such as traffic.rho=0.9. Repeat.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for results; what is in it already is not run again.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=0, help="Processes; 0 for one a core.")] = 0,
    tuned: Annotated[
        Path | None, typer.Option(help="Take each policy's parameters from this record.")
    ] = None,
    tune: Annotated[
        Path | None, typer.Option(help="Tune the policies instead, on seeds of their own; record it here.")
    ] = None,
    tries: Annotated[
        int, typer.Option(min=1, help="When tuning: settings of each policy's grid at most.")
    ] = TRIES_MAX,
    as_json: Annotated[bool, typer.Option("--json", help="The summaries as JSON.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="List the shipped scenarios.")] = False,
) -> None:
    """Run policies against each other in virtual time, over the code that the gateway runs.

    Writes one Parquet file for each run (a row a request, with its decision), summary.json, pictures and
    report.html. A sweep that was stopped goes on where it was when called again with the same --out.
    """
    if listed or not scenario:
        return _list_scenarios(as_json=as_json)
    console = Console(stderr=True)
    found = fixed(load_scenario(scenario), _changes(change or (), nodes))
    names = _policies(found, policy or (), tuned)
    folder = out or Path("isochrone-sim") / found.name
    jobs = jobs or os.cpu_count() or 1
    if tune is not None:
        return _tune(console, found, names, Effort(seeds, jobs, folder, tries), tune)
    runs = plan_runs(SweepPlan(found, tuple(names), seeds, first_seed))
    _run_with_progress(console, runs, folder, jobs)
    summaries = _summaries(runs, folder, found)
    words = ReportWords(
        title=found.title or found.name,
        question=found.question,
        command=_command(),
        slo=Slo(found.slo.ttft_ms, found.slo.tpot_ms),
        timeline=bool(found.faults or found.traffic.surges),
    )
    report = write_report(folder, words)
    if as_json:
        typer.echo((folder / "summary.json").read_text())
    else:
        Console().print(_tables(summaries))
    console.print(f"\nreport: {report}", highlight=False)
    return None


# -- what is asked for -----------------------------------------------------------------------------


def _changes(given: Sequence[str], nodes: int | None) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for each in given:
        key, equals, value = each.partition("=")
        if not equals:
            raise SettingError(f"--set {each!r}: write key=value, such as traffic.rho=0.9")
        try:
            changes[key.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            changes[key.strip()] = value.strip()
    if nodes is not None:
        changes["nodes.count"] = nodes
    return changes


def _policies(scenario: Scenario, given: Sequence[str], tuned: Path | None) -> list[str]:
    names = list(given) or list(scenario.policies)
    if "all" in names:
        names = [name for name in names if name != "all"] + [name for name in CATALOGUE if name not in names]
    if tuned is None:
        return names
    tuning = read_tuning(tuned)
    for doubt in tuning.doubts(scenario, names):
        typer.echo(f"{tuned}: {doubt}", err=True)
    return [tuning.best.get(name, name) for name in names]


def _command() -> str:
    return shlex.join(["isochrone", *sys.argv[1:]])


def _list_scenarios(*, as_json: bool) -> None:
    if as_json:
        return typer.echo(json.dumps(shipped_scenarios(), indent=2))
    table = Table("scenario", "about", box=None)
    for name, title in shipped_scenarios().items():
        table.add_row(name, title)
    return Console().print(table)


# -- running ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is run, and where it goes."""

    seeds: int
    jobs: int
    folder: Path
    tries: int


def _run_with_progress(console: Console, runs: Sequence[Run], folder: Path, jobs: int) -> None:
    left = left_to_do(runs, folder)
    if len(left) < len(runs):
        console.print(f"{len(runs) - len(left)} of {len(runs)} runs are in {folder} already", highlight=False)
    shares = [0.0] * len(left)
    columns = (
        TextColumn("{task.fields[done]}/{task.fields[runs]} runs"), BarColumn(), TaskProgressColumn(),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(elapsed_when_finished=False),
    )  # fmt: skip
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=float(len(left)), done=0, runs=len(left))

        def told(number: int, share: float) -> None:
            shares[number] = max(shares[number], share)
            bar.update(task, completed=sum(shares), done=sum(each >= 1.0 for each in shares))

        run_all(left, folder, jobs, told)


def _tune(console: Console, scenario: Scenario, names: Sequence[str], effort: Effort, record: Path) -> None:
    plain = [find_policy(name).name for name in names]
    if scenario.sweep:
        raise SettingError(
            f"{scenario.name}: a sweep can't be tuned at once; fix its keys with --set key=value"
        )
    tried = sum(len(settings_of(name, effort.tries)) for name in plain)
    console.print(f"{tried} settings of {len(plain)} policies, {effort.seeds} seeds each", highlight=False)
    runs = tuning_runs(scenario, plain, effort.seeds, effort.tries)
    _run_with_progress(console, runs, effort.folder, effort.jobs)
    found = judge(scenario, plain, runs, [run_path(effort.folder, run.meta) for run in runs])
    write_tuning(record, scenario, found, _command())
    table = Table("policy", "best", "mean ms", "default ms", box=None)
    for tuned in found:
        default = next(trial for trial in tuned.trials if trial.policy == tuned.name)
        table.add_row(tuned.name, tuned.best, f"{tuned.trials[0].cost_ms:,.0f}", f"{default.cost_ms:,.0f}")
    Console().print(table)
    console.print(f"\nrecord: {record}", highlight=False)


def _summaries(runs: Sequence[Run], folder: Path, scenario: Scenario) -> list[RunSummary]:
    slo = Slo(scenario.slo.ttft_ms, scenario.slo.tpot_ms)
    summaries = []
    for run in runs:
        meta, table = read_run(run_path(folder, run.meta))
        summaries.append(summarise(table, meta, slo))
    return summaries


# -- telling ---------------------------------------------------------------------------------------


def _tables(summaries: Sequence[RunSummary]) -> RenderableType:
    """A table for each cell, a line for each policy: means over seeds, times in seconds."""
    cells: dict[str, dict[str, list[RunSummary]]] = {}
    for summary in summaries:
        cell = ", ".join(f"{key} = {value}" for key, value in summary.meta.cell.items())
        cells.setdefault(cell, {}).setdefault(summary.meta.policy, []).append(summary)
    return Group(*(_table(cell, policies) for cell, policies in cells.items()))


def _table(cell: str, policies: Mapping[str, Sequence[RunSummary]]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, title=cell or None, title_justify="left")
    table.add_column("policy")
    for name in ("TTFT s", "p95", "p99", "total s", "p99", "good/s", "errors", "hits"):
        table.add_column(name, justify="right", no_wrap=True)
    asked = any(summary.slo_requests for found in policies.values() for summary in found)
    for name in ("SLO kept", "others' TTFT s", "p95") if asked else ():
        table.add_column(name, justify="right", no_wrap=True)
    for policy, found in policies.items():
        of_slo = (
            f"{_mean(s.slo_kept_share for s in found):.2%}",
            f"{_mean(s.others_ttft_ms.mean for s in found) / 1e3:.3g}",
            f"{_mean(s.others_ttft_ms.p95 for s in found) / 1e3:.3g}",
        )
        table.add_row(
            policy,
            f"{_mean(s.ttft_ms.mean for s in found) / 1e3:.3g}",
            f"{_mean(s.ttft_ms.p95 for s in found) / 1e3:.3g}",
            f"{_mean(s.ttft_ms.p99 for s in found) / 1e3:.3g}",
            f"{_mean(s.total_ms.mean for s in found) / 1e3:.3g}",
            f"{_mean(s.total_ms.p99 for s in found) / 1e3:.3g}",
            f"{_mean(s.goodput_per_s for s in found):.1f}",
            f"{_mean(s.error_share for s in found):.2%}",
            f"{_mean(s.hit_share for s in found):.0%}",
            *(of_slo if asked else ()),
        )
    return table


def _mean(values: Iterable[float]) -> float:
    numbers = [value for value in values if not math.isnan(value)]
    return sum(numbers) / len(numbers) if numbers else math.nan
