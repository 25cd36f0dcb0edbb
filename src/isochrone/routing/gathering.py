"""Gathering: where gateways share a few nodes, prompts that begin alike go to the same few of them from all.

No gateway knows which prefixes the others sent where. So each works out alone, by rendezvous hashing, to
which nodes a beginning belongs; weighted, so that a node gets beginnings as it has capacity.

Source: Schindelhauer and Schomaker, "Weighted distributed hash tables", SPAA 2005 (the logarithmic score).
"""

import numpy as np

from isochrone.model import Floats, Hashes, Indices
from isochrone.routing.keys import affinities

SHELVES = 256
"""Beginnings that are told apart; a plan takes the longer, the more they are."""
GATHERED_MAX = 8
"""Nodes told for each beginning."""

_SHELVES = np.arange(SHELVES, dtype=np.uint64)


def gather(name_hash: Hashes, capacity: Floats, shared: Indices) -> Indices:
    """For each shelf the nodes its beginnings go to, the one that draws them most first.

    `name_hash`, `capacity` (in any unit, above 0): shape (nodes,); `shared`: indices of the nodes that count.
    The answer has shape (SHELVES, at most GATHERED_MAX).
    """
    draws = np.log(affinities(name_hash[shared], _SHELVES)) / capacity[shared]
    order: Indices = shared[np.argsort(-draws, axis=1)[:, :GATHERED_MAX]]
    return order
