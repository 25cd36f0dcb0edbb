"""Beliefs as columns: the numbers of all nodes side by side, so that one pass looks at ten thousand.

These arrays are where a belief's numbers are kept, not a copy of them. A node has one row in `NodeTable`
while it is known; a model has a `ModelTable` with one row for each node that lists it.
"""

from collections.abc import Iterator, Sequence
from copy import copy
from math import exp
from struct import Struct
from typing import ClassVar, NamedTuple, Self

import numpy as np

from isochrone.fleet.events import LoadsReceived
from isochrone.fleet.wait import wait_s
from isochrone.model import Bools, Floats, Hashes, Indices

_ROWS_MIN = 16

_FLOW_MIN = 1e-9
"""Less than this, of slot-seconds or requests a second, is what rounding leaves of nothing."""

_STRUCTS = [Struct(f"{count}d") for count in range(32)]

Row = tuple[float, ...]
"""Floats of one row, in the order of `fills`."""

RUNNING, OWN_UNSEEN, LOAD_AT_S, _INFLOW, RTT_MS = 1, 6, 13, 17, 20
HEARD_AT_S, EJECTED_UNTIL_S, MODELS_AT_WORK = 21, 22, 23
"""Where in the numbers of a node's row these are."""

_TOLD = ("seq", "slots", "running", "queued", "wait_s", "backlog_s", "inflow", "kv_used", "prefill_s")


class Table:
    """Columns that grow together. A subclass names them, each with the value of a row never written.

    Rows from `rows` on are always as never written. The first `told` columns of floats are those that a
    decision reads of a row.
    """

    fills: ClassVar[dict[str, tuple[str, float]]]
    told: ClassVar[int]

    def __init__(self) -> None:
        self.rows, self._room = 0, _ROWS_MIN
        self._floats = [name for name, (dtype, _) in self.fills.items() if dtype == "f8"]
        self._others = [name for name, (dtype, _) in self.fills.items() if dtype != "f8"]
        self._block = np.empty((0, len(self._floats)))
        self._row, self._row_bytes = _STRUCTS[self.told], 8 * len(self._floats)
        for name in self._others:
            setattr(self, name, np.empty(0, self.fills[name][0]))
        self._make_room(_ROWS_MIN)

    def add_row(self) -> int:
        """A fresh row at the end; returns its index."""
        row, self.rows = self.rows, self.rows + 1
        if row >= self._room:
            self._make_room(self._room)
            self._room *= 2
        return row

    def _make_room(self, more: int) -> None:
        """Lengthen all columns. Those of floats lie row by row in one block: a row is fetched at once."""
        fills = np.array([self.fills[name][1] for name in self._floats])
        self._lay(np.concatenate((self._block, np.tile(fills, (more, 1)))))
        for name in self._others:
            dtype, fill = self.fills[name]
            setattr(self, name, np.concatenate((getattr(self, name), np.full(more, fill, dtype))))

    def _lay(self, block: Floats) -> None:
        self._block, self._bytes = block, block.data.cast("B")
        for name, column in zip(self._floats, block.T, strict=True):
            setattr(self, name, column)

    def snapshot(self) -> Self:
        """The columns as they are now, for whoever reads them, and nothing else, while these change."""
        twin = copy(self)
        twin._lay(self._block[: max(1, self.rows)].copy())
        for name in self._others:
            setattr(twin, name, getattr(self, name)[: self.rows].copy())
        return twin

    def numbers(self, row: int) -> Row:
        """The first `told` columns of floats of one row, in the order of `fills`."""
        return self._row.unpack_from(self._bytes, row * self._row_bytes)

    def write(self, row: int, numbers: Sequence[float]) -> None:
        """Write the first columns of floats of one row at once, in the order of `fills`.

        With seventeen that takes half of the time of as many assignments; with five it takes longer.
        """
        _STRUCTS[len(numbers)].pack_into(self._bytes, row * self._row_bytes, *numbers)

    def reset(self, row: int) -> None:
        """Make the row as if never written."""
        for name, (_dtype, fill) in self.fills.items():
            getattr(self, name)[row] = fill

    def copy_row(self, source: int, target: int) -> None:
        """Write one row over another."""
        for name in self.fills:
            column = getattr(self, name)
            column[target] = column[source]


