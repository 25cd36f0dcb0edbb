"""Several workers, one gateway: what they count together, and what they ask each other.

Each worker is a process and a router of its own, with a name of its own among the gateways. Bounds and the
limits of keys hold for all of them, by memory that they share (`table`). A client meets any of them: what
only one knows, a decision or its metrics, the others ask of it over sockets that nobody else can reach.
"""

from isochrone.gateway.crew.crew import Crew
from isochrone.gateway.crew.limiter import Grant, Limiter, Shortage
from isochrone.gateway.crew.siblings import Siblings
from isochrone.gateway.crew.table import WORKERS_MAX, SharedFlag, SharedTable, SharedTally
from isochrone.gateway.crew.usage import tokens_taken

__all__ = [
    "WORKERS_MAX",
    "Crew",
    "Grant",
    "Limiter",
    "SharedFlag",
    "SharedTable",
    "SharedTally",
    "Shortage",
    "Siblings",
    "tokens_taken",
]
