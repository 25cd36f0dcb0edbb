"""A simulated node's models: which are in memory, which is being loaded, which come next.

Loads go one at a time, in the order in which they were asked for. One that finds no room evicts idle models,
the least recently used first, and waits while there are too few of them. Weights take their memory when the
load begins, not when it ends; a load once begun is finished.

No model in use is ever evicted for a load. For the context of a job whose turn it is, a model may be
evicted for which jobs only wait: they came later, and their model is loaded again. Without this two models
that do not fit beside each other's longest contexts could wait for each other for ever.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import ceil, inf

from isochrone.model import ModelPulse, ModelState
from isochrone.nodes.inference.speeds import expected_load_s
from isochrone.ports import SettingError
from isochrone.sim.node.batch import Batch, Work
from isochrone.sim.node.claims import Claims
from isochrone.sim.node.kv import Memory
from isochrone.sim.spec import ModelSpec, NodeSpec, SpeedSpec

_ROOM_S = 60.0
"""What is told of a load that waits for busy models: as live nodes do, who knows, certainly not soon."""

_EVICTION_SHARE = 0.5
"""An eviction counts as this share of loading the victim again, as on live nodes."""


@dataclass(slots=True, eq=False)
class Engine:
    """One model of a node.

    Attributes:
        model: the model.
        speed: the node's class's speeds for it.
        batch: its running sequences.
        claims: what the node believes of it.
        state: how far it is from answering.
        waiting: jobs for it without a slot, by id, first come first.
        placed: somebody wants it loaded, with or without jobs.
        used_at_s: when it was last used.
        ready_since_s: when it became ready last.
        weights_bytes: memory that the weights take, in whole bytes: sums of these are exact.
    """

    model: ModelSpec
    speed: SpeedSpec
    batch: Batch
    claims: Claims
    state: ModelState
    waiting: "OrderedDict[int, Work]" = field(default_factory=OrderedDict)
    placed: bool = False
    used_at_s: float = 0.0
    ready_since_s: float = 0.0
    weights_bytes: float = 0.0

    def __post_init__(self) -> None:
        self.weights_bytes = float(ceil(self.model.weights_bytes))

    @classmethod
    def of(cls, spec: NodeSpec, name: str) -> "Engine":
        """The model called `name` of that node, as at the start."""
        speed, state = spec.hardware.speeds[name], ModelState.ABSENT
        if name in spec.ready:
            state = ModelState.READY
        elif name in spec.on_disk:
            state = ModelState.ON_DISK
        batch, claims = Batch(speed, spec.hardware.chunk_tokens), Claims.of(speed, spec.speed)
        if spec.hardware.loads_known or state is ModelState.READY:
            claims.load.add(speed.load_s)
        return cls(spec.models[name], speed, batch, claims, state)

    def begin_next_prompt(self, memory: Memory) -> None:
        """The turn of the first prompt comes: it finds cached what was computed while it waited.

        Not so where prompts are computed in one piece or kept by slots, as by llama.cpp: it compares a prompt
        with what its slots hold when it is given one, and what another slot is computing is of no use to it.
        """
        if self.batch.prompts and self.batch.chunk_tokens and memory.by_blocks:
            job = self.batch.prompts[0].job
            self.batch.begin_prompt(job.prompt_tokens - memory.hit_tokens(job))

    def leave(self, work: Work, memory: Memory, now_s: float) -> tuple[int, int]:
        """A job is given up; returns the tokens computed of an unfinished prompt, and of its answer."""
        first = bool(self.batch.prompts) and self.batch.prompts[0] is work
        done_tokens = self.batch.leave(work, now_s)
        found_tokens = work.job.prompt_tokens - work.uncached_tokens
        prompt_tokens = done_tokens[0] if work.claim.first_token_at_s is None else work.uncached_tokens
        memory.end(work.job, found_tokens + prompt_tokens + max(0, done_tokens[1] - 1))
        if first:
            self.begin_next_prompt(memory)
        return done_tokens

    def pulse(self, concurrency: int, ready_in_s: float, *, shared: bool) -> ModelPulse:
        """The model as its node claims it."""
        base_ms, ms_per_token = self.claims.prefill.fit()
        return ModelPulse(
            name=self.model.name,
            state=self.state,
            ready_in_s=ready_in_s,
            prefill_base_ms=base_ms,
            prefill_ms_per_token=ms_per_token,
            tpot_ms=self.claims.decode.at(concurrency),
            at_work=shared and bool(len(self.batch)),
        )

    @property
    def idle(self) -> bool:
        """Whether it is ready and no job needs it."""
        return self.state is ModelState.READY and not self.waiting and not len(self.batch)


class Loads:
    """Loads, unloads and evicts.

    Attributes:
        version: counts the changes of any model's state.
        queue: the models that are to be loaded, by name, the next first.
        loading: the model that is being loaded.
        ready_at_s: when it will be ready, inf when there is none.
    """

    __slots__ = ("_engines", "_memory", "loading", "queue", "ready_at_s", "version")

    def __init__(self, engines: Iterable[Engine], memory: Memory) -> None:
        self._engines, self._memory = tuple(engines), memory
        self.queue: OrderedDict[str, Engine] = OrderedDict()
        self.loading: Engine | None = None
        self.ready_at_s, self.version = inf, 0

    def want(self, engine: Engine) -> None:
        """Load `engine` when its turn comes, unless it is loaded or asked for already."""
        if engine.state is not ModelState.READY and engine is not self.loading:
            self.queue.setdefault(engine.model.name, engine)

    def give_up(self, engine: Engine) -> None:
        """Strike a load not yet begun that nobody wants any more."""
        if not engine.waiting and not engine.placed:
            self.queue.pop(engine.model.name, None)

    def first_in_line(self) -> Engine | None:
        """The ready model for which the first of all waiting jobs waits."""
        first, first_order = None, inf
        for engine in self._engines:
            if engine.waiting and engine.state is ModelState.READY:
                order = next(iter(engine.waiting.values())).order
                if order < first_order:
                    first, first_order = engine, order
        return first

    @property
    def draining(self) -> bool:
        """Whether a load waits for running contexts only: no new one may begin, or it could wait for ever."""
        if self.loading is not None or not self.queue:
            return False
        in_memory = (engine for engine in self._engines if engine.state is ModelState.READY)
        in_use_bytes = sum(engine.weights_bytes for engine in in_memory if not engine.idle)
        return self._memory.bytes_max - in_use_bytes >= self._next().weights_bytes

    def begin(self, now_s: float) -> bool:
        """Begin the next load if none is under way and there is room, or can be made."""
        if self.loading is not None or not self.queue:
            return False
        engine = self._next()
        if not self._evict(engine.weights_bytes, lambda victim: victim.idle):
            return False
        del self.queue[engine.model.name]
        self._memory.hold(weights_bytes=engine.weights_bytes)
        self.ready_at_s = now_s + _load_s(engine)
        self.loading, engine.state, engine.placed = engine, ModelState.LOADING, False
        self.version += 1
        return True

    def finish(self) -> Engine:
        """The load under way is done; returns whose it was."""
        engine = self.loading
        assert engine is not None  # noqa: S101 - `ready_at_s` is inf without one
        engine.claims.load.add(engine.speed.load_s)
        engine.state, engine.used_at_s, engine.ready_since_s = (
            ModelState.READY,
            self.ready_at_s,
            self.ready_at_s,
        )
        self.loading, self.ready_at_s = None, inf
        self.version += 1
        return engine

    def make_room(self, context_bytes: float, keep: Engine) -> bool:
        """Find memory for a context, evicting models without a sequence on a slot; False if that can't do."""
        if context_bytes <= self._memory.free_bytes:
            return True
        return self._evict(context_bytes, lambda victim: victim is not keep and not len(victim.batch))

    def unload(self, engine: Engine) -> None:
        """Take a ready model out of memory."""
        engine.state = ModelState.ON_DISK
        self._memory.release(weights_bytes=engine.weights_bytes)
        self._memory.forget(engine.model.name)
        self.version += 1

    def ready_in_s(self, engine: Engine, now_s: float) -> float:
        """Expected seconds until `engine` answers, were it asked for now: as a live node tells it.

        What is loaded or queued before it comes first; evictions cost what loading half the victims would.
        """
        if engine.state is ModelState.READY:
            return 0.0
        before_s = max(0.0, self.ready_at_s - now_s) if self.loading is not None else 0.0
        if engine is self.loading:
            return before_s
        if self.queue and self.loading is None:
            before_s += _ROOM_S
        for queued in self.queue.values():
            if queued is engine:
                break
            before_s += _claimed_s(queued)
        return before_s + _claimed_s(engine) + self._eviction_s(engine)

    def _next(self) -> Engine:
        return next(iter(self.queue.values()))

    def _victims(self, may_go: Callable[[Engine], bool]) -> list[Engine]:
        """Ready models that may go, those that jobs wait for last, then least recently used first."""
        victims = [e for e in self._engines if e.state is ModelState.READY and may_go(e)]
        return sorted(victims, key=lambda victim: (bool(victim.waiting), victim.used_at_s))

    def _evict(self, needs_bytes: float, may_go: Callable[[Engine], bool]) -> bool:
        """Evict until so much is free; nothing happens, and False is returned, when that can't be reached."""
        missing = needs_bytes - self._memory.free_bytes
        if missing <= 0:
            return True
        victims = self._victims(may_go)
        if sum(victim.weights_bytes for victim in victims) < missing:
            return False
        for victim in victims:
            if missing <= 0:
                break
            missing -= victim.weights_bytes
            self.unload(victim)
            if victim.waiting:
                self.want(victim)
        return True

    def _eviction_s(self, engine: Engine) -> float:
        missing, cost_s = engine.weights_bytes - self._memory.free_bytes, 0.0
        for victim in self._victims(lambda victim: victim.idle):
            if missing <= 0:
                break
            missing -= victim.weights_bytes
            cost_s += _EVICTION_SHARE * expected_load_s(victim.claims.load, victim.weights_bytes)
        return cost_s


def _load_s(engine: Engine) -> float:
    return engine.speed.load_s + _fetch_s(engine)


def _claimed_s(engine: Engine) -> float:
    return expected_load_s(engine.claims.load, engine.weights_bytes) + _fetch_s(engine)


def _fetch_s(engine: Engine) -> float:
    return engine.speed.fetch_s if engine.state is ModelState.ABSENT else 0.0


def check_models(spec: NodeSpec) -> None:
    """Raises SettingError for models that are said to be there and can't be."""
    for key, names in (("ready", spec.ready), ("on_disk", spec.on_disk)):
        for name in names:
            if name not in spec.models or name not in spec.hardware.speeds:
                raise SettingError(
                    f"node {spec.name}: {key} names {name!r}, which the node does not list "
                    f"or {spec.hardware.name} has no speeds for"
                )
    weights_bytes = sum(ceil(spec.models[name].weights_bytes) for name in spec.ready)
    if weights_bytes > spec.hardware.memory_bytes:
        raise SettingError(
            f"node {spec.name}: ready names models of {weights_bytes / 1e9:.1f} GB together, and "
            f"{spec.hardware.name} has {spec.hardware.memory_bytes / 1e9:.1f} GB"
        )
