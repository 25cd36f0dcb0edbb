"""`isochrone status` and `isochrone explain`: seeing why."""

import json
import sys
import time
from typing import Annotated

import typer
from rich.console import Console, RenderableType
from rich.live import Live

from isochrone.cli.reach import GatewayOption, StateDirOption, reached
from isochrone.cli.tables import explain_table, status_table
from isochrone.ports import IsochroneError
from isochrone.wire.subjects import DECISIONS_PATH, STATUS_PATH

_REFRESH_S = 0.5
_PIPED_WIDTH = 10_000


def status(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, once.")] = False,
    once: Annotated[bool, typer.Option(help="Print the table once instead of live.")] = False,
    gateway: GatewayOption = "",
    state_dir: StateDirOption = None,
) -> None:
    """Show every node: place, models by state, slots, queue, learned speeds, round trip, age of its state.

    Slots read as running+queued/all. Live on a terminal until Ctrl-C; once when piped.
    """
    gate = reached(gateway, state_dir)
    fields = gate.get_json(STATUS_PATH)
    if as_json:
        typer.echo(json.dumps(fields, indent=2))
        return
    if once or not sys.stdout.isatty():
        _print(status_table(fields))
        return
    with Live(status_table(fields), console=Console(), auto_refresh=False) as live:
        while True:
            time.sleep(_REFRESH_S)
            try:
                live.update(status_table(gate.get_json(STATUS_PATH)), refresh=True)
            except IsochroneError as error:
                live.update(f"[red]{error}[/red]", refresh=True)


def explain(
    request_id: Annotated[
        str, typer.Argument(help="Of x-isochrone-decision in the answer, or 'last'.")
    ] = "last",
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    gateway: GatewayOption = "",
    state_dir: StateDirOption = None,
) -> None:
    """Show why a request went where it went: every candidate's estimate, the choice, what was measured."""
    record = reached(gateway, state_dir).get_json(DECISIONS_PATH + request_id)
    if as_json:
        typer.echo(json.dumps(record, indent=2))
    else:
        _print(explain_table(record))


def _print(page: RenderableType) -> None:
    """As wide as the terminal; as wide as it needs to be when piped: a file has no edge."""
    Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH).print(page)
