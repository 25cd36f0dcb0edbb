"""The fleet as routing looks at it: nodes one by one, or all at once as columns."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import exp
from typing import overload

import numpy as np

from isochrone.fleet.model_lore import ModelLore
from isochrone.fleet.node import NodeBelief
from isochrone.fleet.owners import Owners
from isochrone.fleet.settings import FleetSettings
from isochrone.fleet.tables import LOAD_AT_S, RTT_MS, ModelTable, NodeTable, wait_of_row_s
from isochrone.fleet.wait import Waiting, waits_s
from isochrone.model import (
    Bools,
    Columns,
    Floats,
    Hashes,
    Indices,
    NodeView,
    Numbers,
    Probe,
    PromptBlocks,
    Roll,
)

_NO_PREFIX = (0, 0.0, 0.25)


@dataclass(slots=True)
class Beliefs:
    """All that a look at the fleet needs, at one instant; made for each view, and so not frozen.

    Attributes:
        settings: bounds and time constants.
        table: numbers of all nodes.
        node: the belief at a row of `table`.
        row_of: the row of a node by its name.
        owners: who holds which prompt block of this model.
        kin_error_ms: error to expect of a node that has shown none.
        trial_ms: more of it for each request under way to a node that never answered.
        model: the model's name.
        listing: numbers of the model on each node that lists it.
        now_s: when.
        bus_up: whether silence means anything.
    """

    settings: FleetSettings
    table: NodeTable
    node: Callable[[int], NodeBelief]
    row_of: Callable[[str], int | None]
    owners: Owners
    kin_error_ms: float
    trial_ms: float
    model: str
    listing: ModelTable
    now_s: float
    bus_up: bool


class FleetRoll(Roll):
    """The nodes that list one model; index = row of the model's table."""

    def __init__(self, beliefs: Beliefs) -> None:
        self._beliefs = beliefs

    def __len__(self) -> int:
        return self._beliefs.listing.rows

    @property
    def roster(self) -> int:
        """While it stays the same, every index means the same node."""
        return self._beliefs.listing.roster

    def snapshot(self) -> "FleetRoll":
        """The same with columns that stay as they are now; single nodes are still those of the moment."""
        beliefs = self._beliefs
        table, listing = beliefs.table.snapshot(), beliefs.listing.snapshot()
        return FleetRoll(replace(beliefs, table=table, listing=listing))

    def __getitem__(self, index: int) -> NodeView:
        beliefs = self._beliefs
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        row = int(beliefs.listing.node[index % len(self)])
        return beliefs.node(row).view(beliefs.model, beliefs.now_s, bus_up=beliefs.bus_up)

    def __iter__(self) -> Iterator[NodeView]:
        return (self[index] for index in range(len(self)))

    @cached_property
    def columns(self) -> Columns:
        """All nodes at once."""
        return FleetColumns(self._beliefs)

    def look(self, indices: Iterable[int], blocks: PromptBlocks) -> list[Numbers]:
        """What a score of this prompt needs of each of these, straight from the columns.

        Most of the time of a decision goes by here: what can be is looked up before the loop.
        """
        beliefs, now_s, looked = self._beliefs, self._beliefs.now_s, list[Numbers]()
        listing, table, node, model = beliefs.listing, beliefs.table, beliefs.node, beliefs.model
        flow_memory_s, bias_memory_s = beliefs.settings.flow_memory_s, beliefs.settings.bias_memory_s
        kin_error_ms, trial_ms = beliefs.kin_error_ms, beliefs.trial_ms
        row_of, of_node, of_model = listing.node.item, table.numbers, listing.numbers
        for index in indices:
            row = row_of(index)
            belief, numbers = node(row), of_node(row)
            (ready_in_s, heard_at_s, base_ms, ms_per_token, tpot_ms, tpot_ms_slope,
             bias_ms, bias_at_s, error_ms, untested) = of_model(index)  # fmt: skip
            if ready_in_s > 0.0 and listing.loading.item(index):
                ready_in_s = max(0.0, ready_in_s - (now_s - heard_at_s))
            if untested:
                error_ms = kin_error_ms + (untested - 1.0) * trial_ms
            if tpot_ms_slope:
                slots, running = numbers[:2]
                tpot_ms += tpot_ms_slope * min(slots, running + 1.0)
            held_bytes, cached_base, cached_per_byte = _NO_PREFIX
            lore = belief.speeds[model].lore
            if lore is not None:
                memory = lore.prefix.memory
                cached_base, cached_per_byte = lore.prefix.tokens.fit()
                if memory:
                    held_bytes = memory.held_bytes(blocks)
                else:
                    cached_base = 0.0
                if bias_ms:
                    bias_ms *= exp((bias_at_s - now_s) / bias_memory_s)
            wait_s, age_s = wait_of_row_s(numbers, now_s, flow_memory_s), now_s - numbers[LOAD_AT_S]
            looked.append(
                Numbers(belief.name, numbers[RTT_MS], wait_s, age_s, ready_in_s, base_ms, ms_per_token,
                        tpot_ms, bias_ms, error_ms, held_bytes, cached_base, cached_per_byte)
            )  # fmt: skip
        return looked

    def in_use(self, index: int) -> float:
        """See `Roll`."""
        table, row = self._beliefs.table, self._beliefs.listing.node.item(index)
        return max(table.inflow.item(row) / max(1.0, table.slots.item(row)), table.kv_used.item(row))

    def name(self, index: int) -> str:
        """The name of the node at `index`."""
        return self._beliefs.node(self._beliefs.listing.node.item(index)).name

    def index_of(self, name: str) -> int | None:
        """Where the node of that name is, None when it does not list the model."""
        row = self._beliefs.row_of(name)
        return None if row is None else self._beliefs.listing.row_of(row)

    def available(self, index: int) -> bool:
        """Whether the node at `index` may be chosen."""
        beliefs, table, now_s = self._beliefs, self._beliefs.table, self._beliefs.now_s
        row = beliefs.listing.node.item(index)  # `item` gives Python's numbers, which compare faster
        return (
            (not beliefs.bus_up or now_s - table.heard_at_s.item(row) <= beliefs.settings.silent_s)
            and now_s >= table.ejected_until_s.item(row)
            and now_s >= beliefs.listing.refused_until_s.item(index)
            and not table.leaving.item(row)
        )

    def owners(self, blocks: PromptBlocks) -> Mapping[int, int]:
        """Leading bytes of the prompt by index, for the nodes that hold most of it."""
        found, row_of = self._beliefs.owners.find(blocks), self._beliefs.listing.row_of
        return {row: held for node, held in found.items() if (row := row_of(node)) is not None}


