"""One look at capacity: from what is believed of the fleet to the plan for it.

Importing this imports the solver, which takes half a second: `CapacityDesk` does so when first asked.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from isochrone.gateway.settings import CapacitySettings
from isochrone.gateway.supply import Supply
from isochrone.model import Bools, Floats
from isochrone.routing.flow import (
    FlowFailed,
    FlowProblem,
    FlowSettings,
    Groups,
    NodeTable,
    PlanKeeper,
    cost_table_s,
    make_groups,
    solve,
)
from isochrone.routing.flow.settings import DEFAULT_SETTINGS

_BENDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85)
"""Finer than the plan's own: with the first bend at 0.6 each request waits in an idle node as it would on
average up to 0.6, and seems better served far away where there are more nodes."""


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """One look at capacity.

    Attributes:
        keeper: the last good plan, and why the latest failed if it did.
        supply: what that plan is for; the latest when there is none.
        groups: of the nodes of `supply`.
        left_out: reason to count, of all steps.
        utilisation_most: no group is planned to be busier.
        asked_s: when the latest attempt was made.
    """

    keeper: PlanKeeper
    supply: Supply
    groups: Groups
    left_out: Mapping[str, int]
    utilisation_most: float
    asked_s: float


def look_at(supply: Supply, last: Look | None, now_s: float, settings: CapacitySettings) -> Look:
    """Solve for `supply`; takes milliseconds to seconds. When it fails the plan of `last` is kept. Pure."""
    ready = supply.ready_in_s <= 0.0
    table = NodeTable(supply.node_place, supply.capacity_per_s, ready, supply.slots)
    keeper = PlanKeeper() if last is None else last.keeper
    flow_settings = FlowSettings(
        bends=_BENDS,
        time_limit_s=settings.time_limit_s,
        regions_max=settings.regions_max,
        models_max=settings.models_max,
        groups_max=max(DEFAULT_SETTINGS.groups_max, len(supply.places)),
    )
    groups = make_groups(table, flow_settings.groups_max)
    outcome = solve(_problem(supply, groups, settings), flow_settings, keeper.hint_s(groups))
    keeper = keeper.after(outcome, groups, now_s)
    if isinstance(outcome, FlowFailed) and last is not None and last.keeper.plan is not None:
        return replace(last, keeper=keeper, asked_s=now_s)
    left_out = Counter(supply.left_out) + Counter(groups.dropped) + Counter(outcome.dropped)
    return Look(keeper, supply, groups, left_out, flow_settings.ends[-1], now_s)


def _problem(supply: Supply, groups: Groups, settings: CapacitySettings) -> FlowProblem:
    loads_s = np.maximum(supply.ready_in_s, 0.0) / settings.requests_per_load
    serves = supply.capacity_per_s > 0
    cost_s = cost_table_s(
        supply.rtt_s,
        groups.region,
        _means(groups, supply.service_s, serves),
        _means(groups, loads_s, serves),
    )
    return FlowProblem(supply.demand_per_s, groups.capacity_per_s, cost_s, groups.nodes, groups.slots)


def _means(groups: Groups, values: Floats, serves: Bools) -> Floats:
    """Means of `values`, shape (N, M), over the nodes of each group that serve the model, shape (G, M)."""
    total, models = len(groups.nodes), values.shape[1]
    inside = groups.node_group >= 0
    sums, counts = np.zeros((total, models)), np.zeros((total, models))
    np.add.at(sums, groups.node_group[inside], np.where(serves, values, 0.0)[inside])
    np.add.at(counts, groups.node_group[inside], serves[inside].astype(np.float64))
    means: Floats = sums / np.maximum(counts, 1.0)
    return means
