"""The last good plan, kept while new ones fail."""

import math
from dataclasses import dataclass, replace

import numpy as np

from isochrone.model import Floats
from isochrone.routing.flow.groups import Groups
from isochrone.routing.flow.plan import FlowFailed, FlowOutcome, FlowPlan


@dataclass(frozen=True, slots=True, eq=False)
class PlanKeeper:
    """What we go by. A value: `after` gives the next one.

    Attributes:
        plan: the last good plan, or None before the first.
        groups: the groups that its indices mean.
        made_s: when it was made, on the clock of the caller.
        failed: why the latest attempt gave no plan, or None when it did.
        failures: attempts in a row that gave no plan.
    """

    plan: FlowPlan | None = None
    groups: Groups | None = None
    made_s: float = -math.inf
    failed: FlowFailed | None = None
    failures: int = 0

    def after(self, outcome: FlowOutcome, groups: Groups, now_s: float) -> "PlanKeeper":
        """The keeper once `outcome` has come, for a problem over `groups`."""
        if isinstance(outcome, FlowFailed):
            return replace(self, failed=outcome, failures=self.failures + 1)
        return PlanKeeper(outcome, groups, now_s)

    def hint_s(self, groups: Groups) -> Floats | None:
        """The plan's prices of work for other groups of the same nodes, shape (G,); None when there is none.

        A group's is the mean over its nodes. Where nodes have come or changed places it is a poor hint, which
        costs the solver rounds and nothing else.
        """
        if self.plan is None or self.groups is None or len(groups.node_group) != len(self.groups.node_group):
            return None
        both = (groups.node_group >= 0) & (self.groups.node_group >= 0)
        now, before = groups.node_group[both], self.groups.node_group[both]
        sums = np.bincount(now, self.plan.work_price_s[before], minlength=len(groups.nodes))
        hint: Floats = sums / np.maximum(np.bincount(now, minlength=len(groups.nodes)), 1)
        return hint

    def age_s(self, now_s: float) -> float:
        """Seconds since the plan was made; infinite when there is none, never below 0."""
        return max(0.0, now_s - self.made_s)