class FleetColumns:
    """See `Columns`. Each is copied together when asked for: in the tables the rows lie together."""

    def __init__(self, beliefs: Beliefs) -> None:
        self._beliefs, listing = beliefs, beliefs.listing
        self._nodes = listing.where
        self._now_s = beliefs.now_s

    def _of_node(self, column: Floats) -> Floats:
        return np.ascontiguousarray(column[self._nodes])

    def _of_model(self, column: Floats) -> Floats:
        return np.ascontiguousarray(column[: self._beliefs.listing.rows])

    @cached_property
    def available(self) -> Bools:
        beliefs, table, now_s, nodes = self._beliefs, self._beliefs.table, self._now_s, self._nodes
        usable = ~table.leaving[nodes] & (table.ejected_until_s[nodes] <= now_s)
        usable &= beliefs.listing.refused_until_s[: beliefs.listing.rows] <= now_s
        if beliefs.bus_up:
            usable &= now_s - table.heard_at_s[nodes] <= beliefs.settings.silent_s
        available: Bools = usable
        return available

    @cached_property
    def name_hash(self) -> Hashes:
        return self._beliefs.table.name_hash[self._nodes]

    @cached_property
    def region(self) -> Indices:
        return self._beliefs.table.region[self._nodes]

    @cached_property
    def rtt_ms(self) -> Floats:
        return self._of_node(self._beliefs.table.rtt_ms)

    @cached_property
    def age_s(self) -> Floats:
        return self._now_s - self._of_node(self._beliefs.table.load_at_s)

    @cached_property
    def slots(self) -> Floats:
        return self._of_node(self._beliefs.table.slots)

    @cached_property
    def running(self) -> Floats:
        return self._of_node(self._beliefs.table.running)

    @cached_property
    def queued(self) -> Floats:
        return self._of_node(self._beliefs.table.queued)

    @cached_property
    def kv_used(self) -> Floats:
        return self._of_node(self._beliefs.table.kv_used)

    @cached_property
    def inflow(self) -> Floats:
        return self._of_node(self._beliefs.table.inflow)

    @cached_property
    def others_inflow(self) -> Floats:
        table = self._beliefs.table
        own_flow_age_s = self._now_s - self._of_node(table.own_flow_at_s)
        own_flow = self._of_node(table.own_flow) * np.exp(
            -own_flow_age_s / self._beliefs.settings.flow_memory_s
        )
        return np.asarray(np.maximum(0.0, self.inflow - own_flow))

    @cached_property
    def backlog_s(self) -> Floats:
        return self._of_node(self._beliefs.table.backlog_s)

    @cached_property
    def reported_prefill_s(self) -> Floats:
        return self._of_node(self._beliefs.table.prefill_s)

    @cached_property
    def reported_wait_s(self) -> Floats:
        return self._of_node(self._beliefs.table.wait_s)

    @cached_property
    def wait_s(self) -> Floats:
        table = self._beliefs.table
        others_flow, others_s = self._others()
        return waits_s(
            Waiting(
                slots=self.slots,
                running=self.running,
                queued=self.queued,
                told_wait_s=self.reported_wait_s,
                backlog_s=self.backlog_s,
                prefill_s=self.reported_prefill_s,
                age_s=self.age_s,
                own_unseen=self.own_unseen,
                own_unseen_s=self.own_unseen_s,
                own_unseen_prefill_s=self.own_unseen_prefill_s,
                own_idle_s=self._of_node(table.own_idle_s),
                own_prompt_idle_s=self._of_node(table.own_prompt_idle_s),
                others_flow=others_flow,
                others_s=others_s,
                service_s=self._of_node(table.service_s),
                prefill_share=self._of_node(table.prefill_share),
            )
        )

    def _others(self) -> tuple[Floats, Floats]:
        """What everybody else sends now, slot-seconds a second, and has sent since the report."""
        table, now_s = self._beliefs.table, self._now_s
        told_s, planned_s = self._of_node(table.load_at_s), self._of_node(table.others_at_s)
        flow = self._of_node(table.others_flow)
        since_s = flow * (now_s - np.maximum(told_s, planned_s))
        since_s = since_s + np.where(planned_s >= told_s, self._of_node(table.others_s), 0.0)
        unplanned = planned_s < 0.0
        if unplanned.any():
            flow = np.where(unplanned, self.others_inflow, flow)
            since_s = np.where(unplanned, flow * self.age_s, since_s)
        return flow, since_s

    @cached_property
    def own_in_flight(self) -> Floats:
        return self._of_node(self._beliefs.table.own_in_flight)

    @cached_property
    def own_unseen(self) -> Floats:
        return self._of_node(self._beliefs.table.own_unseen)

    @cached_property
    def own_unseen_s(self) -> Floats:
        return self._of_node(self._beliefs.table.own_unseen_s)

    @cached_property
    def own_unseen_prefill_s(self) -> Floats:
        return self._of_node(self._beliefs.table.own_unseen_prefill_s)

    @cached_property
    def ready_in_s(self) -> Floats:
        listing = self._beliefs.listing
        ready_in_s = self._of_model(listing.ready_in_s)
        loading = listing.loading[: listing.rows]
        if loading.any():
            elapsed_s = np.where(loading, self._now_s - self._of_model(listing.heard_at_s), 0.0)
            return np.asarray(np.maximum(0.0, ready_in_s - elapsed_s))
        return ready_in_s

    @cached_property
    def prefill_base_ms(self) -> Floats:
        return self._of_model(self._beliefs.listing.prefill_base_ms)

    @cached_property
    def prefill_ms_per_token(self) -> Floats:
        return self._of_model(self._beliefs.listing.prefill_ms_per_token)

    @cached_property
    def tpot_ms(self) -> Floats:
        listing = self._beliefs.listing
        slope = self._of_model(listing.tpot_ms_slope)
        if slope.any():
            return self._of_model(listing.tpot_ms_base) + slope * np.minimum(self.slots, self.running + 1)
        return self._of_model(listing.tpot_ms_base)

    @cached_property
    def bias_ms(self) -> Floats:
        listing, settings = self._beliefs.listing, self._beliefs.settings
        bias_ms = self._of_model(listing.bias_ms)
        if not bias_ms.any():
            return bias_ms
        age_s = self._now_s - self._of_model(listing.bias_at_s)
        return np.asarray(bias_ms * np.exp(-age_s / settings.bias_memory_s))

    @cached_property
    def error_ms(self) -> Floats:
        beliefs, listing = self._beliefs, self._beliefs.listing
        untested = self._of_model(listing.untested)
        expected_ms = beliefs.kin_error_ms + (untested - 1.0) * beliefs.trial_ms
        return np.asarray(np.where(untested > 0.0, expected_ms, self._of_model(listing.error_ms)))

    @cached_property
    def ttft_peak_ms(self) -> Floats:
        listing, settings = self._beliefs.listing, self._beliefs.settings
        age_s = self._now_s - self._of_model(listing.ttft_peak_at_s)
        return np.asarray(self._of_model(listing.ttft_peak_ms) * np.exp(-age_s / settings.peak_memory_s))

    @cached_property
    def response_ms(self) -> Floats:
        return self._of_model(self._beliefs.listing.response_ms)

    @cached_property
    def service_ms(self) -> Floats:
        return self._of_model(self._beliefs.listing.service_ms)


class Idle(Sequence[int]):
    """Rows of the node table, as indices of one model's listing; looked up only as far as somebody reads."""

    def __init__(self, rows: dict[int, None], listing: ModelTable) -> None:
        self._rows, self._listing = rows, listing

    def __iter__(self) -> Iterator[int]:
        listed = (self._listing.row_of(row) for row in self._rows)
        return (index for index in listed if index is not None)

    def __reversed__(self) -> Iterator[int]:
        listed = (self._listing.row_of(row) for row in reversed(self._rows))
        return (index for index in listed if index is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @overload
    def __getitem__(self, at: int) -> int: ...

    @overload
    def __getitem__(self, at: slice) -> tuple[int, ...]: ...

    def __getitem__(self, at: int | slice) -> int | tuple[int, ...]:
        return tuple(self)[at]


def usable_probes(lore: ModelLore, now_s: float) -> tuple[Probe, ...]:
    """The probe pool as routing reads it."""
    if not lore.probes.answers:
        return ()
    listed = ((lore.table.row_of(answer.node), answer) for answer in lore.probes.fresh(now_s))
    return tuple(
        Probe(index, answer.in_flight, answer.latency_ms, answer.at_s)
        for index, answer in listed
        if index is not None
    )
