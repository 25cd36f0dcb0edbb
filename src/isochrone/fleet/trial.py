"""The trial of a node that has not answered us yet: a few requests at once, and no crowd.

A node never seen may look better than it is, and until its first answer nothing tells. Were it sought out by
all requests that come meanwhile, they would all be late. So only some of ours may be under way there for
nothing; each further one is taken to come later, by an amount that doubles with each. That bounds the crowd
by the logarithm of how good the node looks, and leaves no request without a node: where all are strangers,
all are treated alike.
"""

import numpy as np

from isochrone.model import Floats

_DOUBLINGS_MAX = 12.0


def caution(crowd: float, *, scarce: bool) -> float:
    """How many times the price of one request beyond the room a next one on trial pays.

    `crowd`: requests of ours at the node beyond the room, the next one counted; 0 and below within it.
    `scarce`: most nodes would have to load the model. Then each adds as much as the one before it and not
    twice that: who shuns the few that have the model makes others load it, and evict what is wanted there.
    """
    if crowd <= 0.0:
        return 0.0
    return crowd if scarce else 2.0 ** min(crowd, _DOUBLINGS_MAX) - 1.0


def cautions(crowds: Floats, *, scarce: bool) -> Floats:
    """The same for all nodes, shape (nodes,)."""
    crowds = np.maximum(0.0, crowds)
    return crowds if scarce else np.asarray(2.0 ** np.minimum(crowds, _DOUBLINGS_MAX) - 1.0)
