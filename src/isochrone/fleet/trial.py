"""The trial of a node that has not answered us yet: a few requests at once, and no crowd.

A node never seen may look better than it is, and until its first answer nothing tells. Were it sought out by
all requests that come meanwhile, they would all be late. So only some of ours may be under way there for
nothing; each further one is taken to come later, by an amount that doubles with each. That bounds the crowd
by the logarithm of how good the node looks, and leaves no request without a node: where all are strangers,
all are treated alike.
"""

_DOUBLINGS_MAX = 12


def caution(under_way: int, room: int) -> float:
    """How many times the price of one request beyond the room a next one on trial pays, 0 within it.

    `under_way`: our requests at the node now; `room`: how many may be there for nothing.
    """
    beyond = under_way + 1 - room
    return 2.0 ** min(beyond, _DOUBLINGS_MAX) - 1.0 if beyond > 0 else 0.0
