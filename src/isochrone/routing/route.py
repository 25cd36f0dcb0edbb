"""From what is believed to a decision that explains itself."""

from dataclasses import dataclass

from isochrone.model import Candidate, Decision, Estimate, Exclusion, FleetView, NodeView, Request
from isochrone.routing.catalogue import DEFAULT_POLICY, Policy
from isochrone.routing.choice import Choice
from isochrone.routing.estimate import DEFAULT_WEIGHTS, EstimateWeights, estimate
from isochrone.routing.luck import Luck

RUNNERS_UP_MAX = 8
"""Runners-up kept in a decision: more were never tried before a deadline."""


@dataclass(frozen=True, slots=True)
class Router:
    """How to decide: a policy, and the weights of its estimate."""

    policy: Policy = DEFAULT_POLICY
    weights: EstimateWeights = DEFAULT_WEIGHTS


def route(view: FleetView, request: Request, luck: Luck, router: Router | None = None) -> Decision:
    """Choose a node for `request`. Pure: the same arguments give the same decision.

    The decision has no candidates when no node in `view` is usable; its exclusions then say why.
    """
    router = router or Router()
    usable = tuple(node for node in view.nodes if node.unavailable is None)
    estimates: dict[str, Estimate] = {}

    def estimate_once(node: NodeView) -> Estimate:
        known = estimates.get(node.node)
        if known is None:
            known = estimates[node.node] = estimate(view, request, node, router.weights)
        return known

    ranked = router.policy.rank(Choice(view, request, usable, estimate_once), luck) if usable else ()
    return Decision(
        request_id=request.id,
        model=request.model,
        policy=router.policy.name,
        candidates=tuple(Candidate(n.node, estimate_once(n)) for n in ranked[: 1 + RUNNERS_UP_MAX]),
        exclusions=tuple(Exclusion(n.node, n.unavailable) for n in view.nodes if n.unavailable is not None),
        at_s=view.now_s,
    )
