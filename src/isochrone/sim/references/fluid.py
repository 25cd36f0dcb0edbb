"""B2: the fleet as a fluid, and the highest rate of good answers that it can give."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import coo_array

from isochrone.ports import SettingError
from isochrone.sim.references.references import Question, RttMs, node_cost_s, question_columns
from isochrone.sim.spec import HardwareSpec, NodeSpec

WAYS_MAX = 20_000
"""With more ways from a stream to a place HiGHS takes minutes, and soon hours."""

Place = tuple[str, str]
"""(region, name of a class of hardware)."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Requests of one sort, as a fluid.

    Attributes:
        gateway: region where they come in.
        model: what they ask for.
        rate_per_s: how many.
        uncached_tokens: mean prompt tokens that no cache can have.
        more_tokens: mean tokens of the answer after the first.
        uncached_tokens_min: of the shortest prompt, by which is judged what can meet the SLO.
    """

    gateway: str
    model: str
    rate_per_s: float
    uncached_tokens: float
    more_tokens: float
    uncached_tokens_min: float = 0.0


@dataclass(frozen=True, slots=True)
class Terms:
    """What counts as served.

    Attributes:
        slo_ttft_ms: longest time to first token; only ways that can meet it alone in the world are open.
        slo_tpot_ms: longest time for a further token; only hardware that can meet it alone is open.
        placeable: models may be anywhere that lists them, as far as memory goes; otherwise they stay where
            they are ready.
    """

    slo_ttft_ms: float = math.inf
    slo_tpot_ms: float = math.inf
    placeable: bool = True


@dataclass(frozen=True, slots=True)
class FluidBound:
    """B2.

    Attributes:
        goodput_per_s: no policy serves more of the streams a second, in the long run.
        offered_per_s: what they ask.
        scarcity_per_s: what one more node of nominal speed would add, by place; 0 is left out.
        memory_scarcity_per_s: what one more GB of memory on every node would add, by place; 0 is left out.
    """

    goodput_per_s: float
    offered_per_s: float
    scarcity_per_s: dict[Place, float]
    memory_scarcity_per_s: dict[Place, float]


@dataclass(slots=True)
class _Group:
    """Nodes of one place together; `factor` sums their speeds, `have` those of the nodes with each model."""

    hardware: HardwareSpec
    factor: float = 0.0
    fastest: float = 0.0
    have: dict[str, float] = field(default_factory=dict)
    weights_bytes: dict[str, float] = field(default_factory=dict)


class _Rows:
    """Inequalities `sum of coefficient * variable <= limit`, grown one at a time."""

    def __init__(self) -> None:
        self.limits: list[float] = []
        self._entries: list[tuple[int, int, float]] = []

    def add(self, terms: list[tuple[int, float]], limit: float) -> int:
        row = len(self.limits)
        self.limits.append(limit)
        self._entries += [(row, variable, coefficient) for variable, coefficient in terms]
        return row

    def matrix(self, variables: int) -> coo_array:
        rows, columns, values = (list(part) for part in zip(*self._entries, strict=True))
        return coo_array((values, (rows, columns)), shape=(len(self.limits), variables))


def streams_of(question: Question, window_s: float, sizes: int = 4) -> tuple[Stream, ...]:
    """The question's requests as streams by gateway, model and size.

    A fluid serves mean requests. A policy that refuses long ones would serve more of them a second than that:
    so requests are split into `sizes` by their tokens, and the bound holds for policies that do not choose by
    size within one.
    """
    asked = question_columns(question)
    tokens = asked.uncached_tokens + asked.more_tokens
    streams = []
    for pair, (gateway, model) in enumerate(asked.pairs):
        rows = np.flatnonzero(asked.pair == pair)
        rows = rows[np.argsort(tokens[rows], kind="stable")]
        for part in np.array_split(rows, min(sizes, len(rows))):
            prompts = asked.uncached_tokens[part]
            streams.append(
                Stream(
                    gateway=gateway,
                    model=model,
                    rate_per_s=len(part) / window_s,
                    uncached_tokens=float(np.mean(prompts)),
                    more_tokens=float(np.mean(asked.more_tokens[part])),
                    uncached_tokens_min=float(np.min(prompts)),
                )
            )
    return tuple(streams)


def fluid_bound(question: Question, window_s: float, terms: Terms, ways_max: int = WAYS_MAX) -> FluidBound:
    """B2 of these requests; where they have more than `ways_max` ways, of the same world without distances.

    That can only be higher: no way takes longer, and none is closed that was open. Raises SettingError like
    `fluid_goodput_per_s`.
    """
    streams = streams_of(question, window_s)
    if len(streams) * len({(node.region, node.hardware.name) for node in question.nodes}) > ways_max:
        here = tuple(replace(node, region="") for node in question.nodes)
        return fluid_goodput_per_s(streams, here, lambda _gateway, _node: 0.0, terms)
    return fluid_goodput_per_s(streams, question.nodes, question.rtt_ms, terms)


def fluid_goodput_per_s(
    streams: tuple[Stream, ...], nodes: tuple[NodeSpec, ...], rtt_ms: RttMs, terms: Terms | None = None
) -> FluidBound:
    """B2: the linear program that maximises what is served, solved by HiGHS.

    Variables are the flow of each stream to each place (region and class of hardware) and, for placement,
    the part of a place that holds each model. A place has as much node-time as its nodes (sped up by their
    factors), as much slot-time as their slots, and as much of both for a model as holds it; the weights held
    must fit its memory. Parts of nodes may hold parts of models: that is what makes it a bound.

    Raises:
        SettingError: the program has no finite answer.
    """
    terms = terms or Terms()
    groups = _groups(nodes, placeable=terms.placeable)
    program = _Program(streams, groups, rtt_ms, terms)
    offered = math.fsum(stream.rate_per_s for stream in streams)
    if not program.flows:
        return FluidBound(0.0, offered, {}, {})
    variables = len(program.flows) + len(program.holds)
    gain = np.zeros(variables)
    gain[: len(program.flows)] = -1.0
    found = linprog(
        gain,
        A_ub=program.rows.matrix(variables).tocsr(),
        b_ub=np.array(program.rows.limits),
        bounds=np.array([(0.0, math.inf)] * len(program.flows) + program.hold_bounds),
        method="highs",
    )
    if found.status != 0:
        raise SettingError(f"the fluid bound has no answer: {found.message}")
    prices = -found.ineqlin.marginals
    node_prices = _sums(prices, program.node_rows)
    for (place, _), hold in program.holds.items():
        node_prices[place] = node_prices.get(place, 0.0) - float(found.upper.marginals[hold])
    return FluidBound(
        goodput_per_s=float(-found.fun),
        offered_per_s=offered,
        scarcity_per_s=_above_zero(node_prices),
        memory_scarcity_per_s=_above_zero(_sums(prices, program.memory_rows)),
    )


class _Program:
    """The rows and variables: flows first, then holds."""

    def __init__(
        self, streams: tuple[Stream, ...], groups: Mapping[Place, _Group], rtt_ms: RttMs, terms: Terms
    ) -> None:
        self.flows: list[tuple[Stream, Place]] = []
        self.holds: dict[tuple[Place, str], int] = {}
        self.hold_bounds: list[tuple[float, float]] = []
        self.rows = _Rows()
        self.node_rows: list[tuple[int, Place, float]] = []
        self.memory_rows: list[tuple[int, Place, float]] = []
        self._groups, self._terms = groups, terms
        by_place: dict[Place, dict[str, list[int]]] = {}
        for stream in streams:
            first = len(self.flows)
            for place, group in groups.items():
                if stream.model in group.have and self._meets(
                    stream, group, rtt_ms(stream.gateway, place[0])
                ):
                    by_place.setdefault(place, {}).setdefault(stream.model, []).append(len(self.flows))
                    self.flows.append((stream, place))
            if len(self.flows) > first:
                self.rows.add([(flow, 1.0) for flow in range(first, len(self.flows))], stream.rate_per_s)
        for place, by_model in by_place.items():
            self._bound_place(place, by_model)

    def _meets(self, stream: Stream, group: _Group, rtt_ms: float) -> bool:
        speed = group.hardware.speeds[stream.model]
        prompt_ms = speed.prefill_base_ms + stream.uncached_tokens_min * speed.prefill_ms_per_token
        in_time = rtt_ms + prompt_ms / group.fastest <= self._terms.slo_ttft_ms
        return in_time and speed.tpot_ms / group.fastest <= self._terms.slo_tpot_ms

    def _bound_place(self, place: Place, by_model: Mapping[str, list[int]]) -> None:
        group = self._groups[place]
        slots = float(max(1, group.hardware.slots))
        node_terms: list[tuple[int, float]] = []
        slot_terms: list[tuple[int, float]] = []
        memory_terms: list[tuple[int, float]] = []
        for model, flows in by_model.items():
            node = [(flow, self._node_s(self.flows[flow][0], group)) for flow in flows]
            slot = [(flow, self._slot_s(self.flows[flow][0], group)) for flow in flows]
            node_terms += node
            slot_terms += slot
            if self._terms.placeable and math.isfinite(group.hardware.memory_bytes):
                hold = self._hold(place, model, group.have[model])
                self.rows.add([*node, (hold, -1.0)], 0.0)
                self.rows.add([*slot, (hold, -slots)], 0.0)
                memory_terms.append((hold, group.weights_bytes[model] / 1e9))
            else:
                self.node_rows.append((self.rows.add(node, group.have[model]), place, 1.0))
                self.node_rows.append((self.rows.add(slot, group.have[model] * slots), place, slots))
        self.node_rows.append((self.rows.add(node_terms, group.factor), place, 1.0))
        self.node_rows.append((self.rows.add(slot_terms, group.factor * slots), place, slots))
        if memory_terms:
            gigabytes = group.hardware.memory_bytes / 1e9
            row = self.rows.add(memory_terms, gigabytes * group.factor)
            self.node_rows.append((row, place, gigabytes))
            self.memory_rows.append((row, place, group.factor))

    def _hold(self, place: Place, model: str, most: float) -> int:
        """A variable; all flows have been counted by now."""
        number = len(self.flows) + len(self.holds)
        self.holds[place, model] = number
        self.hold_bounds.append((0.0, most))
        return number

    def _node_s(self, stream: Stream, group: _Group) -> float:
        tokens = np.array([stream.uncached_tokens]), np.array([stream.more_tokens])
        return float(node_cost_s(group.hardware, group.hardware.speeds[stream.model], *tokens)[0])

    def _slot_s(self, stream: Stream, group: _Group) -> float:
        speed = group.hardware.speeds[stream.model]
        prompt_ms = speed.prefill_base_ms + stream.uncached_tokens * speed.prefill_ms_per_token
        return (prompt_ms + stream.more_tokens * speed.tpot_ms) / 1e3


def _groups(nodes: tuple[NodeSpec, ...], *, placeable: bool) -> dict[Place, _Group]:
    groups: dict[Place, _Group] = {}
    for node in nodes:
        group = groups.setdefault((node.region, node.hardware.name), _Group(node.hardware))
        group.factor += node.speed
        group.fastest = max(group.fastest, node.speed)
        for model in node.models if placeable else node.ready:
            if model in node.hardware.speeds:
                group.have[model] = group.have.get(model, 0.0) + node.speed
                group.weights_bytes[model] = node.models[model].weights_bytes
    return {place: group for place, group in groups.items() if group.factor > 0}


def _sums(prices: NDArray[np.float64], rows: list[tuple[int, Place, float]]) -> dict[Place, float]:
    sums: dict[Place, float] = {}
    for row, place, amount in rows:
        sums[place] = sums.get(place, 0.0) + float(prices[row]) * amount
    return sums


def _above_zero(prices: dict[Place, float]) -> dict[Place, float]:
    return {place: price for place, price in prices.items() if price > 1e-9}
