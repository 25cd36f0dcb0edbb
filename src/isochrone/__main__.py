"""`python -m isochrone` is `isochrone`."""

from isochrone.cli import main

main()
