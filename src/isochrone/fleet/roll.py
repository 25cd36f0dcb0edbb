"""The fleet as routing looks at it: nodes one by one, or all at once as columns."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from math import exp, inf
from typing import overload

from isochrone.fleet.beliefs import Beliefs
from isochrone.fleet.columns import FleetColumns
from isochrone.fleet.model_lore import ModelLore
from isochrone.fleet.owners import OWNERS_MAX
from isochrone.fleet.tables import (
    EJECTED_UNTIL_S,
    HEARD_AT_S,
    LOAD_AT_S,
    MODELS_AT_WORK,
    OWN_UNSEEN,
    RTT_MS,
    RUNNING,
    ModelTable,
    wait_of_row_s,
)
from isochrone.fleet.trial import caution
from isochrone.model import Columns, NodeView, Numbers, Probe, PromptBlocks, Roll, sharing_of


class FleetRoll(Roll):
    """The nodes that list one model; index = row of the model's table."""

    def __init__(self, beliefs: Beliefs) -> None:
        self._beliefs = beliefs
        self._found: tuple[PromptBlocks, Mapping[int, int]] | None = None

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
        """What a score of this prompt needs of each of these, straight from the rows of the tables.

        Most of the time of a decision goes by here: what can be is looked up before the loop, and what lies
        elsewhere in memory than the rows is not looked at.
        """
        beliefs, now_s, looked, new = self._beliefs, self._beliefs.now_s, list[Numbers](), tuple.__new__
        listing, table, settings = beliefs.listing, beliefs.table, beliefs.settings
        kin_error_ms, trial_ms = beliefs.kin_error_ms, beliefs.trial_ms
        row_of, of_node, of_model = listing.node.item, table.numbers, listing.numbers
        leaving, heard_since_s = table.leaving.item, now_s - settings.silent_s if beliefs.bus_up else -inf
        held, told_all = self._held(blocks), len(self._held(blocks)) < OWNERS_MAX
        for index in indices:
            row = row_of(index)
            numbers = of_node(row)
            (ready_in_s, told_at_s, refused_until_s, base_ms, ms_per_token, tpot_ms, tpot_ms_slope,
             at_work, usual_sharing, effect, crowd, bias_ms, bias_at_s, error_ms, cached_base,
             cached_per_byte) = of_model(index)  # fmt: skip
            usable = (
                numbers[HEARD_AT_S] >= heard_since_s
                and now_s >= numbers[EJECTED_UNTIL_S]
                and now_s >= refused_until_s
                and not leaving(row)
            )
            if ready_in_s > 0.0 and listing.loading.item(index):
                ready_in_s = max(0.0, ready_in_s - (now_s - told_at_s))
            if error_ms < 0.0:
                error_ms = kin_error_ms
            if crowd:
                error_ms += caution(crowd, scarce=beliefs.scarce) * trial_ms
            if tpot_ms_slope:
                slots, running = numbers[:2]
                tpot_ms += tpot_ms_slope * min(slots, running + 1.0)
            sharing, slower, slowed, models_at_work = 1.0, 1.0, 0.0, numbers[MODELS_AT_WORK]
            if models_at_work or usual_sharing != 1.0:
                load = (models_at_work, numbers[RUNNING] + numbers[OWN_UNSEEN], numbers[0])
                sharing, slower, slowed = sharing_of(load, usual_sharing, effect, at_work=at_work)
                base_ms, ms_per_token, tpot_ms = slower * base_ms, slower * ms_per_token, slower * tpot_ms
            if bias_ms:
                bias_ms *= exp((bias_at_s - now_s) / settings.bias_memory_s)
            held_bytes = held.get(row, 0)
            if not (held_bytes or told_all):
                held_bytes = self._remembered_bytes(row, blocks)
            wait_s, age_s = wait_of_row_s(numbers, now_s, settings.flow_memory_s), now_s - numbers[LOAD_AT_S]
            looked.append(
                new(Numbers, (usable, numbers[RTT_MS], wait_s, age_s, ready_in_s, base_ms, ms_per_token,
                              tpot_ms, bias_ms, error_ms, held_bytes, cached_base, cached_per_byte,
                              sharing, slower, slowed))
            )  # fmt: skip
        return looked

    def _held(self, blocks: PromptBlocks) -> Mapping[int, int]:
        """Leading bytes of the prompt by row of the node, for the nodes that hold most of it."""
        if self._found is None or self._found[0] is not blocks:
            self._found = blocks, self._beliefs.owners.find(blocks)
        return self._found[1]

    def _remembered_bytes(self, row: int, blocks: PromptBlocks) -> int:
        """Leading bytes of the prompt that one node holds."""
        lore = self._beliefs.node(row).speeds[self._beliefs.model].lore
        return lore.prefix.memory.held_bytes(blocks) if lore is not None else 0

    def in_use(self, index: int) -> float:
        """See `Roll`."""
        table, row = self._beliefs.table, self._beliefs.listing.node.item(index)
        return max(table.inflow.item(row) / max(1.0, table.slots.item(row)), table.kv_used.item(row))

    def name(self, index: int) -> str:
        """The name of the node at `index`."""
        return self._beliefs.node(self._beliefs.listing.node.item(index)).name

    def names(self, indices: Iterable[int]) -> list[str]:
        """The names of several."""
        node, row_of = self._beliefs.node, self._beliefs.listing.node.item
        return [node(row_of(index)).name for index in indices]

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
        found, row_of = self._held(blocks), self._beliefs.listing.row_of
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