class Offer(NamedTuple):
    """What everybody else is expected to send to each of some nodes, all of shape (rows,).

    Attributes:
        flow: slot-seconds a second.
        requests: a second.
        prompts: seconds of prompt processing a second.
    """

    flow: Floats
    requests: Floats
    prompts: Floats


class NodeTable(Table):
    """What is believed of every node, whatever the model.

    `own_*` is our own work there, and what gateways of our company told us of: our requests in flight;
    those of them that its last report can't know of, their seconds of service and, of these, of prefill;
    how long the slots and the line of prompts stood idle between the report and these; and the flow of
    our work in slot-seconds a second, as it was at `own_flow_at_s`. `others_*` is what plans expect of
    everybody else: the flow from `others_at_s` on, and the slot-seconds that came between the report and
    then; -1 while no plan spoke of the node. `service_s` and `prefill_share` tell what a typical request
    of theirs takes there, whatever its model. `models_at_work` counts its models that have requests on
    slots; 0 where it lists but one.
    """

    told = 24
    fills: ClassVar[dict[str, tuple[str, float]]] = {
        "known": ("?", 0),
        "leaving": ("?", 0),
        "silent": ("?", 0),
        "epoch": ("i8", -1),
        "seq": ("i8", -1),
        "name_hash": ("u8", 0),
        "region": ("i8", 0),
        "slots": ("f8", 1.0),
        "running": ("f8", 0.0),
        "queued": ("f8", 0.0),
        "wait_s": ("f8", 0.0),
        "backlog_s": ("f8", 0.0),
        "prefill_s": ("f8", 0.0),
        "own_unseen": ("f8", 0.0),
        "own_unseen_s": ("f8", 0.0),
        "own_unseen_prefill_s": ("f8", 0.0),
        "own_idle_s": ("f8", 0.0),
        "own_prompt_idle_s": ("f8", 0.0),
        "service_s": ("f8", 0.0),
        "prefill_share": ("f8", 0.0),
        "load_at_s": ("f8", 0.0),
        "others_flow": ("f8", 0.0),
        "others_s": ("f8", 0.0),
        "others_at_s": ("f8", -1.0),
        "inflow": ("f8", 0.0),
        "own_flow": ("f8", 0.0),
        "own_flow_at_s": ("f8", 0.0),
        "rtt_ms": ("f8", 0.0),
        "heard_at_s": ("f8", 0.0),
        "ejected_until_s": ("f8", 0.0),
        "models_at_work": ("f8", 0.0),
        "own_in_flight": ("f8", 0.0),
        "kv_used": ("f8", 0.0),
        "others_requests": ("f8", 0.0),
        "others_prompts": ("f8", 0.0),
    }
    known: Bools
    leaving: Bools
    silent: Bools
    epoch: Indices
    seq: Indices
    name_hash: Hashes
    region: Indices
    heard_at_s: Floats
    load_at_s: Floats
    slots: Floats
    running: Floats
    queued: Floats
    wait_s: Floats
    backlog_s: Floats
    inflow: Floats
    kv_used: Floats
    prefill_s: Floats
    rtt_ms: Floats
    ejected_until_s: Floats
    models_at_work: Floats
    own_in_flight: Floats
    own_unseen: Floats
    own_unseen_s: Floats
    own_unseen_prefill_s: Floats
    own_idle_s: Floats
    own_prompt_idle_s: Floats
    own_flow: Floats
    own_flow_at_s: Floats
    others_flow: Floats
    others_s: Floats
    others_at_s: Floats
    others_requests: Floats
    others_prompts: Floats
    service_s: Floats
    prefill_share: Floats

    def take_pulses(self, told: LoadsReceived) -> Indices:
        """Write a batch of pulses into the rows that it is news for; returns those."""
        rows = told.rows
        fresh = (told.seq > self.seq[rows]) & (told.heard_at_s >= self.load_at_s[rows])
        which: Bools | slice = slice(None)
        if not fresh.all():
            which, rows = fresh, rows[fresh]
        for name in _TOLD:
            getattr(self, name)[rows] = getattr(told, name)[which]
        heard_at_s = told.heard_at_s[which]
        late_s = self.others_at_s[rows] - heard_at_s  # a plan came between the hearing and the folding in
        self.others_s[rows] = np.where(late_s > 0.0, self.others_flow[rows] * late_s, self.others_s[rows])
        self.load_at_s[rows] = heard_at_s
        self.heard_at_s[rows] = np.maximum(self.heard_at_s[rows], heard_at_s)
        return rows

    def expect(self, rows: Indices | slice, more: Offer, now_s: float) -> None:
        """From now on everybody else sends so much more to these, of one model."""
        known_s = np.maximum(self.others_at_s[rows], self.load_at_s[rows])
        before_s = np.where(self.load_at_s[rows] > self.others_at_s[rows], 0.0, self.others_s[rows])
        self.others_s[rows] = before_s + self.others_flow[rows] * (now_s - known_s)
        self.others_flow[rows] = flow = np.maximum(0.0, self.others_flow[rows] + more.flow)
        self.others_at_s[rows] = now_s
        self.others_requests[rows] = requests = np.maximum(0.0, self.others_requests[rows] + more.requests)
        self.others_prompts[rows] = prompts = np.maximum(0.0, self.others_prompts[rows] + more.prompts)
        told = np.minimum(flow, requests) > _FLOW_MIN
        self.service_s[rows] = np.where(told, flow / np.maximum(requests, _FLOW_MIN), self.service_s[rows])
        share = np.minimum(1.0, prompts / np.maximum(flow, _FLOW_MIN))
        self.prefill_share[rows] = np.where(told, share, self.prefill_share[rows])


