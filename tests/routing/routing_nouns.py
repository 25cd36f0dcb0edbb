"""Views and requests to route with."""

from dataclasses import replace

from isochrone.model import FleetView, ModelState, ModelView, NodeView, Request

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
    return replace(NodeView(name, f"http://{name}:1", rtt_ms=30.0), models={MODEL: model}, **beliefs)


def a_view(*nodes: NodeView, **beliefs) -> FleetView:
    view = FleetView(100.0, MODEL, nodes, prompt_tokens_base=8.0, output_tokens_mean=51.0)
    return replace(view, **beliefs)
