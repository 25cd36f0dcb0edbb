"""What no policy can beat, to tell a good result from an easy problem.

Here live the bounds of a run's own arrivals and nodes: each request alone in the world and all nodes as one
pool (`references`: B0 and B3), the fleet as a fluid (`fluid`: B2), and all of them for a scenario, stored
like a run (`bounds`). B1, a greedy that sees everything as it is, is a policy: it lives in `sim.world`.
"""

from isochrone.sim.references.bounds import bounds
from isochrone.sim.references.fluid import (
    FluidBound,
    Stream,
    Terms,
    fluid_bound,
    fluid_goodput_per_s,
    streams_of,
)
from isochrone.sim.references.references import (
    Alone,
    Pooled,
    Question,
    contention_free,
    hit_tokens,
    pooled_srpt,
    srpt_ends_s,
)

__all__ = [
    "Alone",
    "FluidBound",
    "Pooled",
    "Question",
    "Stream",
    "Terms",
    "bounds",
    "contention_free",
    "fluid_bound",
    "fluid_goodput_per_s",
    "hit_tokens",
    "pooled_srpt",
    "srpt_ends_s",
    "streams_of",
]
