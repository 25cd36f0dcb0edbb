"""The runs of a folder, cell by cell, each policy beside the reference policy."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from isochrone.ports import SettingError
from isochrone.sim.results.files import RunMeta, read_meta, read_run
from isochrone.sim.results.rows import codes, ended_as, numbers, tpots_ms, truths
from isochrone.sim.results.statistics import Floats, Interval, Loss, Outcomes, compare, mean, where_it_loses
from isochrone.sim.results.summaries import RunSummary, Slo, summarise

REFERENCE_PREFIX = "reference-"
"""Begins the names of what is no policy: `reference-b0`, `reference-b1`, `reference-b3`."""

B0, B1, B3 = (f"{REFERENCE_PREFIX}b{number}" for number in (0, 1, 3))
COUNTER_B0_TTFT_MS = "reference_b0_ttft_ms"
COUNTER_B2_GOODPUT_PER_S = "reference_b2_goodput_per_s"
COUNTER_B3_TOTAL_MS = "reference_b3_total_ms"
"""Counters of a run by which its bounds can be told instead."""

_OURS = "soonest"
_LOSSES = 3


@dataclass(frozen=True, slots=True)
class Course:
    """What happened when, of one policy; equal lengths, NaN or inf where nothing was answered.

    Attributes:
        at_s: arrivals of requests.
        ttft_ms: of each, NaN for one not answered.
        good: which were answered within the SLO.
    """

    at_s: Floats
    ttft_ms: Floats
    good: NDArray[np.bool_]


@dataclass(slots=True)
class PolicyRuns:
    """What one policy did in one cell. Arrays have an entry for each request, NaN for those not counted."""

    policy: str
    summaries: dict[int, RunSummary] = field(default_factory=dict)
    ttft_ms: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    total_ms: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    node_requests: dict[str, int] = field(default_factory=dict)
    course: Course | None = None
    loses_to_reference: list[Loss] = field(default_factory=list)
    reference_loses: list[Loss] = field(default_factory=list)

    def mean_of(self, figure: str) -> float:
        """Mean over seeds of a figure of the summaries, such as `goodput_per_s` or `ttft_ms.p99`."""
        found = []
        for summary in self.summaries.values():
            value: object = summary
            for part in figure.split("."):
                value = getattr(value, part)
            found.append(float(value) if isinstance(value, int | float) else math.nan)
        return mean(np.array(found, dtype=np.float64))

    @property
    def is_reference(self) -> bool:
        """Whether it is a bound or an oracle, and no policy that could be used."""
        return self.policy.startswith(REFERENCE_PREFIX)


@dataclass(slots=True)
class Cell:
    """All policies in one cell of one scenario."""

    meta: RunMeta
    ours: str
    runs: dict[str, PolicyRuns] = field(default_factory=dict)
    counters: dict[str, float] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The swept settings of this cell."""
        return ", ".join(f"{key} = {value}" for key, value in self.meta.cell.items())

    @property
    def sorted_runs(self) -> list[PolicyRuns]:
        """By mean TTFT, least first; those that answered nothing last."""
        return sorted(
            self.runs.values(),
            key=lambda runs: (_or_inf(runs.mean_of("ttft_ms.mean")), runs.policy),
        )

    @property
    def rival(self) -> str:
        """The best of the other policies by mean TTFT, empty for none."""
        others = (r.policy for r in self.sorted_runs if r.policy != self.ours and not r.is_reference)
        return next(others, "")

    def ratio(self, policy: str, metric: str = "mean", column: str = "ttft_ms") -> Interval:
        """`metric` of a policy over that of the reference policy, over the seeds that both have."""
        theirs, base = self.runs[policy], self.runs[self.ours]
        a, b = getattr(theirs, column), getattr(base, column)
        seeds = sorted(set(a) & set(b))
        wide = [(a[seed].astype(np.float64), b[seed].astype(np.float64)) for seed in seeds]
        return compare([pair[0] for pair in wide], [pair[1] for pair in wide], metric)

    def gap(self, policy: str) -> float:
        """(x - B0) / (B1 - B0) of mean TTFT, over requests that both answered; NaN without references."""
        if B1 not in self.runs:
            return math.nan
        ours, best = self.runs[policy].ttft_ms, self.runs[B1].ttft_ms
        above = best_above = 0.0
        for seed in sorted(set(ours) & set(best)):
            least = self._alone_ms(seed, len(best[seed]))
            both = ~(np.isnan(ours[seed]) | np.isnan(best[seed]) | np.isnan(least))
            if np.any(both):
                above += mean(ours[seed][both].astype(np.float64) - least[both])
                best_above += mean(best[seed][both].astype(np.float64) - least[both])
        return above / best_above if best_above > 0 else math.nan

    def _alone_ms(self, seed: int, rows: int) -> Floats:
        if B0 in self.runs and seed in self.runs[B0].ttft_ms:
            return self.runs[B0].ttft_ms[seed].astype(np.float64)
        return np.full(rows, self.counters.get(COUNTER_B0_TTFT_MS, math.nan))


