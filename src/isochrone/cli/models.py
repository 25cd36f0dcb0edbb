"""`isochrone models`: the store of weights on this machine."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from isochrone.adapters.storage import ModelStore, parse_model_option
from isochrone.cli.network_file import default_store_dir
from isochrone.cli.shell import run
from isochrone.ports import SettingError, Store, StoredModel

models = typer.Typer(no_args_is_help=True, help="Fetch, list and remove weights on this machine.")

_StoreDir = Annotated[Path | None, typer.Option(help="Where weights are kept.")]


async def pull_with_progress(console: Console, store: Store, name: str, source: str | None) -> StoredModel:
    """Have `name` in the store, fetching it with a progress bar when it is not. Raises IsochroneError."""
    stored = store.get(name)
    if stored is not None:
        return stored
    if source is None:
        raise SettingError(f"the model {name!r} is not in the store, and no source for it is known")
    columns = (
        TextColumn("fetching {task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(name, total=None)
        return await store.pull(
            name, source, lambda done, total: bar.update(task, completed=done, total=total)
        )


@models.command()
def pull(
    model: Annotated[str, typer.Argument(help="NAME, or NAME=SOURCE; see 'isochrone node --help'.")],
    store_dir: _StoreDir = None,
) -> None:
    """Fetch weights into the store, checked by SHA-256."""
    store = ModelStore(store_dir or default_store_dir())
    name, source = parse_model_option(model)
    stored = run(pull_with_progress(Console(), store, name, source))
    Console().print(f"{stored.name}: {stored.size_bytes / 1e6:.1f} MB, sha256 {stored.sha256}")


@models.command("list")
def list_models(
    store_dir: _StoreDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """List the weights in the store."""
    stored = ModelStore(store_dir or default_store_dir()).list()
    if as_json:
        rows = [
            {"model": m.name, "size_bytes": m.size_bytes, "sha256": m.sha256, "source": m.source}
            for m in stored
        ]
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table("model", "MB", "sha256", "source", box=None)
    for m in stored:
        table.add_row(m.name, f"{m.size_bytes / 1e6:.1f}", m.sha256[:16], m.source)
    Console().print(table)


@models.command()
def remove(name: str, store_dir: _StoreDir = None) -> None:
    """Remove a model, and its weights when no other name needs them."""
    if not ModelStore(store_dir or default_store_dir()).remove(name):
        raise SettingError(f"no model called {name!r} is in the store; see 'isochrone models list'")
