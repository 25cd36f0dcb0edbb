"""The simulator: the same routing, fleet and node code, driven in virtual time from one seed.

Here live scenarios (`scenario`), what comes to them (`traffic`), the simulated world and its nodes (`world`,
`node`), one run and many (`runner`, `sweep`, `tuning`), what no policy can beat (`references`), what runs
leave behind (`results`), the page that tells it (`report`), and where all this meets the live network
(`live`). Nothing here opens a socket, reads a clock or draws luck from anywhere but its seed. May import
everything but `adapters` and `cli`.
"""

from isochrone.sim.live.workload import Arrival, WorkloadSettings, generate

__all__ = ["Arrival", "WorkloadSettings", "generate"]
