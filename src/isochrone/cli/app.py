"""The command line: one place that names every command and turns errors into sentences."""

import sys

import typer

from isochrone import __version__
from isochrone.cli.capacity import capacity
from isochrone.cli.demo import demo
from isochrone.cli.gateway import gateway
from isochrone.cli.keys import keys
from isochrone.cli.look import explain, status
from isochrone.cli.models import models
from isochrone.cli.neighbour import neighbour
from isochrone.cli.node import node
from isochrone.cli.policy import policies
from isochrone.cli.sim import sim
from isochrone.cli.up import up
from isochrone.cli.wan import wan
from isochrone.ports import IsochroneError

app = typer.Typer(
    name="isochrone",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"isochrone {__version__}")
        raise typer.Exit


@app.callback()
def isochrone(
    version: bool = typer.Option(
        False,
        "--version",
        callback=_version,
        is_eager=True,
        help="Print the version.",
    ),
) -> None:
    """Send every inference request to the node that will answer soonest."""


app.command(short_help="Start a whole network on this machine.")(up)
app.command(short_help="Show every node, live: models, queue, speeds, round trip.")(status)
app.command(short_help="Show why a request went where it went.")(explain)
app.command(short_help="Show where capacity is scarce, what one more node would save.")(capacity)
app.command(short_help="Compare the policies on the running network.")(demo)
app.command(short_help="Run policies against each other in a simulated world.")(sim)
app.command(short_help="Join a network with an inference node.")(node)
app.command(short_help="Serve the OpenAI API of a network.")(gateway)
app.command(short_help="List the routing policies.")(policies)
app.add_typer(models, name="models")
app.add_typer(keys, name="keys")
app.command(hidden=True)(wan)
app.command(hidden=True)(neighbour)


def main() -> None:
    """Run the command line; an error of ours is one sentence and status 1, a wrong option status 2."""
    try:
        app(prog_name="isochrone")
    except (IsochroneError, OSError) as error:
        sys.stderr.write(f"isochrone: {error}\n")
        sys.exit(1)
