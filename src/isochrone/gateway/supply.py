"""What the nodes can serve, what is asked of them, and how far apart they are, as one gateway believes it."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from isochrone.fleet import Fleet
from isochrone.fleet.node import NodeBelief
from isochrone.gateway.settings import CapacitySettings
from isochrone.model import Bools, FleetView, Floats, Hashes, Indices, Places, Request, name_hash
from isochrone.routing.estimate import DEFAULT_WEIGHTS, PRIOR_TPOT_MS, ServiceColumns

_SERVICE_S_LEAST = 1e-6


@dataclass(frozen=True, slots=True)
class Typical:
    """The request that capacity is counted in, of one model.

    Attributes:
        prompt_tokens: length of the prompt; nothing of it is taken to be cached.
        output_tokens: length of the answer.
        learned: whether answers of ours taught these lengths.
    """

    prompt_tokens: float
    output_tokens: float
    learned: bool


@dataclass(frozen=True, slots=True, eq=False)
class Supply:
    """Demand, supply and distance: R places of gateways, M models, N nodes in Q places.

    Attributes:
        origins: the places of gateways, our own first; R of them. A place that is not told is "".
        models: by demand, most first; M.
        typical: what a request of each model is like; M.
        places: the places of nodes, in order of name; Q.
        nodes: names, in order; N. Those that cannot be chosen now are not among them.
        node_place: index into `places`, shape (N,).
        slots: requests that a node works on at once, shape (N,).
        capacity_per_s: typical requests a second if a node served only this model, shape (N, M): all slots
            in use, and no more prompts than are computed one after the other. 0 where it is not listed.
        service_s: what one takes there, prompt and answer, shape (N, M).
        ready_in_s: until the model is ready, shape (N, M).
        guessed: whether nothing is known of the speed, and it is a prior, shape (N, M).
        demand_per_s: requests a second, shape (R, M).
        rtt_s: round trip from origin to place, shape (R, Q).
        left_out: reason to count.
    """

    origins: tuple[str, ...]
    models: tuple[str, ...]
    typical: tuple[Typical, ...]
    places: tuple[str, ...]
    nodes: tuple[str, ...]
    node_place: Indices
    slots: Floats
    capacity_per_s: Floats
    service_s: Floats
    ready_in_s: Floats
    guessed: Bools
    demand_per_s: Floats
    rtt_s: Floats
    left_out: Mapping[str, int]


def gather(fleet: Fleet, own_per_s: Mapping[str, float], now_s: float, settings: CapacitySettings) -> Supply:
    """What `fleet` believes, copied: it stays as it is when the fleet goes on. Pure.

    `own_per_s` holds the requests a second of each model that arrive at our own gateway, served or not. Of
    the other gateways only what they send to nodes is told.
    """
    left_out: Counter[str] = Counter()
    here = fleet.view("", now_s)
    beliefs = _usable(fleet, now_s, left_out)
    asked = _asked(fleet, own_per_s, here.me.region, settings)
    origins, models = _axes(fleet, asked, here.me.region, settings, left_out)
    places = tuple(sorted({belief.card.region for belief in beliefs}))
    table = _Table.empty([belief.name for belief in beliefs], len(models))
    typical = [
        _fill(table, column, fleet.view(model, now_s), beliefs, settings)
        for column, model in enumerate(models)
    ]
    number = {place: at for at, place in enumerate(places)}
    node_place = np.array([number[belief.card.region] for belief in beliefs], np.intp)
    return Supply(
        origins=origins,
        models=models,
        typical=tuple(typical),
        places=places,
        nodes=tuple(belief.name for belief in beliefs),
        node_place=node_place,
        slots=table.slots,
        capacity_per_s=table.capacity_per_s,
        service_s=table.service_s,
        ready_in_s=table.ready_in_s,
        guessed=table.guessed,
        demand_per_s=np.array([[asked.get((o, m), 0.0) for m in models] for o in origins]),
        rtt_s=_rtt_s(here.places, origins, places, _own_rtt_ms(beliefs, node_place, len(places))),
        left_out=dict(left_out),
    )


def _usable(fleet: Fleet, now_s: float, left_out: Counter[str]) -> list[NodeBelief]:
    """Nodes that may be chosen. One that lately refused a model is among them: it is full, not gone."""
    usable = []
    for belief in fleet.beliefs():
        why = belief.unavailable(now_s, bus_up=fleet.bus_up)
        if why is None:
            usable.append(belief)
        else:
            left_out[f"node {why.partition(' for ')[0]}"] += 1
    return usable


# -- what is asked -------------------------------------------------------------------------------------


def _asked(
    fleet: Fleet, own_per_s: Mapping[str, float], own_region: str, settings: CapacitySettings
) -> dict[tuple[str, str], float]:
    """Requests a second by (region, model)."""
    asked: defaultdict[tuple[str, str], float] = defaultdict(float)
    for model, per_s in own_per_s.items():
        asked[own_region, model] += per_s
    for pulse in fleet.gateways():
        for flow in pulse.flows:
            asked[pulse.region, flow.model] += flow.requests_per_s
    return {pair: per_s for pair, per_s in asked.items() if per_s >= settings.requests_per_s_least}


def _axes(
    fleet: Fleet,
    asked: Mapping[tuple[str, str], float],
    own_region: str,
    settings: CapacitySettings,
    left_out: Counter[str],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The regions of gateways, our own first, and the models; those that ask or are asked for most."""
    by_region: defaultdict[str, float] = defaultdict(float)
    by_model: defaultdict[str, float] = defaultdict(float)
    for (region, model), per_s in asked.items():
        by_region[region] += per_s
        by_model[model] += per_s
    others = {pulse.region for pulse in fleet.gateways()} - {own_region}
    regions = [own_region, *_most_first(others, by_region)]
    models = _most_first({*fleet.models(), *by_model}, by_model)
    for what, found, most in (
        ("place of gateways", regions, settings.regions_max),
        ("model", models, settings.models_max),
    ):
        if len(found) > most:
            left_out[f"{what} beyond the first {most}"] = len(found) - most
    return tuple(regions[: settings.regions_max]), tuple(models[: settings.models_max])


