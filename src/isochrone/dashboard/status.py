"""The fleet at one instant, as plain values: the source of `isochrone status` and of its `--json`."""

from collections import Counter
from typing import Any

from isochrone.demand import ArrivalRates
from isochrone.fleet import Fleet
from isochrone.fleet.node import NodeBelief


def status_fields(fleet: Fleet, rates: ArrivalRates, now_s: float) -> dict[str, Any]:
    """Everything believed, in the order people read it; units stand in the names."""
    return {
        "bus_up": fleet.bus_up,
        "in_flight": fleet.in_flight,
        "models": [
            {
                "model": model,
                "requests_per_s": round(rates.rate_per_s(model, now_s), 3),
                "growth": round(rates.growth(model, now_s), 2),
            }
            for model in fleet.models()
        ],
        "nodes": [_node_fields(belief, now_s, bus_up=fleet.bus_up) for belief in fleet.beliefs()],
    }


def whole_status(own: dict[str, Any], others: list[dict[str, Any]]) -> dict[str, Any]:
    """The status of a gateway with several workers: beliefs of the one that was asked, traffic of all.

    `workers` tells of each: its name, its requests under way, and how many nodes it knows.
    """
    everyone = [own, *others]
    rates, in_flight = Counter[str](), Counter[str]()
    for worker in everyone:
        for model in worker["models"]:
            rates[model["model"]] += model["requests_per_s"]
        for node in worker["nodes"]:
            in_flight[node["node"]] += node["own_in_flight"]
    return {
        **own,
        "in_flight": sum(worker["in_flight"] for worker in everyone),
        "models": [{**model, "requests_per_s": round(rates[model["model"]], 3)} for model in own["models"]],
        "nodes": [{**node, "own_in_flight": in_flight[node["node"]]} for node in own["nodes"]],
        "workers": [
            {"gateway": worker["gateway"], "in_flight": worker["in_flight"], "nodes": len(worker["nodes"])}
            for worker in sorted(everyone, key=lambda worker: str(worker["gateway"]))
        ],
    }


def _node_fields(belief: NodeBelief, now_s: float, *, bus_up: bool) -> dict[str, Any]:
    card, load = belief.card, belief.load
    return {
        "node": belief.name,
        "operator": card.operator,
        "region": card.region,
        "engine": card.engine,
        "hardware": card.hardware,
        "url": card.url,
        "unavailable": belief.unavailable(now_s, bus_up=bus_up),
        "rtt_ms": round(belief.rtt_ms, 2),
        "rtt_measured": belief.rtt_measured,
        "rtt_spread_ms": round(belief.rtt_spread_ms, 2),
        "age_s": round(now_s - belief.load_at_s, 2),
        "slots": load.slots,
        "running": load.running,
        "queued": load.queued,
        "kv_used": round(load.kv_used, 4),
        "queue_s": round(belief.wait_s(now_s), 3),
        "own_in_flight": belief.own_in_flight,
        "memory_bytes": card.memory_bytes,
        "memory_free_bytes": belief.pulse.memory_free_bytes if belief.pulse else 0,
        "models": [_model_fields(belief, name, now_s) for name in sorted(belief.speeds)],
    }


def _model_fields(belief: NodeBelief, name: str, now_s: float) -> dict[str, Any]:
    speed = belief.speeds[name]
    view, lore = speed.view(max(1, belief.load.running), now_s), speed.lore
    per_token_ms = view.prefill_ms_per_token
    return {
        "model": name,
        "state": view.state.value,
        "ready_in_s": round(view.ready_in_s, 2),
        "prefill_base_ms": round(view.prefill_base_ms, 2),
        "prefill_tokens_per_s": round(1e3 / per_token_ms, 1) if per_token_ms else None,
        "decode_tokens_per_s": round(1e3 / view.tpot_ms, 1) if view.tpot_ms else None,
        "bias_ms": round(view.bias_ms, 1),
        "error_ms": round(view.error_ms, 1),
        "prefill_spread": round(lore.prefill.spread, 3) if lore else None,
        "decode_spread": round(lore.decode.spread, 3) if lore else None,
        "bias_spread_ms": round(lore.bias.spread, 1) if lore else None,
        "load_late_ms": round(lore.loads.late_ms, 1) if lore else None,
        "changes_seen": lore.prefill.changes + lore.decode.changes if lore else 0,
        "answers_seen": view.observations,
    }
