"""Views and requests to route with."""

from dataclasses import replace
from random import Random

import numpy as np

from isochrone.model import FleetView, ModelState, ModelView, NodeView, Numbers, Plan, Request, Roll
from isochrone.routing import RANKED_MAX, find_policy
from isochrone.routing.choice import Choice
from isochrone.routing.estimate import DEFAULT_WEIGHTS

MODEL = "tiny"
A_MODEL = ModelView(
    ModelState.READY,
    prefill_base_ms=20.0,
    prefill_ms_per_token=2.0,
    tpot_ms=10.0,
    cached_prefix={1: None, 2: None},
    observations=9,
)
A_REQUEST = Request("r", MODEL, prompt_bytes=400)


def a_node(name: str = "a", model: ModelView = A_MODEL, **beliefs) -> NodeView:
    return replace(NodeView(name, f"http://{name}:1"), **{"rtt_ms": 30.0, "models": {MODEL: model}} | beliefs)


def numbers(node: NodeView, request: Request = A_REQUEST) -> Numbers:
    """What a score of this request needs of it."""
    return Roll(MODEL, [node]).numbers(0, request.blocks)


def a_view(*nodes: NodeView, **beliefs) -> FleetView:
    view = replace(FleetView.of(MODEL, nodes, 100.0), prompt_tokens_base=8.0, output_tokens_mean=51.0)
    return replace(view, **beliefs)


def a_plan(nodes: int = 1, **facts) -> Plan:
    """A plan that gives each of so many nodes the same."""
    each = np.ones(nodes)
    plan = Plan(100.0, 0.2, np.cumsum(each), 2.0, 0 * each, each, 0 * each, token_price_ms=0.0, level_s=1.0)
    return replace(plan, **facts)


def a_choice(view: FleetView, request: Request = A_REQUEST, wanted: int = RANKED_MAX) -> Choice:
    return Choice(view, request, DEFAULT_WEIGHTS, wanted)


def ranked(name: str, view: FleetView, luck: Random | None = None, request: Request = A_REQUEST) -> str:
    """The order of a policy of the catalogue, as names run together."""
    order = find_policy(name).decide(a_choice(view, request), luck or Random(1))
    return "".join(view.nodes[index].node for index in order)


def first(name: str, view: FleetView, luck: Random | None = None, request: Request = A_REQUEST) -> str:
    """Whom a policy of the catalogue chooses."""
    return view.nodes[find_policy(name).decide(a_choice(view, request), luck or Random(1))[0]].node
