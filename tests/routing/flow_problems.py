"""Problems to plan for."""

from dataclasses import replace

import numpy as np

from isochrone.model import Floats
from isochrone.routing.flow import FlowFailed, FlowPlan, FlowProblem, FlowSettings, cost_table_s, solve

EXACT = FlowSettings(gap_part=0.0, rounds_max=50)


def a_problem(seed: int = 0, regions: int = 3, models: int = 2, groups: int = 5, load: float = 0.8):
    """A generic one: no ties, some models absent from some groups, `load` of the fleet's work asked."""
    luck = np.random.default_rng(seed)
    nodes = luck.uniform(2.0, 30.0, groups)
    slots = luck.integers(1, 9, groups).astype(float)
    speed = luck.uniform(0.5, 4.0, groups)
    node_s = luck.uniform(0.5, 3.0, models) / speed[:, None]
    has = luck.random((groups, models)) < 0.7
    asked = luck.uniform(0.2, 1.0, (regions, models))
    asked *= load * nodes.sum() / (asked.sum(axis=0) * node_s.mean(axis=0)).sum()
    rtt_s = luck.uniform(0.01, 0.3, (regions, groups))
    return FlowProblem(
        demand_per_s=asked,
        capacity_per_s=has * nodes[:, None] / node_s,
        cost_s=cost_table_s(rtt_s, np.arange(groups), node_s * luck.uniform(0.9, 1.1, node_s.shape)),
        nodes=nodes,
        slots=slots,
    )


def planned(problem: FlowProblem, settings: FlowSettings = EXACT, hint_s: Floats | None = None) -> FlowPlan:
    outcome = solve(problem, settings, hint_s)
    assert isinstance(outcome, FlowPlan), outcome
    return outcome


def failed(problem: FlowProblem, settings: FlowSettings = EXACT) -> FlowFailed:
    outcome = solve(problem, settings)
    assert isinstance(outcome, FlowFailed)
    return outcome


def with_more_nodes(problem: FlowProblem, group: int, more: float) -> FlowProblem:
    """The same with `more` nodes like those of `group`."""
    nodes, capacity = problem.nodes.copy(), problem.capacity_per_s.copy()
    capacity[group] *= (nodes[group] + more) / nodes[group]
    nodes[group] += more
    return replace(problem, nodes=nodes, capacity_per_s=capacity)


def changed(array: Floats, at: tuple[int, ...], value: float) -> Floats:
    copy = array.copy()
    copy[at] = value
    return copy
