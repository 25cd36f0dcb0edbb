"""Traces that others published, read from files that the user has: Azure's, Mooncake's, ServeGen's.

What is wrong in a file is told as `<file>: line 12, column rate_rps: what; what to do`, by SettingError.
"""

import csv
import gzip
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import NoReturn

import numpy as np

from isochrone.ports import SettingError
from isochrone.sim.traffic.streams import Floats, Ints, hashes

MOONCAKE_BLOCK_TOKENS = 512
WINDOW_S = 600.0
"""Width of ServeGen's windows."""

_AZURE = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_MOONCAKE = ("timestamp", "input_length", "output_length", "hash_ids")
_SERVEGEN = ("model", "client", "window_start_s", "rate_rps", "cv")


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Requests one by one; arrays of one length.

    Attributes:
        times_s: float64: when, from the first; never falling.
        prompt_tokens: int64: of all the prompt.
        output_tokens: int64: of the answer.
        chains: the hash chain of each prompt, for those blocks that are whole; () for a trace without.
        talkers: int64: requests of one number come from one client: each that shares more than half of its
            blocks with an earlier one; () for a trace that doesn't tell.
    """

    times_s: Floats
    prompt_tokens: Ints
    output_tokens: Ints
    chains: Sequence[tuple[int, ...]] = ()
    talkers: Ints | None = None

    @property
    def span_s(self) -> float:
        """How long it lasts, one mean gap after the last request included."""
        count = len(self.times_s)
        last_s = float(self.times_s[-1])
        return last_s * count / (count - 1)


@dataclass(frozen=True, slots=True, eq=False)
class ClientRates:
    """ServeGen's rates; arrays (clients, windows).

    Attributes:
        rates_per_s: float64: requests a second; 0 where the file has nothing.
        cvs: float64: coefficient of variation of the gaps.
    """

    rates_per_s: Floats
    cvs: Floats

    @property
    def span_s(self) -> float:
        """How long it lasts."""
        return len(self.rates_per_s[0]) * WINDOW_S


def read_azure(path: str) -> Trace:
    """Azure's LLM inference traces of 2023: CSV with TIMESTAMP, ContextTokens, GeneratedTokens."""
    return _azure(path, _stamp(path))


def read_mooncake(path: str) -> Trace:
    """Mooncake's traces: a JSON object a line, with timestamps in ms and hashes of blocks of 512 tokens."""
    return _mooncake(path, _stamp(path))


def read_servegen(path: str, model: str = "") -> ClientRates:
    """ServeGen's rates, as CSV: model, client, window_start_s, rate_rps, cv. `model` "" takes all."""
    return _servegen(path, model, _stamp(path))


@lru_cache(maxsize=2)
def _azure(path: str, _stamp: object) -> Trace:
    times_s, prompts, outputs = [], [], []
    for where, row in _rows(path, _AZURE):
        try:
            at = datetime.fromisoformat(row["TIMESTAMP"])
        except ValueError:
            where.wrong(
                "TIMESTAMP", f"'{row['TIMESTAMP']}' is no date and time; write 2023-11-16 18:15:46.68"
            )
        times_s.append((at - datetime(2000, 1, 1, tzinfo=at.tzinfo)).total_seconds())
        _in_order(times_s, where, "TIMESTAMP")
        prompts.append(where.whole("ContextTokens", row["ContextTokens"]))
        outputs.append(where.whole("GeneratedTokens", row["GeneratedTokens"]))
    return Trace(_from_first(path, times_s), *_tokens(prompts, outputs))


