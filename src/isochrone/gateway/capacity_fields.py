"""A look at capacity as plain values: the source of `isochrone capacity` and of its `--json`."""

from typing import TYPE_CHECKING, Any

import numpy as np

from isochrone.gateway.settings import CapacitySettings
from isochrone.gateway.supply import Supply, Typical
from isochrone.model import Floats

if TYPE_CHECKING:  # importing them imports the solver
    from isochrone.gateway.look import Look
    from isochrone.routing.flow import FlowPlan, Groups, PlanKeeper

_NO_DEMAND = "no demand: no gateway has lately sent requests, so nothing is scarce"
_NO_NODES = "no node can be chosen now"


def capacity_fields(look: "Look", now_s: float, settings: CapacitySettings) -> dict[str, Any]:
    """Everything that a look found, in the order people read it; units stand in the names.

    Capacities are typical requests a second if nothing else were served. Savings are request-seconds a
    second: what all requests of one second take less, together. Values that need a plan are None without.
    """
    supply, groups, keeper, plan = look.supply, look.groups, look.keeper, look.keeper.plan
    return {
        "words": _words(supply, keeper),
        "plan": {
            "status": plan.status if plan is not None else None,
            "age_s": _rounded(keeper.age_s(now_s), 1) if plan is not None else None,
            "failed": keeper.failed.reason if keeper.failed is not None else None,
            "failures": keeper.failures,
            "request_s_per_s": _rounded(plan.objective) if plan is not None else None,
            "gap_request_s_per_s": _rounded(plan.gap) if plan is not None else None,
            "utilisation_most": look.utilisation_most,
            "unmet_cost_s": _rounded(plan.unmet_cost_s) if plan is not None else None,
        },
        "models": [
            {
                "model": model,
                "requests_per_s": _rounded(float(supply.demand_per_s[:, column].sum())),
                "prompt_tokens": round(typical.prompt_tokens),
                "output_tokens": round(typical.output_tokens),
                "lengths_learned": typical.learned,
            }
            for column, (model, typical) in enumerate(zip(supply.models, supply.typical, strict=True))
        ],
        "places": _places(supply, groups, plan),
        "groups": [_group(supply, groups, plan, at, settings) for at in range(len(groups.nodes))],
        "demand": _demand(supply, groups, plan, settings),
        "left_out": dict(look.left_out),
    }


def _words(supply: Supply, keeper: "PlanKeeper") -> list[str]:
    """What a reader should know first, a sentence each."""
    words = []
    if not supply.nodes:
        words.append(_NO_NODES)
    if not supply.demand_per_s.any():
        words.append(_NO_DEMAND)
    wanting = supply.demand_per_s.sum(axis=0) * (supply.capacity_per_s.sum(axis=0) <= 0)
    words += [
        f"{supply.models[column]} is asked for, and no node that can be chosen now has it"
        for column in np.flatnonzero(wanting)
    ]
    if keeper.failed is not None:
        shown = "the last good plan is shown" if keeper.plan is not None else "there is no plan yet"
        words.append(f"the latest plan failed: {keeper.failed.reason}; {shown}")
    guessed = int(supply.guessed.any(axis=1).sum())
    if guessed:
        words.append(
            f"the speed of {guessed} of {len(supply.nodes)} nodes is not known: a guess stands for it"
        )
    if supply.demand_per_s.any() and not all(typical.learned for typical in _asked_for(supply)):
        words.append("this gateway has seen no answer of some models asked for: their lengths are a guess")
    return words


def _asked_for(supply: Supply) -> list[Typical]:
    asked = supply.demand_per_s.sum(axis=0) > 0
    return [typical for typical, is_asked in zip(supply.typical, asked, strict=True) if is_asked]


