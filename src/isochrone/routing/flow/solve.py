"""From a problem to a plan."""

from dataclasses import dataclass, replace

import numpy as np

from isochrone.model import Floats
from isochrone.routing.flow.plan import FlowFailed, FlowOutcome, FlowPlan
from isochrone.routing.flow.problem import FlowProblem, tidied
from isochrone.routing.flow.program import Found, Program
from isochrone.routing.flow.settings import DEFAULT_SETTINGS, FlowSettings


@dataclass(frozen=True, slots=True, eq=False)
class _Ending:
    """How the rounds ended: the last optimum and its gap, or None and why in `status`."""

    found: Found | None
    status: str
    gap: float = 0.0
    arcs: int = 0
    rounds: int = 0


def solve(
    problem: FlowProblem, settings: FlowSettings = DEFAULT_SETTINGS, hint_s: Floats | None = None
) -> FlowOutcome:
    """The flows that cost the least time in all: a system optimum, not what each request would choose alone.

    Each pair (region, model) is first offered its cheapest groups; others are opened where prices tell that
    they help, until the plan is proven to be within `gap_part` of the optimum over all groups. When rounds or
    time run out after the first, the best so far is the plan, and its `gap` says what it may lack.

    Never raises for numbers that make no sense: they are left out and counted in `dropped`.

    Args:
        problem: what is asked, what there is, what it costs.
        settings: bounds, and how queues are looked at.
        hint_s: prices of work to begin with, shape (G,), such as `PlanKeeper.hint_s` has of the plan before.
            They change how many rounds it takes, not what the optimum is; ignored when they do not fit.
    """
    for name, size in zip(("regions", "models", "groups"), problem.size, strict=True):
        most = getattr(settings, f"{name}_max")
        if size > most:
            return FlowFailed(f"the plan would have {size} {name}, more than {name}_max = {most}")
    tidy = tidied(problem)
    program = Program.of(tidy, settings)
    ending = _rounds(program, settings, hint_s) if len(tidy.demand_per_s) else _idle(program)
    if ending.found is None:
        return FlowFailed(ending.status, tidy.dropped)
    return _plan(program, ending.found, ending)


def _idle(program: Program) -> _Ending:
    flow = np.zeros(program.tidy.cost_s.shape)
    return _Ending(Found(flow, program.slopes[:, 0], 0.0), "nothing is asked")


def _rounds(program: Program, settings: FlowSettings, hint_s: Floats | None) -> _Ending:
    opened = program.cheapest(settings.arcs_max, hint_s)
    best = _Ending(None, "no round was solved")
    for number in range(1, settings.rounds_max + 1):
        found = program.solved(opened, settings.time_limit_s)
        if isinstance(found, str):
            return replace(best, status=found)
        gap, arcs = program.gap(found), int(np.count_nonzero(opened))
        more = program.worth_opening(opened, found, settings.arcs_max)
        if gap <= settings.gap_part * found.objective or not more.any():
            return _Ending(found, "optimal", gap, arcs, number)
        best = _Ending(found, "rounds ran out", gap, arcs, number)
        opened |= more
    return best


def _plan(program: Program, found: Found, ending: _Ending) -> FlowPlan:
    tidy = program.tidy
    at = (tidy.pair_region, tidy.pair_model)
    served = found.flow_per_s.sum(axis=1)
    share, flow = np.zeros(tidy.cost_all_s.shape), np.zeros(tidy.cost_all_s.shape)
    flow[at] = found.flow_per_s
    share[at] = found.flow_per_s / np.where(served > 0, served, 1.0)[:, None]
    missing = tidy.demand_per_s - served
    unmet = np.zeros(flow.shape[:2])
    unmet[at] = np.where(missing > 1e-6 * tidy.demand_per_s, missing, 0.0)
    prices = found.work_price_s
    values = tidy.cost_all_s + tidy.work_s * prices
    busy = (found.flow_per_s * program.work_s).sum(axis=0)
    return FlowPlan(
        flow_per_s=flow,
        share=share,
        unmet_per_s=unmet,
        marginal_s=values.min(axis=2, initial=program.unmet_cost_s),
        work_price_s=prices,
        price_s=np.maximum(prices - program.slopes[:, -1], 0.0),
        saving_s_per_node=program.saving_per_node(prices),
        utilisation=busy / np.where(tidy.nodes > 0, tidy.nodes, 1.0),
        objective=found.objective,
        gap=ending.gap,
        unmet_cost_s=program.unmet_cost_s,
        arcs=ending.arcs,
        rounds=ending.rounds,
        status=ending.status,
        dropped=tidy.dropped,
    )
