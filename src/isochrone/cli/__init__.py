"""The only place where parts are put together: the command line.

Everything may be imported here, and nobody imports this.
"""

from isochrone.cli.app import main

__all__ = ["main"]