def wait_of_row_s(row: Row, now_s: float, flow_memory_s: float) -> float:
    """Seconds until the prompt of a request that arrives now would begin, by the numbers of a node's row."""
    load_at_s, others_flow, others_s, others_at_s = row[LOAD_AT_S:_INFLOW]
    age_s = now_s - load_at_s
    if others_at_s < 0.0:  # no plan spoke of it: what others lately sent, they still send
        inflow, own_flow, own_flow_at_s = row[_INFLOW:RTT_MS]
        others_flow = max(0.0, inflow - own_flow * exp((own_flow_at_s - now_s) / flow_memory_s))
        others_s = others_flow * age_s
    elif others_at_s >= load_at_s:
        others_s += others_flow * (now_s - others_at_s)
    else:
        others_s = others_flow * age_s
    return wait_s(row[:LOAD_AT_S], age_s, others_flow, others_s)


class ModelTable(Table):
    """What is believed of one model on every node that lists it.

    Attributes:
        node: the row of the node in the `NodeTable`.
        tpot_ms_base: time per output token, at concurrency 0 of the learned line.
        tpot_ms_slope: more of it for each sequence at work.
        at_work: 1 while it has requests on the node's slots, or requests of ours are on their way to it.
        sharing: how many times as long as alone on the node all usually takes there, as these speeds tell it.
        sharing_effect: how much of an equal share of the node shows in its speeds, 0 to 1; -1 until learned.
        error_ms: usual absolute error of the predicted first token; -1 until we saw one: its kin's then.
        crowd: requests of ours beyond the room of the node's trial, one more counted; 0 once it answered.
        cached_base: prompt tokens found in the node's prefix cache, at no byte of the prompt held there; 0
            while the cache is empty.
        cached_per_byte: more of them for each byte held.
        others_flow, others_requests, others_prompts: what the last plan expects everybody else to send for
            this model, as in `Offer`.
        roster: counts up whenever a node goes: while it stays, every row's node does.
    """

    told = 16
    fills: ClassVar[dict[str, tuple[str, float]]] = {
        "node": ("i8", 0),
        "loading": ("?", 0),
        "ready_in_s": ("f8", 0.0),
        "heard_at_s": ("f8", 0.0),
        "refused_until_s": ("f8", 0.0),
        "prefill_base_ms": ("f8", 0.0),
        "prefill_ms_per_token": ("f8", 0.0),
        "tpot_ms_base": ("f8", 0.0),
        "tpot_ms_slope": ("f8", 0.0),
        "at_work": ("f8", 0.0),
        "sharing": ("f8", 1.0),
        "sharing_effect": ("f8", -1.0),
        "crowd": ("f8", 0.0),
        "bias_ms": ("f8", 0.0),
        "bias_at_s": ("f8", 0.0),
        "error_ms": ("f8", -1.0),
        "cached_base": ("f8", 0.0),
        "cached_per_byte": ("f8", 0.25),
        "ttft_peak_ms": ("f8", 0.0),
        "ttft_peak_at_s": ("f8", 0.0),
        "response_ms": ("f8", 0.0),
        "service_ms": ("f8", 0.0),
        "others_flow": ("f8", 0.0),
        "others_requests": ("f8", 0.0),
        "others_prompts": ("f8", 0.0),
    }
    node: Indices
    loading: Bools
    ready_in_s: Floats
    heard_at_s: Floats
    refused_until_s: Floats
    cached_base: Floats
    cached_per_byte: Floats
    prefill_base_ms: Floats
    prefill_ms_per_token: Floats
    tpot_ms_base: Floats
    tpot_ms_slope: Floats
    at_work: Floats
    sharing: Floats
    sharing_effect: Floats
    bias_ms: Floats
    bias_at_s: Floats
    error_ms: Floats
    crowd: Floats
    ttft_peak_ms: Floats
    ttft_peak_at_s: Floats
    response_ms: Floats
    service_ms: Floats
    others_flow: Floats
    others_requests: Floats
    others_prompts: Floats

    def __init__(self) -> None:
        super().__init__()
        self._row_of: dict[int, int] = {}
        self._in_step = True
        self.roster = 0

    def list_node(self, node: int) -> int:
        """The row of the node, a fresh one when it did not list the model before."""
        row = self._row_of.get(node)
        if row is None:
            row = self._row_of[node] = self.add_row()
            self.node[row] = node
            self._in_step = self._in_step and row == node
        return row

    @property
    def where(self) -> Indices | slice:
        """Where in the `NodeTable` its rows are: a slice when both go in step, which spares the copies."""
        return self.where_first(self.rows)

    def where_first(self, rows: int) -> Indices | slice:
        """Where the first so many are."""
        return slice(rows) if self._in_step else self.node[:rows]

    def expect(self, rows: slice, offer: Offer) -> Offer:
        """Everybody else is expected to send `offer` to these from now on; returns how much more that is."""
        more = Offer(
            offer.flow - self.others_flow[rows],
            offer.requests - self.others_requests[rows],
            offer.prompts - self.others_prompts[rows],
        )
        self.others_flow[rows], self.others_requests[rows], self.others_prompts[rows] = offer
        return more

    def drop_node(self, node: int) -> None:
        """The node lists the model no more: the last row takes its place."""
        row = self._row_of.pop(node, None)
        if row is None:
            return
        self.rows -= 1
        self.roster += 1
        self._in_step = self._in_step and row == self.rows
        if row != self.rows:
            self.copy_row(self.rows, row)
            self._row_of[int(self.node[row])] = row
        self.reset(self.rows)

    def row_of(self, node: int) -> int | None:
        """The row of a node, None when it does not list the model."""
        return self._row_of.get(node)

    def nodes(self) -> Iterator[int]:
        """The rows in the `NodeTable` of all nodes that list the model, in order."""
        return (int(node) for node in self.node[: self.rows])