def _places(supply: Supply, groups: "Groups", plan: "FlowPlan | None") -> list[dict[str, Any]]:
    """Every place of nodes or of gateways, in order of name."""
    told = []
    for place in sorted({*supply.places, *supply.origins}):
        at = np.array([supply.places[region] == place for region in groups.region], bool)
        nodes, nothing = groups.nodes[at], np.zeros(len(supply.models))
        busy = float(plan.utilisation[at] @ nodes) if plan is not None else 0.0
        asked = supply.demand_per_s[supply.origins.index(place)] if place in supply.origins else nothing
        served = plan.flow_per_s[:, :, at].sum(axis=(0, 2)) if plan is not None else nothing
        told.append(
            {
                "region": place,
                "nodes": int(nodes.sum()),
                "slots": round(float(nodes @ groups.slots[at])),
                "utilisation": _rounded(busy / nodes.sum()) if plan is not None and len(nodes) else None,
                "capacity_per_s": _by_model(supply, groups.capacity_per_s[at].sum(axis=0)),
                "ready_capacity_per_s": _by_model(
                    supply, (groups.capacity_per_s * groups.ready_part)[at].sum(axis=0)
                ),
                "asked_per_s": _by_model(supply, asked),
                "served_per_s": _by_model(supply, served),
            }
        )
    return told


def _group(
    supply: Supply, groups: "Groups", plan: "FlowPlan | None", at: int, settings: CapacitySettings
) -> dict[str, Any]:
    members = np.flatnonzero(groups.node_group == at)
    capacity, ready = groups.capacity_per_s[at], groups.ready_part[at]
    return {
        "region": supply.places[groups.region[at]],
        "nodes": int(groups.nodes[at]),
        "names": [supply.nodes[row] for row in members[: settings.names_max]],
        "models": [
            {"model": model, "ready": _rounded(ready[column])}
            for column, model in enumerate(supply.models)
            if capacity[column] > 0
        ],
        "slots_per_node": _rounded(groups.slots[at]),
        "capacity_per_s": _by_model(supply, capacity),
        "speed_guessed": bool(supply.guessed[members].any()),
        **_worth(plan, at),
    }


def _worth(plan: "FlowPlan | None", at: int) -> dict[str, float | None]:
    names = ("utilisation", "price_s", "work_price_s", "saving_s_per_node")
    return {name: None if plan is None else _rounded(float(getattr(plan, name)[at])) for name in names}


def _demand(
    supply: Supply, groups: "Groups", plan: "FlowPlan | None", settings: CapacitySettings
) -> list[dict[str, Any]]:
    """What is asked where, most first."""
    told = []
    for origin, column in zip(*np.nonzero(supply.demand_per_s), strict=True):
        pair: dict[str, Any] = {
            "region": supply.origins[origin],
            "model": supply.models[column],
            "requests_per_s": _rounded(supply.demand_per_s[origin, column]),
            "unmet_per_s": None,
            "marginal_s": None,
            "served_from": [],
        }
        if plan is not None:
            served = plan.flow_per_s[origin, column]
            pair["unmet_per_s"] = _rounded(plan.unmet_per_s[origin, column])
            pair["marginal_s"] = _rounded(plan.marginal_s[origin, column])
            pair["served_from"] = _served_from(supply, groups, served, settings.served_from_max)
        told.append(pair)
    return sorted(told, key=lambda pair: -pair["requests_per_s"])


def _served_from(supply: Supply, groups: "Groups", served: Floats, most: int) -> list[dict[str, Any]]:
    by_place = np.bincount(groups.region, served, minlength=len(supply.places))
    order = [at for at in np.argsort(-by_place, kind="stable") if by_place[at] > 0][:most]
    return [
        {"region": supply.places[at], "share": _rounded(float(by_place[at] / by_place.sum()))} for at in order
    ]


def _by_model(supply: Supply, values: Floats) -> dict[str, float]:
    """Values above 0 by model."""
    return {model: _rounded(value) for model, value in zip(supply.models, values, strict=True) if value > 0}


def _rounded(value: float, digits: int = 4) -> float:
    return round(float(value), digits)