def _most_first(names: Iterable[str], weights: Mapping[str, float]) -> list[str]:
    return sorted(names, key=lambda name: (-weights.get(name, 0.0), name))


# -- what there is -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """Arrays of `Supply`, to be filled model by model."""

    name_hash: Hashes
    slots: Floats
    capacity_per_s: Floats
    service_s: Floats
    ready_in_s: Floats
    guessed: Bools

    @classmethod
    def empty(cls, nodes: list[str], models: int) -> "_Table":
        hashes, wide = np.array([name_hash(name) for name in nodes], np.uint64), (len(nodes), models)
        return cls(
            name_hash=hashes,
            slots=np.ones(len(nodes)),
            capacity_per_s=np.zeros(wide),
            service_s=np.zeros(wide),
            ready_in_s=np.zeros(wide),
            guessed=np.zeros(wide, np.bool_),
        )


def _fill(
    table: _Table, column: int, view: FleetView, beliefs: list[NodeBelief], settings: CapacitySettings
) -> Typical:
    """Fill in one model; returns what a request of it is like."""
    prompt_bytes = view.prompt_bytes_mean or settings.prompt_bytes_prior
    output_tokens = max(1.0, view.answer_tokens_mean or view.output_tokens_mean)
    prompt_tokens = view.prompt_tokens_base + view.prompt_tokens_per_byte * prompt_bytes
    typical = Typical(prompt_tokens, output_tokens, view.answer_tokens_mean > 0)
    columns = view.nodes.columns
    rows, indices = _joined(table.name_hash, columns.name_hash)
    if not len(rows):
        return typical
    request = Request("", view.model, prompt_bytes=round(prompt_bytes))
    prefill_s = ServiceColumns(view, request, DEFAULT_WEIGHTS).prefill_ms[indices] / 1e3
    prefill_s = np.maximum(prefill_s, _SERVICE_S_LEAST)
    tpot_ms = columns.tpot_ms[indices]
    for at, row in enumerate(rows.tolist()):
        speed = beliefs[row].speeds[view.model]
        if speed.lore is not None:  # only these know how a full node is slower than an idle one
            tpot_ms[at] = speed.view(columns.slots[indices[at]], view.now_s).tpot_ms
    unknown = tpot_ms <= 0
    table.slots[rows] = columns.slots[indices]
    service_s = prefill_s + (output_tokens - 1.0) * np.where(unknown, PRIOR_TPOT_MS, tpot_ms) / 1e3
    table.service_s[rows, column] = service_s
    table.capacity_per_s[rows, column] = np.minimum(columns.slots[indices] / service_s, 1.0 / prefill_s)
    table.ready_in_s[rows, column] = columns.ready_in_s[indices]
    base_ms, per_token_ms = columns.prefill_base_ms[indices], columns.prefill_ms_per_token[indices]
    table.guessed[rows, column] = unknown | ((base_ms <= 0) & (per_token_ms <= 0))
    return typical


def _joined(wanted: Hashes, listed: Hashes) -> tuple[Indices, Indices]:
    """Where each of `wanted` that is in `listed` stands in either; names are told apart by their hashes."""
    if not len(listed):
        return np.empty(0, np.intp), np.empty(0, np.intp)
    order = np.argsort(listed)
    at = order[np.minimum(np.searchsorted(listed, wanted, sorter=order), len(listed) - 1)]
    rows = np.flatnonzero(listed[at] == wanted)
    return rows, at[rows]


# -- how far -------------------------------------------------------------------------------------------


def _own_rtt_ms(beliefs: list[NodeBelief], node_place: Indices, places: int) -> Floats:
    """Our own gateway's round trip to each place: the median over its nodes, measured where it was."""
    rtt_ms = np.array([belief.rtt_ms for belief in beliefs])
    return np.array([float(np.median(rtt_ms[node_place == place])) for place in range(places)])


def _rtt_s(places: Places, origins: tuple[str, ...], targets: tuple[str, ...], own_ms: Floats) -> Floats:
    table = [[places.rtt_ms(origin, target) for target in targets] for origin in origins]
    rtt_ms = np.array(table).reshape(len(origins), len(targets))
    rtt_ms[0] = own_ms
    return rtt_ms / 1e3
