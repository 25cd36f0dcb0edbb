"""The simulator: the same routing, fleet and node code, driven in virtual time from one seed.

Here live workloads (`workload`); later the world, the discrete-event runner, scenarios and the report.
Nothing here opens a socket, reads a clock or draws luck from anywhere but its seed. May import everything but
`adapters` and `cli`.
"""

from isochrone.sim.workload import Arrival, WorkloadSettings, generate

__all__ = ["Arrival", "WorkloadSettings", "generate"]
