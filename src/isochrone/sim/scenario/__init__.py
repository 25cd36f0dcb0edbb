"""Scenarios: what world there is, what comes to it, what goes wrong in it, and what is to be compared.

Here live the settings, their strict reading from TOML, and the building of nodes from them. `files` is the
part to import from; it also needs `isochrone.sim.traffic`, so this door re-exports nothing.
"""
