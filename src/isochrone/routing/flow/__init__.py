"""The plan: every few seconds, one min-cost flow from regions and models to groups of nodes.

`make_groups` puts like nodes together, `cost_table_s` says what a request costs where, `solve` finds the
flows with the least time in all (HiGHS does the linear program) and what capacity is worth, and `PlanKeeper`
keeps the last good plan while new ones fail. The shares are the prior from which the pick draws; the prices
say where nodes are scarce.

Nothing here may read a clock, a socket, a log or luck: a solve is a function of its problem and settings, up
to the time limit that is one of them. It belongs in a thread or process beside the one that relays: it takes
milliseconds to seconds.
"""

from isochrone.routing.flow.groups import Groups, NodeTable, make_groups
from isochrone.routing.flow.keeper import PlanKeeper
from isochrone.routing.flow.plan import FlowFailed, FlowOutcome, FlowPlan
from isochrone.routing.flow.problem import FlowProblem, cost_table_s
from isochrone.routing.flow.settings import FlowSettings
from isochrone.routing.flow.solve import solve

__all__ = [
    "FlowFailed",
    "FlowOutcome",
    "FlowPlan",
    "FlowProblem",
    "FlowSettings",
    "Groups",
    "NodeTable",
    "PlanKeeper",
    "cost_table_s",
    "make_groups",
    "solve",
]
