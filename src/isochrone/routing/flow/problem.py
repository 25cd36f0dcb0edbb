"""The problem that is solved, and how it is made fit for a solver."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from isochrone.model import Bools, Floats, Indices

DEMAND_PER_S_LEAST, DEMAND_PER_S_MOST = 1e-6, 1e9
WORK_S_LEAST, WORK_S_MOST = 1e-6, 1e6
COST_S_MOST = 1e6
NODES_MOST = 1e6
SLOTS_MOST = 1e6
"""Beyond these a number is an error, or would drown in the solver's tolerances (1e-7)."""


@dataclass(frozen=True, slots=True, eq=False)
class FlowProblem:
    """Demand, supply and cost, for R regions, M models and G groups of nodes.

    Numbers that are no numbers may stand anywhere: what they belong to is left out and counted.

    Attributes:
        demand_per_s: requests that arrive at the gateways of region r for model m, shape (R, M).
        capacity_per_s: requests that the whole group would serve if it served only model m, shape (G, M); 0
            where it cannot.
        cost_s: what one request takes, queueing apart, shape (R, M, G); infinite where it may not go.
        nodes: how many nodes each group has, shape (G,).
        slots: requests that one node of the group works on at once, shape (G,).
    """

    demand_per_s: Floats
    capacity_per_s: Floats
    cost_s: Floats
    nodes: Floats
    slots: Floats

    def __post_init__(self) -> None:
        if self.demand_per_s.ndim != 2 or self.nodes.ndim != 1:
            raise ValueError("demand_per_s must have the shape (regions, models) and nodes (groups,)")
        regions, models, groups = self.size
        for name, shape in (
            ("capacity_per_s", (groups, models)),
            ("cost_s", (regions, models, groups)),
            ("slots", (groups,)),
        ):
            found = getattr(self, name).shape
            if found != shape:
                raise ValueError(f"{name} must have the shape {shape}, not {found}")

    @property
    def size(self) -> tuple[int, int, int]:
        """Regions, models, groups."""
        regions, models = self.demand_per_s.shape
        return regions, models, len(self.nodes)


def cost_table_s(
    rtt_s: Floats, group_region: Indices, service_s: Floats, cold_s: Floats | None = None
) -> Floats:
    """`FlowProblem.cost_s`: round trip, service and cold start added up, shape (R, M, G).

    Args:
        rtt_s: round trip from each region of origin to each region of nodes, shape (R, regions of nodes); not
            a number where it is not known.
        group_region: each group's column in `rtt_s`, shape (G,).
        service_s: prefill plus weight times decode in an idle node, shape (G, M).
        cold_s: where the model must be loaded first, what that takes shared out over the requests that one
            load serves, shape (G, M); infinite where it cannot be loaded.
    """
    here = service_s if cold_s is None else service_s + cold_s
    table: Floats = rtt_s[:, group_region][:, None, :] + here.T[None, :, :]
    return table


@dataclass(frozen=True, slots=True, eq=False)
class TidyProblem:
    """A problem of finite numbers, and only the pairs (region, model) that ask something: P of them.

    Attributes:
        pair_region: region of origin, shape (P,).
        pair_model: model, shape (P,).
        demand_per_s: shape (P,), above 0.
        cost_s: shape (P, G), infinite where a pair may not go.
        cost_all_s: likewise for pairs that ask nothing too, shape (R, M, G).
        work_s: seconds that a request of model m keeps one node of group g busy, shape (M, G); 0 where
            it cannot be served.
        nodes: shape (G,), 0 for groups that are left out.
        slots: shape (G,), at least 1.
        dropped: reason to count.
    """

    pair_region: Indices
    pair_model: Indices
    demand_per_s: Floats
    cost_s: Floats
    cost_all_s: Floats
    work_s: Floats
    nodes: Floats
    slots: Floats
    dropped: dict[str, int]


def tidied(problem: FlowProblem) -> TidyProblem:
    """`problem` without what is not known or cannot be; never raises."""
    dropped: Counter[str] = Counter()

    def bad(values: Floats, low: float, high: float, reason: str, beside: Bools) -> Bools:
        """Marks what is neither within bounds nor excused by `beside`, and counts it."""
        marks: Bools = ~((values >= low) & (values <= high)) & ~beside
        dropped[reason] += int(np.count_nonzero(marks))
        return marks

    demand, nodes = problem.demand_per_s, problem.nodes
    wrong = bad(demand, DEMAND_PER_S_LEAST, DEMAND_PER_S_MOST, "demand unknown or beyond bounds", demand == 0)
    demand = np.where(wrong, 0.0, demand)
    lost = bad(nodes, 1e-3, NODES_MOST, "group without nodes", np.zeros(nodes.shape, bool))
    lost |= bad(problem.slots, 1.0, SLOTS_MOST, "group with slots unknown", lost)
    nodes = np.where(lost, 0.0, nodes)
    slots = np.where(lost, 1.0, problem.slots)

    capacity = problem.capacity_per_s.T
    with np.errstate(divide="ignore", invalid="ignore"):
        work = nodes / capacity
    absent = (capacity == 0) | lost
    wrong = bad(work, WORK_S_LEAST, WORK_S_MOST, "capacity unknown or beyond bounds", absent)
    work = np.where(absent | wrong, 0.0, work)

    closed = (problem.cost_s == np.inf) | (work == 0)
    wrong = bad(problem.cost_s, 0.0, COST_S_MOST, "cost unknown or beyond bounds", closed)
    cost = np.where(closed | wrong, np.inf, problem.cost_s)

    pair_region, pair_model = np.nonzero(demand)
    return TidyProblem(
        pair_region=pair_region,
        pair_model=pair_model,
        demand_per_s=demand[pair_region, pair_model],
        cost_s=cost[pair_region, pair_model],
        cost_all_s=cost,
        work_s=work,
        nodes=nodes,
        slots=slots,
        dropped={reason: count for reason, count in dropped.items() if count},
    )
