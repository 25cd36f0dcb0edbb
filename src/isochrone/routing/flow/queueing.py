"""What waiting costs: convex in utilisation, cut into straight pieces for a linear program.

By Little's law the seconds that all requests of a group wait, each second, are its mean number of waiting
requests; so the cost of congestion is a queue length, whatever the mix of models. For k servers at
utilisation rho it is about

    waiting = (1 + scv) / 2 * rho ** sqrt(2 * (k + 1)) / (1 - rho)

The second factor is for M/M/k and exact at k = 1: H. Sakasegawa, "An approximation formula
Lq = alpha * rho^beta / (1 - rho)", Annals of the Institute of Statistical Mathematics 29 (1977). The first
makes it M/G/k: A. O. Allen, "Probability, Statistics, and Queueing Theory with Computer Science
Applications" (Academic Press, 1978), with Poisson arrivals.
"""

import numpy as np

from isochrone.model import Floats
from isochrone.routing.flow.settings import FlowSettings


def waiting_requests(utilisation: Floats, servers: Floats, service_scv: float = 1.0) -> Floats:
    """Mean number of requests that wait, for `utilisation` in [0, 1) and any `servers`; shapes broadcast."""
    exponent = np.sqrt(2.0 * (servers + 1.0))
    queue: Floats = 0.5 * (1.0 + service_scv) * utilisation**exponent / (1.0 - utilisation)
    return queue


def segment_widths(settings: FlowSettings) -> Floats:
    """Utilisation that each segment spans, shape (segments,); they sum to the ceiling."""
    return np.diff(np.array((0.0, *settings.ends)))


def segment_slopes(nodes: Floats, slots: Floats, settings: FlowSettings) -> Floats:
    """Waiting requests that one more busy node of work adds, shape (groups, segments), rising along each row.

    The pieces meet the curve at their ends, so between them they lie above it. Groups of at least
    `pooled_nodes` have the same slopes whatever their size.

    Args:
        nodes: nodes of each group, shape (groups,).
        slots: requests that one node works on at once, shape (groups,).
        settings: where segments end and how queues are pooled.
    """
    pooled = np.clip(nodes, 1.0, settings.pooled_nodes)[:, None]
    ends = np.array((0.0, *settings.ends))
    waiting = waiting_requests(ends, slots[:, None] * pooled, settings.service_scv)
    slopes: Floats = np.diff(waiting, axis=1) / np.diff(ends) / pooled
    return slopes
