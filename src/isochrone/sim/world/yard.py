"""All nodes of a world: what reaches them, what they do by themselves, and what they tell."""

from collections.abc import Callable, Sequence

import numpy as np

from isochrone.fleet.settings import DEFAULT_SETTINGS
from isochrone.model import Floats, Load, ModelCard, NodeCard, Pulse
from isochrone.sim.node import NodeEvent, SimNode
from isochrone.sim.spec import Job, NodeSpec
from isochrone.sim.world.agenda import Agenda

Heard = Callable[[int, NodeEvent, float], None]
"""What a node did: (node, event, now_s)."""

_LIFE = 1_000_000
"""Changes of a node's models in one life, at most, as far as versions tell them apart."""

_LEAST = ("wait_s_least", "backlog_s_least", "prefill_s_least")
LOAD_FIELDS = ("slots", "running", "queued", "wait_s", "backlog_s", "inflow", "kv_used", "prefill_s")


class Yard:
    """Nodes by index.

    Attributes:
        nodes: the nodes.
        alive: whether each has power; shape (nodes,).
        versions: a number for each node that changes with its life and its models; shape (nodes,).
        speed: what a fault makes of each node's speed, 1 for nothing; shape (nodes,).
        sinkhole_ms: how fast a broken node answers with an error; None for one in order.
        changed: called with (node, now_s) after anything happened on a node.
    """

    def __init__(self, specs: Sequence[NodeSpec], agenda: Agenda, heard: Heard) -> None:
        self._agenda, self._heard = agenda, heard
        self.nodes = [SimNode(spec) for spec in specs]
        self.names = [spec.name for spec in specs]
        self.index = {name: index for index, name in enumerate(self.names)}
        self.alive = np.ones(len(specs), np.bool_)
        self.speed: Floats = np.ones(len(specs))
        self.sinkhole_ms: list[float | None] = [None] * len(specs)
        self.epoch = [1] * len(specs)
        self.versions = np.full(len(specs), _LIFE, np.int64)
        self.changed: list[Callable[[int, float], None]] = []
        self._due_s = [float("inf")] * len(specs)
        self._loads = {name: np.zeros(len(specs)) for name in (*LOAD_FIELDS, *_LEAST, "at_s")}
        self._stale = np.ones(len(specs), np.bool_)

    # -- what reaches a node -------------------------------------------------------------------------

    def submit(self, index: int, job: Job, now_s: float) -> bool:
        """A request arrives; False when the node refuses it. The node must be alive."""
        node = self.nodes[index]
        self._advance(index, now_s)
        taken = node.submit(job, now_s)
        self._touched(index, now_s)
        return taken

    def cancel(self, index: int, job_id: int, now_s: float) -> None:
        """Nobody waits for a request any more."""
        if self.alive[index]:
            self._advance(index, now_s)
            self.nodes[index].cancel(job_id, now_s)
            self._touched(index, now_s)

    def fail(self, index: int, now_s: float) -> None:
        """Power off. What it did is lost; nobody is told."""
        if self.alive[index]:
            self._advance(index, now_s)
            self.alive[index] = False
            self.nodes[index].fail(now_s)
            self._due_s[index] = float("inf")
            self._changed(index, now_s)

    def revive(self, index: int, now_s: float) -> None:
        """Power on: a new life, as at the start."""
        if not self.alive[index]:
            self.alive[index] = True
            self.epoch[index] += 1
            self.nodes[index].revive(now_s)
            self._touched(index, now_s)

    def set_speed(self, index: int, factor: float, now_s: float) -> None:
        """From now on the node runs at `factor` times its speed."""
        self._advance(index, now_s)
        self.nodes[index].set_speed(factor, now_s)
        self.speed[index] = factor
        self._touched(index, now_s)

    def unload_model(self, index: int, model: str, now_s: float) -> None:
        """The model leaves the node's memory, if no job needs it."""
        self._advance(index, now_s)
        self.nodes[index].unload_model(model, now_s)
        self._touched(index, now_s)

    # -- what it does by itself ----------------------------------------------------------------------

    def _wake(self, now_s: float, index: int) -> None:
        if now_s >= self._due_s[index]:
            self._advance(index, now_s)
            self._touched(index, now_s)

    def _advance(self, index: int, now_s: float) -> None:
        for event in self.nodes[index].advance(now_s):
            self._heard(index, event, now_s)

    def _touched(self, index: int, now_s: float) -> None:
        due_s = self.nodes[index].next_event_s
        if due_s != self._due_s[index]:
            self._due_s[index] = due_s
            if due_s < float("inf"):
                self._agenda.note(due_s, self._wake, index)
        self._changed(index, now_s)

    def _changed(self, index: int, now_s: float) -> None:
        self._stale[index] = True
        self.versions[index] = self.epoch[index] * _LIFE + self.nodes[index].models_version
        for tell in self.changed:
            tell(index, now_s)

    # -- what it tells -------------------------------------------------------------------------------

    def load(self, index: int, now_s: float) -> Load:
        """The node's load, as it tells it in a response."""
        return self.nodes[index].load(now_s)

    def begins_in_s(self, index: int, model: str, now_s: float) -> float | None:
        """Seconds until the prompt of a request that comes now would begin, as the node expects.

        None where it is full, and refuses.
        """
        node = self.nodes[index]
        load, hardware = node.load(now_s), node.spec.hardware
        if load.running + load.queued >= hardware.slots + hardware.queue_max:
            return None
        claims = (claim for claim in node.model_pulses(now_s) if claim.name == model)
        ready_in_s = next((claim.ready_in_s for claim in claims), 0.0)
        return load.begins_in_s + ready_in_s

    def is_idle(self, index: int) -> bool:
        """Whether a new prompt would begin there at once."""
        return self.nodes[index].idle

    def loads(self, indices: "np.ndarray[tuple[int], np.dtype[np.intp]]", now_s: float) -> dict[str, Floats]:
        """What these nodes tell now, as columns.

        Worked out anew where anything happened; else drained on, down to where all answers are overdue. For
        a node of one slot that is what it would tell; with several, the slots drain at once, not in turn.
        """
        for index in indices[self._stale[indices]]:
            self._look(int(index), now_s)
        told = {name: self._loads[name][indices] for name in LOAD_FIELDS}
        age_s = now_s - self._loads["at_s"][indices]
        for name in ("wait_s", "prefill_s"):
            told[name] = np.maximum(self._loads[f"{name}_least"][indices], told[name] - age_s)
        backlog_s = told["backlog_s"] - age_s * told["running"]
        told["backlog_s"] = np.maximum(self._loads["backlog_s_least"][indices], backlog_s)
        told["inflow"] *= np.exp(-age_s / DEFAULT_SETTINGS.flow_memory_s)
        return told

    def _look(self, index: int, now_s: float) -> None:
        """Note what the node tells now, and to what it will come down while nothing happens."""
        node, loads = self.nodes[index], self._loads
        load = node.load(now_s)
        for name in LOAD_FIELDS:
            loads[name][index] = getattr(load, name)
        loads["at_s"][index] = now_s
        least = node.overdue_load() if load.running else load
        loads["wait_s_least"][index] = min(load.wait_s, least.wait_s)
        loads["prefill_s_least"][index] = min(load.prefill_s, least.prefill_s)
        loads["backlog_s_least"][index] = min(load.backlog_s, least.backlog_s)
        self._stale[index] = False

    def pulse(self, index: int, seq: int, load: Load, now_s: float) -> Pulse:
        """A whole pulse, models and all."""
        node = self.nodes[index]
        return Pulse(
            node=self.names[index],
            epoch=self.epoch[index],
            seq=seq,
            card_digest="card",
            load=load,
            models=node.model_pulses(now_s),
            memory_free_bytes=node.memory_free_bytes,
        )

    def card(self, index: int) -> NodeCard:
        """The node's card."""
        spec = self.nodes[index].spec
        bounded = spec.hardware.memory_bytes < float("inf")
        return NodeCard(
            node=spec.name,
            url=f"http://{spec.name}",
            operator=spec.operator,
            region=spec.region,
            engine="simulated",
            slots=spec.hardware.slots,
            queue_max=spec.hardware.queue_max,
            memory_bytes=int(spec.hardware.memory_bytes) if bounded else 0,
            models=tuple(ModelCard(m.name, int(m.weights_bytes)) for m in spec.models.values()),
            failure_domains=spec.failure_domains,
            hardware=spec.hardware.name,
        )
