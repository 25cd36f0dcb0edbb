"""How many requests a second nodes can serve at most: what `rho` is a share of."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from isochrone.sim.spec import ModelSpec, NodeSpec, SpeedSpec


@dataclass(frozen=True, slots=True)
class Demand:
    """The mean request.

    Attributes:
        shares: of each model, by name; they sum to 1.
        prompt_tokens: mean length of a prompt.
        output_tokens: mean length of an answer.
    """

    shares: Mapping[str, float]
    prompt_tokens: float
    output_tokens: float


def mean_capacity_per_s(nodes: Iterable[NodeSpec], demand: Demand) -> float:
    """Requests a second of all `nodes` with every slot always taken.

    A node with b sequences in its batch completes one request in

        prefill + (output_tokens - 1) * step(b) / b,    step(b) = tpot + tpot_per_sequence * (b - 1),

    divided by its speed: a prompt is computed alone (or in chunks that lengthen the steps by as much), its
    first token comes with it, and each step gives a token to each of b. b is the number of slots, or what
    fits into the memory beside the weights at the mean length. Over several models a node takes the mean
    time, weighted by popularity among those that it may serve. Nothing is counted for cached prefixes, loads
    and fetches, the network, and for a popular model that too few nodes can run.
    """
    known: dict[tuple[str, float, tuple[str, ...]], float] = {}
    rates = []
    for node in nodes:
        key = (node.hardware.name, node.speed, tuple(node.models))
        if key not in known:
            known[key] = _node_capacity_per_s(node, demand)
        rates.append(known[key])
    return math.fsum(rates)


def _node_capacity_per_s(node: NodeSpec, demand: Demand) -> float:
    served = [name for name in node.models if demand.shares.get(name) and name in node.hardware.speeds]
    share = sum(demand.shares[name] for name in served)
    if not share:
        return 0.0
    mean_ms = sum(demand.shares[name] * _request_ms(node, name, demand) for name in served) / share
    return 1e3 * node.speed / mean_ms if mean_ms else math.inf


def _request_ms(node: NodeSpec, model: str, demand: Demand) -> float:
    speed = node.hardware.speeds[model]
    batch = _batch(node, node.models[model], demand)
    prefill_ms = speed.prefill_base_ms + speed.prefill_ms_per_token * demand.prompt_tokens
    return prefill_ms + (demand.output_tokens - 1) * _step_ms(speed, batch) / batch


def _step_ms(speed: SpeedSpec, batch: float) -> float:
    return speed.tpot_ms + speed.tpot_ms_per_sequence * (batch - 1)


def _batch(node: NodeSpec, model: ModelSpec, demand: Demand) -> float:
    """Sequences at once: whole slots, or on average fewer where memory for their context is short."""
    context_bytes = model.kv_bytes_per_token * (demand.prompt_tokens + demand.output_tokens)
    if not context_bytes:
        return node.hardware.slots
    fitting = (node.hardware.memory_bytes - model.weights_bytes) / context_bytes
    return max(1.0, min(float(node.hardware.slots), fitting))
