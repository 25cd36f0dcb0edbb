"""From what is believed to a decision that explains itself."""

from dataclasses import dataclass

import numpy as np

from isochrone.model import Decision, Exclusion, FleetView, Plan, Request
from isochrone.routing.catalogue import DEFAULT_POLICY, Policy
from isochrone.routing.choice import RANKED_MAX, Choice
from isochrone.routing.estimate import DEFAULT_WEIGHTS, EstimateWeights
from isochrone.routing.luck import Luck
from isochrone.routing.patience import patience_ms
from isochrone.routing.planning import due, make_plan

_EXCLUSIONS_MAX = 32
_NODES_TOLD_MAX = 256
"""In a larger fleet, who was left out is told only when nobody is left."""
_NODES_LOOKED_AT = 16
"""Up to so many nodes are sooner looked at one by one than as columns."""


@dataclass(frozen=True, slots=True)
class Router:
    """How to decide: a policy, and the weights of its estimate.

    Attributes:
        policy: who ranks.
        weights: of the estimate.
        candidates_max: the choice and its runners-up, told in the decision with their estimates.
    """

    policy: Policy = DEFAULT_POLICY
    weights: EstimateWeights = DEFAULT_WEIGHTS
    candidates_max: int = RANKED_MAX


def route(view: FleetView, request: Request, luck: Luck, router: Router | None = None) -> Decision:
    """Choose a node for `request`. Pure: the same arguments give the same decision.

    The decision has no candidates when no node in `view` is usable; its exclusions then say why.
    """
    router = router or Router()
    choice = Choice(view, request, router.weights, router.candidates_max)
    ranked = router.policy.decide(choice, luck) if router.policy.checks or choice.any_usable else ()
    told = ranked[: router.candidates_max]
    return Decision(
        request_id=request.id,
        model=request.model,
        policy=router.policy.name,
        candidates=choice.tell(told),
        exclusions=_exclusions(view) if not ranked or len(view.nodes) <= _NODES_TOLD_MAX else (),
        at_s=view.now_s,
        slo=choice.slo_room(ranked[0]) if ranked and request.objective.has_slo else None,
        origin=choice.origin,
        patience_ms=patience_ms(choice, told) if router.policy.balks else None,
    )


def wants_plan(view: FleetView, router: Router) -> bool:
    """Whether the policy wants a plan and the last has grown old."""
    policy = router.policy
    return (policy.plans or policy.told) and due(view) and len(view.nodes) > 0


def plan_if_due(view: FleetView, request: Request, router: Router) -> Plan | None:
    """A new plan where one is wanted; fold it in before the decision."""
    return make_plan(view, request, router.weights) if wants_plan(view, router) else None


def draw_probes(view: FleetView, luck: Luck, per_request: float) -> list[str]:
    """Whom to probe after a decision: `per_request` nodes on average, drawn at random, each once."""
    count = int(per_request) + (luck.random() < per_request % 1.0)
    nodes = view.nodes
    drawn = {luck.randrange(len(nodes)): None for _ in range(count)} if len(nodes) else {}
    return [nodes[index].node for index in drawn if nodes.available(index)]


def _exclusions(view: FleetView) -> tuple[Exclusion, ...]:
    if len(view.nodes) <= _NODES_LOOKED_AT:
        left_out = [index for index in range(len(view.nodes)) if not view.nodes.available(index)]
    else:
        left_out = np.flatnonzero(~view.nodes.columns.available)[:_EXCLUSIONS_MAX].tolist()
    nodes = [view.nodes[index] for index in left_out]
    return tuple(Exclusion(node.node, node.unavailable) for node in nodes if node.unavailable is not None)
