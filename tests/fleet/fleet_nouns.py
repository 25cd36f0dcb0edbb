"""Cards, pulses, estimates and outcomes to feed a fleet with."""

from dataclasses import replace

from isochrone.fleet import CardReceived, Dispatched, Finished, Fleet, PulseReceived, RttMeasured
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
