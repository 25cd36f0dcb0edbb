"""What runs leave behind, from rows to findings; the same input gives the same bytes.

Here live the rows, one for each request (`rows`), the Parquet files that hold them (`files`), the figures
that sum up a run (`summaries`), the statistics of policies that met the same requests (`statistics`), and the
runs of a folder side by side (`comparison`). Nothing here runs or draws anything.
"""

from isochrone.sim.results.comparison import Cell, PolicyRuns, cells
from isochrone.sim.results.files import RunMeta, has_run, read_meta, read_run, run_path, write_run
from isochrone.sim.results.rows import (
    SCHEMA,
    RunColumns,
    blank_columns,
    codes,
    ended_as,
    numbers,
    run_table,
    tpots_ms,
    truths,
)
from isochrone.sim.results.summaries import (
    SUMMARY_FILE,
    RunSummary,
    Slo,
    Spread,
    summarise,
    write_summary_json,
)

__all__ = [
    "SCHEMA",
    "SUMMARY_FILE",
    "Cell",
    "PolicyRuns",
    "RunColumns",
    "RunMeta",
    "RunSummary",
    "Slo",
    "Spread",
    "blank_columns",
    "cells",
    "codes",
    "ended_as",
    "has_run",
    "numbers",
    "read_meta",
    "read_run",
    "run_path",
    "run_table",
    "summarise",
    "tpots_ms",
    "truths",
    "write_run",
    "write_summary_json",
]