@lru_cache(maxsize=2)
def _mooncake(path: str, _stamp: object) -> Trace:
    times_s, prompts, outputs, chains = [], [], [], []
    for number, line in enumerate(_lines(path), start=1):
        where = _Where(path, number, "key")
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            where.wrong("", "is no JSON object; write one a line")
        for key in _MOONCAKE:
            if key not in row:
                where.wrong(key, "is missing; the trace needs it")
        times_s.append(where.number("timestamp", row["timestamp"]) / 1e3)
        _in_order(times_s, where, "timestamp")
        prompts.append(where.whole("input_length", row["input_length"]))
        outputs.append(where.whole("output_length", row["output_length"]))
        ids = row["hash_ids"]
        if not isinstance(ids, list) or not all(type(each) is int for each in ids):
            where.wrong("hash_ids", "is no list of whole numbers; give one for each block of 512 tokens")
        chains.append(_chain(ids[: prompts[-1] // MOONCAKE_BLOCK_TOKENS]))
    talkers = np.array(_talkers(chains), dtype=np.int64)
    return Trace(_from_first(path, times_s), *_tokens(prompts, outputs), chains, talkers)


@lru_cache(maxsize=4)
def _servegen(path: str, model: str, _stamp: object) -> ClientRates:
    cells: dict[tuple[str, str], list[tuple[int, float, float]]] = {}
    models: dict[str, None] = {}
    for where, row in _rows(path, _SERVEGEN):
        start_s = where.number("window_start_s", row["window_start_s"])
        if start_s % WINDOW_S:
            where.wrong("window_start_s", f"{start_s:g} is no multiple of {WINDOW_S:g}; windows are so long")
        rate, cv = (where.number(key, row[key]) for key in ("rate_rps", "cv"))
        models[row["model"]] = None
        if model in {"", row["model"]}:
            cells.setdefault((row["model"], row["client"]), []).append((int(start_s // WINDOW_S), rate, cv))
    if not cells:
        there = ", ".join(models) or "none"
        raise SettingError(f"{path}: column model: there is no '{model}'; there are: {there}")
    windows = 1 + max(window for client in cells.values() for window, _, _ in client)
    rates, cvs = np.zeros((len(cells), windows)), np.ones((len(cells), windows))
    for index, client in enumerate(cells.values()):
        for window, rate, cv in client:
            rates[index, window], cvs[index, window] = rate, cv
    return ClientRates(rates, cvs)


# -- chains ------------------------------------------------------------------------------------------


def _chain(ids: Sequence[int]) -> tuple[int, ...]:
    """The trace's numbers as a hash chain: each depends on all before it."""
    scattered = hashes(np.array(ids, dtype=np.int64)).tolist() if ids else []
    known, chain = 0, []
    for each in scattered:
        known = (known * 0x100000001B3 ^ each) & 0xFFFFFFFFFFFFFFFF
        chain.append(known)
    return tuple(chain)


def _talkers(chains: Sequence[tuple[int, ...]]) -> list[int]:
    """A number of its own for each request, or that of the last one with more than half of its blocks."""
    last: dict[int, int] = {}
    talkers: list[int] = []
    for number, chain in enumerate(chains):
        middle = chain[len(chain) // 2] if chain else None
        talker = last.get(middle, number) if middle is not None else number
        talkers.append(talker)
        for block in chain:
            last[block] = talker
    return talkers


# -- files -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Where:
    path: str
    line: int
    noun: str = "column"

    def wrong(self, key: str, what: str) -> NoReturn:
        at = f"line {self.line}" + (f", {self.noun} {key}" if key else "")
        raise SettingError(f"{self.path}: {at}: {what}")

    def number(self, key: str, raw: object) -> float:
        """`raw`, at least 0."""
        try:
            value = math.nan if isinstance(raw, bool) else float(raw)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            value = math.nan
        if not 0 <= value < math.inf:
            self.wrong(key, f"'{raw}' is no number of at least 0; correct it")
        return value

    def whole(self, key: str, raw: object) -> int:
        """`raw`, a whole number of at least 0."""
        value = self.number(key, raw)
        if value != int(value):
            self.wrong(key, f"'{raw}' is no whole number; correct it")
        return int(value)


def _rows(path: str, columns: Sequence[str]) -> Iterator[tuple[_Where, Mapping[str, str]]]:
    reader = csv.DictReader(_lines(path))
    header = reader.fieldnames or ()
    for column in columns:
        if column not in header:
            raise SettingError(
                f"{path}: line 1: there is no column {column}; the trace needs {', '.join(columns)}"
            )
    for row in reader:
        where = _Where(path, reader.line_num)
        for column in columns:
            if row[column] is None:
                where.wrong(column, "is missing; the line is too short")
        yield where, row


def _lines(path: str) -> Iterator[str]:
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8")
            if path.endswith(".gz")
            else Path(path).open(encoding="utf-8") as file
        ):
            yield from (line for line in file if line.strip())
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise SettingError(f"{path}: can't be read: {error}; give the trace's path") from error


def _stamp(path: str) -> object:
    """What changes when the file does."""
    try:
        status = Path(path).stat()
    except OSError as error:
        raise SettingError(f"{path}: can't be read: {error.strerror}; give the trace's path") from error
    return status.st_mtime_ns, status.st_size


def _in_order(times_s: Sequence[float], where: _Where, key: str) -> None:
    if len(times_s) > 1 and times_s[-1] < times_s[-2]:
        where.wrong(key, "is before that of the line above; sort the trace by time")


def _from_first(path: str, times_s: Sequence[float]) -> Floats:
    if not times_s:
        raise SettingError(f"{path}: is empty: no request is in it; give a trace with two times at least")
    if len(times_s) < 2 or times_s[-1] == times_s[0]:
        raise SettingError(
            f"{path}: has {len(times_s)} requests at one time; a trace needs two times at least"
        )
    return np.array(times_s) - times_s[0]


def _tokens(prompts: Sequence[int], outputs: Sequence[int]) -> tuple[Ints, Ints]:
    """Of at least 1 each."""
    return tuple(np.maximum(1, np.array(each, dtype=np.int64)) for each in (prompts, outputs))  # type: ignore[return-value]
