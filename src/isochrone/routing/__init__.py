"""Which node gets a request: pure functions from a FleetView, a Request and luck to a Decision.

Here live the estimate (the time model), the plan (what share of the coming requests each node should get),
one file for each policy, and the catalogue that names them all. Nothing here may read a clock, a socket, a
log or a metric, or draw its own luck: the same arguments give the same decision, live, simulated or replayed.
"""

from isochrone.routing.catalogue import CATALOGUE, DEFAULT_POLICY, Policy, find_policy
from isochrone.routing.choice import RANKED_MAX
from isochrone.routing.company import DEFAULT_COMPANY_SETTINGS, find_company
from isochrone.routing.estimate import EstimateWeights, estimate, expected_tokens
from isochrone.routing.luck import Luck
from isochrone.routing.planning import make_plan
from isochrone.routing.route import Router, draw_probes, plan_if_due, route, wants_plan

__all__ = [
    "CATALOGUE",
    "DEFAULT_COMPANY_SETTINGS",
    "DEFAULT_POLICY",
    "RANKED_MAX",
    "EstimateWeights",
    "Luck",
    "Policy",
    "Router",
    "draw_probes",
    "estimate",
    "expected_tokens",
    "find_company",
    "find_policy",
    "make_plan",
    "plan_if_due",
    "route",
    "wants_plan",
]
