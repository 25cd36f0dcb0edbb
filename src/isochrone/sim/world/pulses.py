"""The bus: pulses that every gateway hears, late, out of order, or not at all."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from isochrone.fleet import CardReceived, LoadsReceived, PulseReceived
from isochrone.fleet.cadence import pulse_interval_s
from isochrone.model import Bools, Floats, Indices, Load, Pulse
from isochrone.sim.scenario.settings import BusSettings
from isochrone.sim.world.agenda import Agenda
from isochrone.sim.world.gateway import SimGateway
from isochrone.sim.world.network import Network
from isochrone.sim.world.yard import LOAD_FIELDS, Yard

_LATE_S_MAX = 30.0
"""No message is later than this."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """Pulses that reach one gateway in one tick.

    Attributes:
        gateway: which.
        nodes: who spoke; shape (pulses,), as all columns.
        versions: the versions of their models, as they spoke.
        seq: numbers of the pulses.
        heard_at_s: when each comes in.
        told: loads, by field.
        whole: by node, the pulse of one whose models this gateway did not know yet when it spoke.
    """

    gateway: int
    nodes: Indices
    versions: Indices
    seq: Indices
    heard_at_s: Floats
    told: dict[str, Floats]
    whole: dict[int, Pulse] = field(default_factory=dict)


class Pulses:
    """Each node speaks as often as live, by their number, each at its own phase; time is cut into ticks.

    A node speaks on a tick, and its pulse is folded in at the end of the tick in which it arrives, with the
    time when it came in: news may be used up to a tick later than it could be, never sooner. Most pulses go
    in as columns; one from a node whose models changed since this gateway last heard goes in whole, as it was
    spoken.

    Attributes:
        delivered: pulses that reached a gateway; looks at nodes as they are do not count.
    """

    def __init__(
        self,
        settings: BusSettings,
        agenda: Agenda,
        yard: Yard,
        *,
        network: Network,
        gateways: Sequence[SimGateway],
        luck: np.random.Generator,
    ) -> None:
        self._settings, self._agenda, self._luck = settings, agenda, luck
        self._yard, self._network, self._gateways = yard, network, gateways
        nodes = len(yard.nodes)
        interval_s = pulse_interval_s(
            nodes,
            pulse_s=settings.pulse_s,
            pulse_s_min=settings.pulse_s_min,
            pulses_per_s=settings.pulses_per_s,
        )
        self._phases = max(1, round(interval_s / settings.tick_s))
        order = luck.permutation(nodes)
        step = 1 if settings.in_step else self._phases
        self._speakers = [np.sort(order[phase::step]) for phase in range(step)]
        self._speakers += [order[:0]] * (self._phases - step)
        ticks_max = math.ceil((_LATE_S_MAX + float(network.back_s.max()) * 10) / settings.tick_s) + 2
        self._ring: list[list[_Batch]] = [[] for _ in range(ticks_max)]
        self._tick = 0
        self._told = np.full((len(gateways), nodes), -1, np.int64)
        self._rows = np.zeros((len(gateways), nodes), np.intp)
        self.delivered = 0

    def start(self, now_s: float) -> None:
        """Every gateway knows every node; from now on only pulses and responses tell more."""
        for gateway in self._gateways:
            self.introduce(gateway, now_s)
        if not self._settings.exact_loads:
            self._agenda.note(now_s + self._settings.tick_s, self._on_tick, None)

    def introduce(self, gateway: SimGateway, now_s: float) -> None:
        """Tell one gateway of all nodes that are alive, cards and all."""
        versions = self._yard.versions
        for index in map(int, np.flatnonzero(self._yard.alive)):
            pulse = self._yard.pulse(index, self._tick, self._yard.load(index, now_s), now_s)
            self._tell(gateway, pulse, int(versions[index]), now_s)

    def look(self, gateway: SimGateway, now_s: float) -> None:
        """Show one gateway all nodes that are alive as they are now, without a network in between."""
        self._tick += 1
        nodes = np.flatnonzero(self._yard.alive)
        told = self._yard.loads(nodes, now_s)
        heard_at_s = np.full(len(nodes), now_s)
        self._deliver(self._batch(gateway.index, nodes, told, heard_at_s, now_s), now_s)

    def forget(self, gateway: int, node: int | None = None) -> None:
        """The gateway forgot that node, or began anew and knows nobody."""
        self._told[gateway, slice(None) if node is None else node] = -1

    # -- ticks ---------------------------------------------------------------------------------------

    def _on_tick(self, now_s: float, _subject: object) -> None:
        self._tick += 1
        slot = self._tick % len(self._ring)
        batches, self._ring[slot] = self._ring[slot], []
        by_gateway: dict[int, list[_Batch]] = {}
        for batch in batches:
            by_gateway.setdefault(batch.gateway, []).append(batch)
        for together in by_gateway.values():
            for batch in self._merged(together):
                if self._gateways[batch.gateway].alive:
                    self.delivered += len(batch.nodes)
                    self._deliver(batch, now_s)
        self._speak(self._speakers[self._tick % self._phases], now_s)
        self._agenda.note(now_s + self._settings.tick_s, self._on_tick, None)

    def _speak(self, speakers: Indices, now_s: float) -> None:
        speakers = speakers[self._yard.alive[speakers]]
        if not len(speakers):
            return
        told, settings = self._yard.loads(speakers, now_s), self._settings
        for gateway in self._gateways:
            if not gateway.alive:
                continue
            delay_s = self._network.back_s[gateway.index, speakers]
            delay_s = delay_s * (1.0 + settings.jitter * self._luck.exponential(1.0, len(speakers)))
            late = self._luck.random(len(speakers)) < settings.late
            if late.any():
                delay_s[late] += np.minimum(_LATE_S_MAX, self._luck.exponential(settings.late_s, late.sum()))
            arrives = ~self._network.cut[gateway.index, speakers]
            if settings.loss:
                arrives &= self._luck.random(len(speakers)) >= settings.loss
            ticks = np.maximum(1, np.ceil(delay_s / settings.tick_s)).astype(np.intp)
            ticks[~arrives] = 0
            for after in np.unique(ticks):
                if after:
                    chosen = ticks == after
                    part = {name: told[name][chosen] for name in LOAD_FIELDS}
                    heard_at_s = now_s + delay_s[chosen]
                    batch = self._batch(gateway.index, speakers[chosen], part, heard_at_s, now_s)
                    self._ring[(self._tick + int(after)) % len(self._ring)].append(batch)

    def _batch(
        self, gateway: int, nodes: Indices, told: dict[str, Floats], heard_at_s: Floats, now_s: float
    ) -> _Batch:
        """What these nodes say to one gateway now, whole where it does not know their models."""
        versions = self._yard.versions[nodes]
        whole = {}
        for at in np.flatnonzero(self._told[gateway, nodes] != versions):
            load = _load({name: float(told[name][at]) for name in LOAD_FIELDS})
            whole[int(nodes[at])] = self._yard.pulse(int(nodes[at]), self._tick, load, now_s)
        return _Batch(gateway, nodes, versions, np.full(len(nodes), self._tick), heard_at_s, told, whole)

    def _merged(self, batches: list[_Batch]) -> list[_Batch]:
        """One batch of all, where none of them can hold a node twice: those of one round of pulses."""
        spoken = [int(batch.seq[0]) for batch in batches]
        if len(batches) == 1 or max(spoken) - min(spoken) >= self._phases:
            return batches
        return [
            _Batch(
                gateway=batches[0].gateway,
                nodes=np.concatenate([batch.nodes for batch in batches]),
                versions=np.concatenate([batch.versions for batch in batches]),
                seq=np.concatenate([batch.seq for batch in batches]),
                heard_at_s=np.concatenate([batch.heard_at_s for batch in batches]),
                told={name: np.concatenate([b.told[name] for b in batches]) for name in LOAD_FIELDS},
                whole={node: pulse for batch in batches for node, pulse in batch.whole.items()},
            )
        ]

    def _deliver(self, batch: _Batch, now_s: float) -> None:
        gateway = self._gateways[batch.gateway]
        rows = self._rows[batch.gateway, batch.nodes]
        plain = self._told[batch.gateway, batch.nodes] == batch.versions
        for at in np.flatnonzero(~plain):
            pulse = batch.whole.get(int(batch.nodes[at]))
            if pulse is not None:  # else it is older than a whole one that overtook it
                self._tell(gateway, pulse, int(batch.versions[at]), now_s)
        if plain.all():
            self._fold(gateway, rows, batch, slice(None), now_s)
        elif plain.any():
            self._fold(gateway, rows[plain], batch, plain, now_s)

    def _fold(
        self, gateway: SimGateway, rows: Indices, batch: _Batch, which: Bools | slice, now_s: float
    ) -> None:
        told = {name: column[which] for name, column in batch.told.items()}
        event = LoadsReceived(rows=rows, seq=batch.seq[which], heard_at_s=batch.heard_at_s[which], **told)
        gateway.step(event, now_s)

    def _tell(self, gateway: SimGateway, pulse: Pulse, version: int, now_s: float) -> None:
        """A whole pulse, models and all; with the card for a gateway that does not know the node."""
        index = self._yard.index[pulse.node]
        gateway.step(PulseReceived(pulse), now_s)
        if gateway.fleet.belief(pulse.node) is None:
            gateway.step(CardReceived(self._yard.card(index), "card"), now_s)
        if (row := gateway.fleet.row_of(pulse.node)) is not None:  # else it knows as many nodes as it may
            self._rows[gateway.index, index] = row
            self._told[gateway.index, index] = max(self._told[gateway.index, index], version)


def _load(told: Mapping[str, float]) -> Load:
    return Load(
        slots=int(told["slots"]),
        running=int(told["running"]),
        queued=int(told["queued"]),
        wait_s=told["wait_s"],
        backlog_s=told["backlog_s"],
        inflow=told["inflow"],
        kv_used=told["kv_used"],
        prefill_s=told["prefill_s"],
    )
