"""The fleet as routing looks at it: nodes one by one, or all at once as columns."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from math import exp
from typing import overload

from isochrone.fleet.beliefs import Beliefs
from isochrone.fleet.columns import FleetColumns
from isochrone.fleet.model_lore import ModelLore
from isochrone.fleet.tables import LOAD_AT_S, RTT_MS, ModelTable, wait_of_row_s
from isochrone.model import Columns, NodeView, Numbers, Probe, PromptBlocks, Roll

_NO_PREFIX = (0, 0.0, 0.25)


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
             bias_ms, bias_at_s, error_ms, caution) = of_model(index)  # fmt: skip
            if ready_in_s > 0.0 and listing.loading.item(index):
                ready_in_s = max(0.0, ready_in_s - (now_s - heard_at_s))
            if error_ms < 0.0:
                error_ms = kin_error_ms
            if caution:
                error_ms += caution * trial_ms
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
