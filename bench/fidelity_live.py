"""Live beside simulated; started by bench/fidelity, which see."""

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from math import isfinite, isnan
from pathlib import Path
from statistics import fmean
from typing import Any

import msgspec
from fidelity_calibrate import ISOCHRONE, calibrate, process
from fidelity_cores import CannotError, engines_on_cores_of_their_own
from fidelity_report import draw, noise, table

from isochrone.cli.demo import DEMO_POLICIES, workload
from isochrone.cli.demo_report import Plan
from isochrone.cli.places import DEMO_NODES
from isochrone.sim.live.fidelity import (
    Answered,
    Asked,
    Line,
    bytes_per_token,
    compare,
    ranking_agreement,
    simulate,
)
from isochrone.sim.live.measured import Measured, alike, measured_scenario, slowdowns
from isochrone.sim.live.words import TEMPLATE_TOKENS
from isochrone.sim.live.workload import Arrival, generate
from isochrone.sim.scenario.files import Scenario

ROOT = Path(__file__).resolve().parents[1]
SEEDS = 40
UP_S_MAX = 180.0


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it all.

    Attributes:
        levels: what was measured of an engine, by number of engines at work.
        engine_cores: that each node had of its own; None where all shared all.
        slowdowns: how many times slower all are while 0, 1, 2, ... of them compute.
        scenario: made of the first level.
        reports: of `isochrone demo`, one for each session.
        lines: live beside simulated, by session.
        requests: every counted request, live beside simulated, by session.
    """

    levels: dict[int, Measured]
    engine_cores: float | None
    slowdowns: tuple[float, ...]
    scenario: Scenario
    reports: list[dict[str, Any]]
    lines: list[list[Line]]
    requests: list[list[dict[str, object]]]


def main() -> None:
    """Calibrate, run the sessions, simulate them, compare."""
    options = _options()
    if options.again:
        told = json.loads(options.again.read_text())
        levels = {int(key): msgspec.convert(value, Measured) for key, value in told["levels"].items()}
        about, reports = told["about"], told["reports"]
        options.engine_cores = told.get("engine_cores", options.engine_cores)
    else:
        about = _about()
        try:
            levels, reports = _live(options)
        except CannotError as error:
            sys.exit(f"bench/fidelity: --engine-cores: {error}")
    result = _compare(levels, reports, options.engine_cores)
    _write(result, about, options.out)
    draw(options.picture, result.lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/fidelity", description=__doc__)
    parser.add_argument("--sessions", type=int, default=2, help="the same arrivals so many times over")
    parser.add_argument("--rounds", type=int, default=1, help="of each session, each with its arrivals")
    parser.add_argument("--requests", type=int, default=40, help="for each policy and round")
    parser.add_argument("--rate-per-s", type=float, default=0.6, help="arrivals, open loop")
    parser.add_argument(
        "--engine-cores", type=float, help="of its own for each node; default: all share all cores"
    )
    parser.add_argument("--policy", action="append", help=f"default: {', '.join(DEMO_POLICIES)}")
    parser.add_argument("--again", type=Path, help="compare the sessions in this result anew, run none")
    parser.add_argument("--out", type=Path, default=ROOT / "bench/results/fidelity.json")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs/images/fidelity.png")
    return parser.parse_args()


# -- live --------------------------------------------------------------------------------------------


def _live(options: argparse.Namespace) -> tuple[dict[int, Measured], list[dict[str, Any]]]:
    """What was measured of an engine, and the demo's reports."""
    work = tempfile.TemporaryDirectory(prefix="isochrone-fidelity-")
    with work as folder, engines_on_cores_of_their_own(options.engine_cores):
        levels = asyncio.run(calibrate(Path(folder)))
        return levels, [_session(Path(folder), number, options) for number in range(options.sessions)]


def _session(work: Path, number: int, options: argparse.Namespace) -> dict[str, Any]:
    """`isochrone demo` on a fresh `isochrone up`; its report."""
    state, log = work / f"session-{number}", work / f"session-{number}.log"
    report = work / f"session-{number}.json"
    with process(log, "up", "--port", "0", state=state):
        deadline_s = time.monotonic() + UP_S_MAX
        while "Isochrone is up" not in log.read_text(errors="replace"):
            if time.monotonic() > deadline_s:
                sys.exit(f"the network did not come up; it says:\n{log.read_text(errors='replace')}")
            time.sleep(0.2)
        argv = [ISOCHRONE, "demo", "--state-dir", str(state), "--report", str(report)]
        argv += ["--picture", str(work / "demo.png"), "--rounds", str(options.rounds)]
        argv += ["--requests", str(options.requests), "--rate-per-s", str(options.rate_per_s)]
        for policy in options.policy or DEMO_POLICIES:
            argv += ["--policy", policy]
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    return dict(json.loads(report.read_text()))


def _series(report: dict[str, Any]) -> list[list[Asked]]:
    """The session as it was: warm-up, one request to each node, and the series in their order."""
    plan = msgspec.convert(report["plan"], Plan)
    answered = [sample for sample in report["samples"] if sample["prompt_tokens"]]
    arrivals = {
        (round_, each.at_s): each
        for round_ in range(1, plan.rounds + 1)
        for each in generate(workload(plan, plan.requests), plan.seed + round_)
    }
    length = bytes_per_token(
        (_texts(arrivals[sample["round"], sample["at_s"]]), sample["prompt_tokens"]) for sample in answered
    )
    told = [_asked(sample, arrivals[sample["round"], sample["at_s"]], length) for sample in report["samples"]]
    series = [list(part) for _, part in groupby(told, key=lambda each: (each.round, each.policy))]
    return [*_before(plan, length), *series]