def cells(folder: Path, slo: Slo, reference: str = "") -> Iterator[Cell]:
    """The cells of all scenarios in `folder`, in order; one at a time, so that one at a time is in memory.

    Raises:
        SettingError: a file is damaged, the folder has no runs, or runs of a seed met different requests.
    """
    found: dict[tuple[str, str, str], list[tuple[RunMeta, Path]]] = {}
    for path in sorted(folder.glob("*.parquet")):
        meta = read_meta(path)
        key = meta.scenario, meta.digest, json.dumps(meta.cell, sort_keys=True)
        found.setdefault(key, []).append((meta, path))
    if not found:
        raise SettingError(f"{folder} holds no runs (*.parquet)")
    for key in sorted(found, key=lambda key: (key[0], key[1], _sort_key(found[key][0][0].cell))):
        yield _cell(found[key], slo, reference)


def varying(metas: list[RunMeta]) -> list[str]:
    """Swept keys that have more than one value."""
    keys = dict.fromkeys(key for meta in metas for key in meta.cell)
    return [key for key in keys if len({str(meta.cell.get(key)) for meta in metas}) > 1]


def _cell(found: list[tuple[RunMeta, Path]], slo: Slo, reference: str) -> Cell:
    names = sorted({meta.policy for meta, _ in found})
    ours = _reference(names, reference)
    # The reference comes first, since the others are laid beside it; then policies, and seeds in order.
    found = sorted(found, key=lambda item: (item[0].policy != ours, item[0].policy, item[0].seed))
    cell = Cell(found[0][0], ours)
    told: dict[str, list[float]] = {}
    first: dict[int, pa.Table] = {}
    requests: dict[int, tuple[NDArray[np.float64], Path]] = {}
    for meta, path in found:
        stored, table = read_run(path)
        at_s, other = requests.setdefault(meta.seed, (numbers(table, "at_s"), path))
        if not np.array_equal(at_s, numbers(table, "at_s")):
            raise SettingError(f"{path} met other requests than {other}, which is of the same cell and seed")
        for name, value in stored.counters.items():
            told.setdefault(name, []).append(value)
        runs = cell.runs.setdefault(meta.policy, PolicyRuns(meta.policy))
        _add(runs, stored, table, slo)
        if not first:
            first[meta.seed] = table
        elif meta.policy != ours and meta.seed in first and not runs.is_reference:
            runs.loses_to_reference = where_it_loses(_outcomes(table, first[meta.seed]), most=_LOSSES)
            runs.reference_loses = where_it_loses(_outcomes(first[meta.seed], table), most=_LOSSES)
    cell.counters = {name: mean(np.array(values)) for name, values in told.items()}
    return cell


def _add(runs: PolicyRuns, meta: RunMeta, table: pa.Table, slo: Slo) -> None:
    ttft_ms = _answered(table, "ttft_ms")
    runs.summaries[meta.seed] = summarise(table, meta, slo)
    runs.ttft_ms[meta.seed] = ttft_ms.astype(np.float32)
    runs.total_ms[meta.seed] = _answered(table, "total_ms").astype(np.float32)
    code, names = codes(table, "node")
    for name, count in zip(names, np.bincount(code, minlength=len(names)), strict=True):
        if name:
            runs.node_requests[name] = runs.node_requests.get(name, 0) + int(count)
    if runs.course is None:
        good = (ttft_ms <= slo.ttft_ms) & ~(tpots_ms(table) > slo.tpot_ms)
        kept = truths(table, "counted")
        runs.course = Course(numbers(table, "at_s")[kept], ttft_ms[kept], good[kept])


def _answered(table: pa.Table, column: str) -> Floats:
    counts, values = ended_as(table, "answered") & truths(table, "counted"), numbers(table, column)
    return np.where(counts & np.isfinite(values), values, math.nan)


def _outcomes(ours: pa.Table, theirs: pa.Table) -> Outcomes:
    labels: Mapping[str, list[str]] = {
        "region": ours.column("region").to_pylist(),
        "model": ours.column("model").to_pylist(),
    }
    return Outcomes(
        ours_ms=_answered(ours, "ttft_ms"),
        theirs_ms=_answered(theirs, "ttft_ms"),
        at_s=numbers(ours, "at_s"),
        prompt_tokens=numbers(ours, "prompt_tokens"),
        rtt_ms=numbers(ours, "rtt_ms"),
        load_ms=numbers(ours, "load_ms"),
        labels=labels,
    )


def _reference(names: list[str], wanted: str) -> str:
    if wanted:
        if wanted not in names:
            raise SettingError(f"no run of the reference policy {wanted!r}; there are {', '.join(names)}")
        return wanted
    usable = [name for name in names if not name.startswith(REFERENCE_PREFIX)] or names
    return next((name for name in usable if name.startswith(_OURS)), usable[0])


def _sort_key(cell: Mapping[str, object]) -> list[tuple[str, int, float, str]]:
    return [
        (key, 0, float(value), "") if isinstance(value, int | float) else (key, 1, 0.0, str(value))
        for key, value in sorted(cell.items())
    ]


def _or_inf(value: float) -> float:
    return math.inf if math.isnan(value) else value
