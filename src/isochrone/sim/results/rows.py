"""The rows of a run, one for each request: which columns there are, how to make them and how to read them."""

import math
from collections.abc import Mapping
from typing import cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

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
        ("age_s", _MS), ("slo", pa.bool_()), ("est_slo_met", pa.bool_()),
    ]
)  # fmt: skip
"""The columns of a run and their types; NaN and the empty text stand for what a request did not have."""

LATER_COLUMNS = ("slo", "est_slo_met")
"""Truths that runs stored before there were objectives do not have: false there."""


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
