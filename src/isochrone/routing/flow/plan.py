"""What a solve gives: a plan, or the reason why there is none."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from isochrone.model import Floats


@dataclass(frozen=True, slots=True, eq=False)
class FlowPlan:
    """Where requests should go, and what capacity is worth.

    There are R regions, M models and G groups; arrays are read-only. Costs are request-seconds a second: what
    all requests of one second take together. A busy node is the work that one node of the group does in a
    second.

    Attributes:
        flow_per_s: requests from region r for model m to group g, shape (R, M, G).
        share: `flow_per_s` over its sum along g, shape (R, M, G); all 0 for a pair of which nothing flows.
        unmet_per_s: demand for which there is no room below the ceiling, shape (R, M).
        marginal_s: what one more request a second would cost, shape (R, M), also for pairs without demand;
            `unmet_cost_s` where it could not be served.
        work_price_s: what one more busy node of work in the group would cost, shape (G,). A request of m sent
            to g costs its own time plus `work_price_s[g]` times the seconds that it keeps a node busy.
        price_s: what room for one more busy node above the ceiling would save, shape (G,); 0 for groups that
            are below it.
        saving_s_per_node: what one more node like the group's would save, shape (G,): room at the ceiling,
            and shorter queues below it. By concavity many more save no more than this each.
        utilisation: part of each group that is busy, shape (G,), at most the ceiling.
        objective: the cost of it all, unmet demand included.
        gap: the objective is above the optimum of the whole problem by at most this; proven by the dual.
        unmet_cost_s: what a request that is not served was taken to cost.
        arcs: ways (region, model, group) that the last program had.
        rounds: linear programs that were solved.
        status: in words, how it ended.
        dropped: what was left out of the problem: reason to count.
    """

    flow_per_s: Floats
    share: Floats
    unmet_per_s: Floats
    marginal_s: Floats
    work_price_s: Floats
    price_s: Floats
    saving_s_per_node: Floats
    utilisation: Floats
    objective: float
    gap: float
    unmet_cost_s: float
    arcs: int
    rounds: int
    status: str
    dropped: Mapping[str, int]

    def __post_init__(self) -> None:
        for array in (
            self.flow_per_s, self.share, self.unmet_per_s, self.marginal_s,
            self.work_price_s, self.price_s, self.saving_s_per_node, self.utilisation,
        ):  # fmt: skip
            array.flags.writeable = False


@dataclass(frozen=True, slots=True)
class FlowFailed:
    """No plan.

    Attributes:
        reason: one line for people.
        dropped: what was left out of the problem: reason to count.
    """

    reason: str
    dropped: Mapping[str, int] = field(default_factory=dict)


FlowOutcome = FlowPlan | FlowFailed
