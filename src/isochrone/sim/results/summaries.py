"""Figures that sum up a run, and the file that holds those of many."""

import json
import math
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from isochrone.sim.results.files import RunMeta
from isochrone.sim.results.rows import codes, ended_as, numbers, tpots_ms, truths
from isochrone.sim.results.statistics import mean, quantile

SUMMARY_FILE = "summary.json"
_MESSAGES = ("pulses", "probes", "announcements", "ledger_news", "balks")


@dataclass(frozen=True, slots=True)
class Slo:
    """What a client calls good service: both limits in milliseconds, inf for no limit."""

    ttft_ms: float = math.inf
    tpot_ms: float = math.inf


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and percentiles in milliseconds, NaN when there was nothing; see `statistics.quantile`."""

    mean: float
    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> "Spread":
        """Of all `values`."""
        p50, p95, p99 = (quantile(values, share) for share in (0.5, 0.95, 0.99))
        return cls(mean(values), p50, p95, p99)


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One run in figures; of counted requests only, that is of those after the warm-up.

    Attributes:
        meta: which run.
        slo: by which goodput was judged.
        requests: how many.
        kinds: of these, by how they ended; a kind that none has is left out.
        error_share: share that was not answered.
        window_s: seconds of counted arrivals.
        goodput_per_s: answers within the SLO for each second of that.
        slo_share: answers within the SLO over all requests.
        ttft_ms: as clients saw it, of all answered.
        total_ms: likewise.
        tpot_ms: mean over answers of more than one token.
        queue_ms: mean over answers.
        hit_share: cached prompt tokens over all prompt tokens of answers.
        cold_share: answers that waited for their model to load.
        prediction_error: median of |predicted - seen| / seen TTFT, over answers by the first attempt, or by
            the one after a balk, whose prediction does not foresee what that cost.
        busiest_over_mean: requests of the busiest node over those of the average node.
        messages_per_request: pulses, probes, announcements, news of ledgers and balks of the whole run over
            all its requests.
        retry_amplification: attempts over requests that were attempted at all; those that ended since a
            request balked not counted.
        slo_requests: how many asked for the SLO.
        slo_kept_share: answers within the SLO over those; NaN when none asked.
        others_ttft_ms: as `ttft_ms`, of those that did not ask.
    """

    meta: RunMeta
    slo: Slo
    requests: int
    kinds: dict[str, int]
    error_share: float
    window_s: float
    goodput_per_s: float
    slo_share: float
    ttft_ms: Spread
    total_ms: Spread
    tpot_ms: float
    queue_ms: float
    hit_share: float
    cold_share: float
    prediction_error: float
    busiest_over_mean: float
    messages_per_request: float
    retry_amplification: float
    slo_requests: int
    slo_kept_share: float
    others_ttft_ms: Spread


def summarise(table: pa.Table, meta: RunMeta, slo: Slo | None = None) -> RunSummary:
    """The run in figures. Without an `slo` every answer is good."""
    slo = slo or Slo()
    rows, table = table.num_rows, table.filter(table.column("counted"))
    answered = ended_as(table, "answered")
    ttft_ms, total_ms = numbers(table, "ttft_ms"), numbers(table, "total_ms")
    tpot_ms, at_s = tpots_ms(table), numbers(table, "at_s")
    good = answered & (ttft_ms <= slo.ttft_ms) & ~(tpot_ms > slo.tpot_ms)
    window_s = meta.counters.get("window_s", float(np.ptp(at_s)) if len(at_s) else 0.0)
    attempts, asked = numbers(table, "attempts"), truths(table, "slo")
    messages = sum(meta.counters.get(name, 0.0) for name in _MESSAGES)
    return RunSummary(
        meta=meta,
        slo=slo,
        requests=table.num_rows,
        kinds=_kinds(table),
        error_share=_over(float(np.sum(~answered)), table.num_rows),
        window_s=window_s,
        goodput_per_s=_over(float(np.sum(good)), window_s),
        slo_share=_over(float(np.sum(good)), table.num_rows),
        ttft_ms=Spread.of(ttft_ms[answered]),
        total_ms=Spread.of(total_ms[answered]),
        tpot_ms=mean(tpot_ms[answered]),
        queue_ms=mean(numbers(table, "queue_ms")[answered]),
        hit_share=_over(
            float(np.sum(numbers(table, "cached_tokens")[answered])),
            float(np.sum(numbers(table, "prompt_tokens")[answered])),
        ),
        cold_share=_over(float(np.sum(numbers(table, "load_ms")[answered] > 0)), float(np.sum(answered))),
        prediction_error=_prediction_error(table, answered & (attempts == 1)),
        busiest_over_mean=_busiest_over_mean(table, meta),
        messages_per_request=_over(messages, rows),
        retry_amplification=_over(float(np.sum(attempts)), float(np.sum(attempts > 0))),
        slo_requests=int(np.sum(asked)),
        slo_kept_share=_over(float(np.sum(good & asked)), float(np.sum(asked))),
        others_ttft_ms=Spread.of(ttft_ms[answered & ~asked]),
    )


def write_summary_json(folder: Path, summaries: Iterable[RunSummary]) -> Path:
    """`summary.json` in `folder`: a list, NaN as null. Appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / SUMMARY_FILE
    scratch = path.with_name(f".{path.name}.{os.getpid()}.part")
    plain = [_plain(asdict(summary)) for summary in summaries]
    try:
        scratch.write_text(json.dumps(plain, indent=1, sort_keys=True, allow_nan=False) + "\n")
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
    return path


def _kinds(table: pa.Table) -> dict[str, int]:
    code, kinds = codes(table, "kind")
    counts = np.bincount(code, minlength=len(kinds))
    return {kind: int(n) for kind, n in sorted(zip(kinds, counts, strict=True)) if n}


def _prediction_error(table: pa.Table, which: NDArray[np.bool_]) -> float:
    seen_ms, predicted_ms = numbers(table, "ttft_ms")[which], numbers(table, "est_ttft_ms")[which]
    off = np.abs(predicted_ms - seen_ms)[seen_ms > 0] / seen_ms[seen_ms > 0]
    return quantile(off, 0.5)


def _busiest_over_mean(table: pa.Table, meta: RunMeta) -> float:
    code, nodes = codes(table, "node")
    counts = np.bincount(code, minlength=len(nodes))
    used = [int(n) for n, node in zip(counts, nodes, strict=True) if node]
    number = max(meta.counters.get("nodes", 0.0), sum(1 for n in used if n))
    return _over(max(used, default=0) * number, sum(used))


def _over(amount: float, whole: float) -> float:
    return amount / whole if whole else math.nan


def _plain(value: object) -> object:
    """JSON has no NaN and no infinity: the one is null, the other a word."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
