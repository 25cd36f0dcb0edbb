"""Cards, pulses, estimates and outcomes to feed a fleet with."""

from dataclasses import replace

import numpy as np

from isochrone.fleet import CardReceived, Dispatched, Finished, Fleet, Planned, PulseReceived, RttMeasured
from isochrone.fleet.settings import DEFAULT_SETTINGS, FleetSettings
from isochrone.model import (
    Estimate,
    Load,
    ModelPulse,
    ModelState,
    NodeCard,
    NodeView,
    Outcome,
    OutcomeKind,
    Plan,
    Pulse,
    Request,
)

MODEL = "tiny"
READY = ModelPulse(MODEL, ModelState.READY, prefill_base_ms=20.0, prefill_ms_per_token=2.0, tpot_ms=10.0)
IDLE = Load(slots=1)


def an_estimate(**terms) -> Estimate:
    zero = Estimate(0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0)
    return replace(zero, **terms)


def a_pulse(node: str = "a", seq: int = 1, **facts) -> Pulse:
    return replace(Pulse(node, 1, seq, "digest", IDLE, (READY,)), **facts)


def a_card(node: str = "a", **facts) -> CardReceived:
    return CardReceived(replace(NodeCard(node, f"http://{node}:1"), **facts), "digest")


def a_request(number: int = 1, **wishes) -> Request:
    return replace(Request(f"r{number}", MODEL, prompt_bytes=400), **wishes)


def an_outcome(
    request: Request, node: str = "a", kind: OutcomeKind = OutcomeKind.ANSWERED, **more
) -> Finished:
    status = 200 if kind is OutcomeKind.ANSWERED else 0
    return Finished(request, replace(Outcome(request.id, node, kind, status), **more))


def a_dispatch(request: Request, node: str = "a", service_s: float = 1.0) -> Dispatched:
    return Dispatched(request, node, an_estimate(prefill_ms=service_s * 1e3))


def a_plan(*others_flow: float, model: str = MODEL, **facts) -> Planned:
    """A plan that expects everybody else to send so much to each node, slot-seconds a second."""
    nodes = len(others_flow)
    plan = Plan(
        made_at_s=0.0,
        refresh_s=0.2,
        edges=np.arange(1.0, nodes + 1),
        draws=2.0,
        others_flow=np.array(others_flow),
        service_s=np.full(nodes, 4.0),
        prefill_share=np.full(nodes, 0.0),
        token_price_ms=0.0,
        level_s=1.0,
    )
    return Planned(model, replace(plan, **facts))


def joined(
    *names: str,
    now_s: float = 0.0,
    settings: FleetSettings = DEFAULT_SETTINGS,
    rtt_ms: float | None = None,
    **facts,
) -> Fleet:
    """A fleet that knows nodes of these names, `a` if none is named."""
    fleet = Fleet(settings)
    for name in names or ("a",):
        fleet.step(PulseReceived(a_pulse(name, **facts)), now_s)
        fleet.step(a_card(name), now_s)
        if rtt_ms is not None:
            fleet.step(RttMeasured(name, rtt_ms), now_s)
    return fleet


def seen(fleet: Fleet, now_s: float, node: str = "a") -> NodeView:
    """The node as routing sees it."""
    return next(view for view in fleet.view(MODEL, now_s).nodes if view.node == node)
