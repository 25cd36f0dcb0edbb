"""Requests to come: generated from one seed, or played from a trace; the same for every policy.

Here live arrival times, prompts that share prefixes, day curves and surges, and the reading of traces. `jobs`
puts them together; it needs settings from `isochrone.sim.scenario`, so this door re-exports nothing.
"""
