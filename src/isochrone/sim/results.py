"""What a run leaves behind: a Parquet file with one row for each request, and figures that sum it up.

The same input gives the same bytes: nothing that depends on the machine or the hour is stored.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from isochrone.ports import SettingError
from isochrone.sim.statistics import mean, quantile

RunColumns = Mapping[str, NDArray[np.generic]]
"""Columns of equal length by name, as in `SCHEMA`, one entry for each request."""

_TEXT = pa.dictionary(pa.int32(), pa.string())
_MS = pa.float32()

SCHEMA = pa.schema(
    [
        ("request", pa.int64()), ("at_s", pa.float64()), ("client", pa.int32()), ("region", _TEXT),
        ("gateway", pa.int16()), ("model", _TEXT), ("node", _TEXT), ("kind", _TEXT),
        ("attempts", pa.int8()), ("counted", pa.bool_()), ("prompt_tokens", pa.int32()),
        ("cached_tokens", pa.int32()), ("output_tokens", pa.int32()), ("tokens_out", pa.int32()),
        ("queue_ms", _MS), ("load_ms", _MS), ("ttft_ms", _MS), ("total_ms", _MS), ("rtt_ms", _MS),
        ("est_ttft_ms", _MS), ("est_wait_ms", _MS), ("est_cold_ms", _MS), ("est_prefill_ms", _MS),
        ("est_decode_ms", _MS), ("est_score_ms", _MS), ("runner_up", _TEXT), ("runner_up_score_ms", _MS),
        ("age_s", _MS),
    ]
)  # fmt: skip
"""The columns of a run and their types; NaN and the empty text stand for what a request did not have."""

SUMMARY_FILE = "summary.json"
_META_KEY = b"isochrone.run"
_NOT_STORED = ("wall_s",)
_MESSAGES = ("pulses", "probes", "announcements")


@dataclass(frozen=True, slots=True)
class RunMeta:
    """Which run it is.

    Attributes:
        scenario: its name.
        cell: the swept settings by key, with their values here.
        policy: which, as text, parameters included.
        seed: of all luck.
        digest: of the scenario.
        version: of Isochrone.
        counters: totals of the whole run: `pulses`, `probes`, `announcements`, `retries`, `refusals`,
            `virtual_s`, `events`; `nodes` and `window_s` (seconds of counted arrivals) where known. `wall_s`
            may be here but is never stored, since it differs from run to run.
    """

    scenario: str
    cell: dict[str, object]
    policy: str
    seed: int
    digest: str
    version: str
    counters: dict[str, float] = field(default_factory=dict)


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
        prediction_error: median of |predicted - seen| / seen TTFT, over answers by the first attempt.
        busiest_over_mean: requests of the busiest node over those of the average node.
        messages_per_request: pulses, probes and announcements of the whole run over all its requests.
        retry_amplification: attempts over requests that were attempted at all.
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


def blank_columns(rows: int) -> dict[str, NDArray[np.generic]]:
    """Columns of so many requests of which nothing is known but that they were answered and count."""
    columns: dict[str, NDArray[np.generic]] = {}
    for column in SCHEMA:
        if column.type == _TEXT:
            columns[column.name] = np.full(rows, "", dtype=object)
        elif pa.types.is_floating(column.type):
            columns[column.name] = np.full(rows, math.nan)
        else:
            columns[column.name] = np.zeros(rows, dtype=column.type.to_pandas_dtype())
    columns["request"] = np.arange(rows, dtype=np.int64)
    columns["kind"] = np.full(rows, "answered", dtype=object)
    columns["counted"] = np.ones(rows, dtype=bool)
    return columns


def run_path(folder: Path, meta: RunMeta) -> Path:
    """Where the run is stored: readable, and another one for another cell, policy, seed or digest."""
    cell = ",".join(f"{key.rsplit('.', 1)[-1]}={value}" for key, value in sorted(meta.cell.items()))
    identity = [meta.scenario, meta.cell, meta.policy, meta.seed, meta.digest]
    tail = hashlib.sha256(_json(identity).encode()).hexdigest()[:10]
    parts = (_slug(meta.scenario, 40), _slug(cell, 60), _slug(meta.policy, 40), f"seed{meta.seed}", tail)
    return folder / ("--".join(part for part in parts if part) + ".parquet")


def has_run(folder: Path, meta: RunMeta) -> bool:
    """Whether `folder` holds this very run, of the same scenario digest, whole and readable."""
    path = run_path(folder, meta)
    if not path.exists():
        return False
    try:
        stored = read_meta(path)
    except SettingError:
        return False
    return _identity(stored) == _identity(meta)


def write_run(folder: Path, meta: RunMeta, columns: RunColumns) -> Path:
    """Store a run. The file appears whole or not at all; one of the same name is replaced.

    Raises:
        ValueError: a column is missing, unknown, or not as long as the others.
    """
    table = run_table(columns)
    stored = {name: value for name, value in meta.counters.items() if name not in _NOT_STORED}
    text = _json(asdict(replace(meta, counters=stored)))
    path = run_path(folder, meta)
    folder.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        pq.write_table(table.replace_schema_metadata({_META_KEY: text.encode()}), scratch, compression="zstd")
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
    return path


def run_table(columns: RunColumns) -> pa.Table:
    """The columns as a table of `SCHEMA`. Raises ValueError as `write_run` does."""
    wrong = set(columns) ^ set(SCHEMA.names)
    if wrong:
        raise ValueError(f"columns missing or unknown: {', '.join(sorted(wrong))}")
    if len({len(column) for column in columns.values()}) > 1:
        raise ValueError(f"columns differ in length: { {n: len(c) for n, c in columns.items()} }")
    arrays = []
    for column in SCHEMA:
        values = columns[column.name]
        if column.type == _TEXT:
            arrays.append(pa.array(values.tolist(), pa.string()).dictionary_encode())
        else:
            arrays.append(pa.array(values.astype(column.type.to_pandas_dtype()), column.type))
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def read_meta(path: Path) -> RunMeta:
    """Which run a file holds, without its rows. Raises SettingError when it is not one of ours."""
    try:
        raw = (pq.read_schema(path).metadata or {})[_META_KEY]
        return RunMeta(**json.loads(raw))
    except (OSError, pa.ArrowInvalid, KeyError, TypeError, ValueError) as error:
        raise SettingError(f"{path} is not a run of a simulation, or is damaged: {error}") from error


def read_run(path: Path) -> tuple[RunMeta, pa.Table]:
    """A stored run. Raises SettingError when the file is not one of ours."""
    meta = read_meta(path)
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise SettingError(f"{path} is not a run of a simulation, or is damaged: {error}") from error
    missing = set(SCHEMA.names) - set(table.column_names)
    if missing:
        raise SettingError(f"{path} lacks the columns {', '.join(sorted(missing))}")
    return meta, table


def numbers(table: pa.Table, name: str) -> NDArray[np.float64]:
    """A column of numbers or truths, as floats."""
    values = table.column(name).to_numpy()
    return cast("NDArray[np.float64]", values.astype(np.float64))


def truths(table: pa.Table, name: str) -> NDArray[np.bool_]:
    """A column of truths."""
    return cast("NDArray[np.bool_]", table.column(name).to_numpy().astype(np.bool_))


def codes(table: pa.Table, name: str) -> tuple[NDArray[np.int64], list[str]]:
    """A column of text as (numbers, the texts that they stand for)."""
    column = table.column(name).combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        if not column.num_chunks:
            return np.zeros(0, dtype=np.int64), []
        column = column.chunk(0)
    return column.indices.to_numpy().astype(np.int64), column.dictionary.to_pylist()


def ended_as(table: pa.Table, kind: str) -> NDArray[np.bool_]:
    """Which requests ended so."""
    code, kinds = codes(table, "kind")
    return cast("NDArray[np.bool_]", code == (kinds.index(kind) if kind in kinds else -1))


def tpots_ms(table: pa.Table) -> NDArray[np.float64]:
    """Time for each token after the first, NaN for a request that delivered fewer than two."""
    gaps = numbers(table, "tokens_out") - 1.0
    spent_ms = numbers(table, "total_ms") - numbers(table, "ttft_ms")
    tpot_ms: NDArray[np.float64] = np.full(len(gaps), math.nan)
    np.divide(spent_ms, gaps, out=tpot_ms, where=gaps > 0)
    return tpot_ms


def summarise(table: pa.Table, meta: RunMeta, slo: Slo | None = None) -> RunSummary:
    """The run in figures. Without an `slo` every answer is good."""
    slo = slo or Slo()
    rows, table = table.num_rows, table.filter(table.column("counted"))
    answered = ended_as(table, "answered")
    ttft_ms, total_ms = numbers(table, "ttft_ms"), numbers(table, "total_ms")
    tpot_ms, at_s = tpots_ms(table), numbers(table, "at_s")
    good = answered & (ttft_ms <= slo.ttft_ms) & ~(tpot_ms > slo.tpot_ms)
    window_s = meta.counters.get("window_s", float(np.ptp(at_s)) if len(at_s) else 0.0)
    attempts = numbers(table, "attempts")
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


def _identity(meta: RunMeta) -> str:
    return _json([meta.scenario, meta.cell, meta.policy, meta.seed, meta.digest, meta.version])


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _slug(text: str, longest: int) -> str:
    return re.sub(r"[^A-Za-z0-9=.,_]+", "-", text).strip("-.")[:longest]


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
