"""Runs as Parquet files: which run it is, where it is stored, and its rows.

The same input gives the same bytes: nothing that depends on the machine or the hour is stored.
"""

import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from isochrone.ports import SettingError
from isochrone.sim.results.rows import LATER_COLUMNS, SCHEMA, RunColumns, run_table

_META_KEY = b"isochrone.run"
_NOT_STORED = ("wall_s",)


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
    for name in (each for each in LATER_COLUMNS if each not in table.column_names):
        table = table.append_column(name, pa.array([False] * table.num_rows, pa.bool_()))
    missing = set(SCHEMA.names) - set(table.column_names)
    if missing:
        raise SettingError(f"{path} lacks the columns {', '.join(sorted(missing))}")
    return meta, table


def _identity(meta: RunMeta) -> str:
    return _json([meta.scenario, meta.cell, meta.policy, meta.seed, meta.digest, meta.version])


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _slug(text: str, longest: int) -> str:
    return re.sub(r"[^A-Za-z0-9=.,_]+", "-", text).strip("-.")[:longest]