def _before(plan: Plan, length: float) -> Iterator[list[Asked]]:
    """What the demo sends before it counts, of which it tells nothing: lengths are as asked."""
    blank: dict[str, Any] = {"round": 0, "node": "", "ttft_ms": None, "timings": None}
    blank |= {"prompt_tokens": None, "cached_tokens": None, "output_tokens": None}
    warmup = list(generate(workload(plan, plan.warmup), plan.seed))
    if warmup:
        yield [_asked({**blank, "policy": plan.policies[0]}, each, length) for each in warmup]
        visits = list(generate(workload(plan, 64), plan.seed - 1))[: len(DEMO_NODES)]
        yield [_asked({**blank, "policy": "round-robin"}, each, length) for each in visits]


def _asked(sample: dict[str, Any], arrival: Arrival, length: float) -> Asked:
    system, text = texts = _texts(arrival)
    timings, cached = sample["timings"], sample["cached_tokens"]
    return Asked(
        policy=sample["policy"],
        round=sample["round"],
        at_s=arrival.at_s,
        system=system,
        text=text,
        output_tokens_max=arrival.output_tokens_max,
        prompt_tokens=sample["prompt_tokens"] or sum(TEMPLATE_TOKENS) + round(sum(map(len, texts)) / length),
        output_tokens=sample["output_tokens"] or arrival.output_tokens_max,
        node=sample["node"],
        ttft_ms=float("nan") if sample["ttft_ms"] is None else sample["ttft_ms"],
        prefill_ms=float("nan") if timings is None else timings["prefill_ms"],
        cached_tokens=float("nan") if cached is None else float(cached),
    )


def _texts(arrival: Arrival) -> tuple[bytes, bytes]:
    return arrival.system.encode(), arrival.prompt.encode()


# -- simulated ---------------------------------------------------------------------------------------


def _compare(
    levels: dict[int, Measured], reports: list[dict[str, Any]], engine_cores: float | None
) -> Result:
    sessions = [_series(report) for report in reports]
    every = [each for series in sessions for requests in series for each in requests if each.round]
    engines = alike(levels) if engine_cores else levels
    slower = slowdowns(
        engines, fmean(each.prompt_tokens for each in every), fmean(each.output_tokens for each in every)
    )
    scenario = measured_scenario(engines)
    lines, rows = [], []
    for series in sessions:
        simulated = [simulate(scenario, series, slower, seed) for seed in range(1, SEEDS + 1)]
        lines.append(compare(scenario, series, simulated))
        rows.append(list(_rows(series, simulated)))
    return Result(levels, engine_cores, slower, scenario, reports, lines, rows)


def _rows(series: list[list[Asked]], simulated: list[list[list[Answered]]]) -> Iterator[dict[str, object]]:
    """One row for each request: where it went and how long it took, live and in the mean over seeds."""
    for number, requests in enumerate(series):
        for at, asked in enumerate(requests if requests[0].round else ()):
            answers = [session[number][at] for session in simulated]
            yield {
                "policy": asked.policy,
                "round": asked.round,
                "at_s": asked.at_s,
                "live_node": asked.node,
                "live_ttft_ms": asked.ttft_ms,
                "simulated_ttft_ms": fmean(each.ttft_ms for each in answers),
                "live_cached_tokens": asked.cached_tokens,
                "simulated_cached_tokens": fmean(each.cached_tokens for each in answers),
                "simulated_nodes": Counter(each.node for each in answers),
            }


# -- telling -----------------------------------------------------------------------------------------


def _about() -> dict[str, str]:
    commit = _git("rev-parse", "HEAD") + ("-dirty" if _git("status", "--porcelain", "src", "bench") else "")
    return {
        "command": " ".join(["bench/fidelity", *sys.argv[1:]]),
        "commit": commit,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_1m_before": f"{os.getloadavg()[0]:.2f}",
    }


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.strip()


def _write(result: Result, about: dict[str, str], out: Path) -> None:
    taus = [ranking_agreement(lines) for lines in result.lines]
    speeds = {level: asdict(measured.speed) for level, measured in result.levels.items()}
    told = {
        "about": about,
        "engine_cores": result.engine_cores,
        "speeds_by_engines_at_work": speeds,
        "slowdowns_by_engines_at_work": result.slowdowns,
        "kendall_tau": taus,
        "live_against_live": noise(result.lines),
        "lines": [[asdict(line) for line in lines] for lines in result.lines],
        "requests": result.requests,
        "scenario": asdict(result.scenario),
        "levels": {level: asdict(measured) for level, measured in result.levels.items()},
        "reports": result.reports,
    }
    out.write_text(json.dumps(_plain(told), indent=1) + "\n")
    text = table(result.lines, taus, speeds, result.slowdowns, result.engine_cores)
    out.with_suffix(".md").write_text(text)
    print(text)


def _plain(value: Any) -> Any:
    """JSON knows neither NaN nor infinity: the one becomes null, the other a word."""
    if isinstance(value, float) and not isfinite(value):
        return None if isnan(value) else str(value)
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


if __name__ == "__main__":
    main()
