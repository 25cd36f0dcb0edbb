"""A simulated inference node: fluid continuous batching behind the live node's own desk.

What is modelled. Jobs are taken in first come, first served, up to slots plus queue. One gets its slot when
its model is ready and memory holds its whole context, prompt and answer; a job whose model is not ready is
passed by, one that lacks memory is not. Prompts of one model are computed one at a time. All sequences that
decode advance at one rate, one token a step, and a step grows with their number. Beside the decodes a prompt
is computed in chunks, as Sarathi-Serve does (Agrawal et al., OSDI 2024) and vLLM after it: each step then
takes `chunk_tokens` prompt tokens and one token of each decoding sequence, and lasts as long as both
together. With `chunk_tokens` 0 the decodes stand still while a prompt is computed. Models that have work at
the same time share the node's compute evenly. Prefix caches hold whole blocks, in memory that nothing else
needs (a block's tokens are the job's to say), or what slots held (`slots.py`). A prompt to be computed in
chunks is looked up when its turn comes, as in vLLM; one to be computed in one piece when it gets its slot.

What is simpler than in vLLM. Rates are those of a fluid: no step is ever begun or ended, and a prompt shorter
than a chunk takes its share of a step. The constant part of a prompt's time delays the prompts behind it too;
in chunks, decodes go on meanwhile. A prompt whose tokens cost nothing takes no steps. A context's memory is
taken at once and whole, so nothing is ever preempted or swapped; vLLM knows no length beforehand and takes
memory as tokens come. Prompt blocks that running sequences share count for each of them, and once more in the
cache. Attention over long contexts does not slow a step. Priorities of jobs are ignored, as live nodes do. A
load waits for busy models as long as it takes, where a live node gives up after a minute; while it lacks
nothing but memory that contexts hold, no new context begins.

With no cost of prompts and none of further sequences the node is the queue M/G/k, first come, first served,
with k its slots; with slots without end and steps that grow in proportion to their sequences it is processor
sharing. The tests hold it to the formulas of both.

What it tells the network comes from the live node's desk and learners, so from expected lengths and speeds;
`true_wait_s` and `true_backlog_s` are for references that are allowed to know better.
"""

from dataclasses import replace
from math import ceil, inf

from isochrone.fleet.learn import Flow
from isochrone.fleet.settings import DEFAULT_SETTINGS
from isochrone.model import Load, ModelPulse, ModelState
from isochrone.nodes.inference.desk import Desk
from isochrone.sim.node.batch import Work, over
from isochrone.sim.node.events import Done, FirstToken, ModelReady, NodeEvent
from isochrone.sim.node.kv import Memory
from isochrone.sim.node.loads import Engine, Loads, check_models
from isochrone.sim.node.remaining import Remaining
from isochrone.sim.spec import Job, NodeSpec

_LONG_AFTER_S = 1e12
_UNBOUNDED_BYTES = 2**53
"""What is told to be free of memory without a bound."""


class SimNode:
    """One node. Times are seconds of the simulation and never go back from call to call.

    What a call finds due by its `now_s` happens before it; the next `advance` hands out the events of that.
    At one instant what ends comes before what arrives.

    Attributes:
        spec: what it is.
        next_event_s: when `advance` will next have something to do; inf when nothing will happen by itself.
        tokens_prefilled: prompt tokens computed, those of jobs given up included.
        tokens_decoded: tokens of answers, likewise.
        tokens_cached: prompt tokens found in a prefix cache, of prompts that were completed.
        jobs_done: answers completed.

    Raises SettingError when the spec's ready or on-disk models can't be there.
    """

    __slots__ = (
        *("spec", "next_event_s", "tokens_prefilled", "tokens_decoded", "tokens_cached", "jobs_done"),
        *("_busy", "_busy_s", "_busy_since_s", "_desk", "_due_s", "_engines", "_events", "_factor", "_loads"),
        *("_memory", "_now_s", "_order", "_pulses", "_pulses_key", "_shared", "_up", "_version", "_works"),
    )

    def __init__(self, spec: NodeSpec) -> None:
        self.spec = spec
        self.tokens_prefilled = self.tokens_decoded = self.tokens_cached = self.jobs_done = 0
        self._factor, self._version, self._order = 1.0, 0, 0
        self._events = list[NodeEvent]()
        self._busy_s = self._busy_since_s = self._now_s = 0.0
        check_models(spec)
        self._reset()

    def _reset(self) -> None:
        """As at the start: empty, with the spec's models ready."""
        spec, hardware = self.spec, self.spec.hardware
        self._up = True
        self._desk = Desk(hardware.slots, hardware.queue_max, Flow(DEFAULT_SETTINGS.flow_memory_s))
        self._memory = Memory(hardware)
        self._engines = {name: Engine.of(spec, name) for name in spec.models if name in hardware.speeds}
        for name in spec.ready:
            self._memory.hold(weights_bytes=self._engines[name].weights_bytes)
        self._shared = len(self._engines) > 1
        self._loads = Loads(self._engines.values(), self._memory)
        self._busy: list[Engine] = []
        self._works: dict[int, Work] = {}
        self._pulses, self._pulses_key = tuple[ModelPulse, ...](), tuple[int, ...]()
        self._due_s = inf
        self.next_event_s = self._events[0].at_s if self._events else inf

    # -- jobs ----------------------------------------------------------------------------------------

    def submit(self, job: Job, now_s: float) -> bool:
        """Take a job in. False when slots and queue are full, or it can never run here, or power is off."""
        self._run(now_s)
        engine, desk, memory = self._engines.get(job.model), self._desk, self._memory
        if engine is None or not self._up or len(self._works) >= desk.slots + desk.queue_max:
            return False
        if job.id in self._works:
            raise ValueError(f"job {job.id} is on {self.spec.name} already")
        context_bytes = ceil((job.prompt_tokens + job.output_tokens) * engine.model.kv_bytes_per_token)
        if engine.weights_bytes + context_bytes > memory.bytes_max:
            return False
        uncached = job.prompt_tokens - memory.hit_tokens(job)
        claim = engine.claims.expect(job, uncached, desk.concurrency_next)
        if not desk.admit(claim, now_s):
            return False
        self._order += 1
        work = Work(job, claim, self._order, context_bytes, uncached)
        self._works[job.id] = engine.waiting[job.id] = work
        engine.used_at_s = now_s
        if engine.state is not ModelState.READY:
            self._loads.want(engine)
        self._turn(now_s)
        return True

    def cancel(self, job_id: int, now_s: float) -> None:
        """Give a job up wherever it is; no error when it is not here."""
        self._run(now_s)
        work = self._works.get(job_id)
        if work is None:
            return
        engine = self._engines[work.job.model]
        if work.claim.started_at_s is None:
            del engine.waiting[job_id]
            self._loads.give_up(engine)
        else:
            self._abandon(work, engine, now_s)
            self._memory.release(context_bytes=work.context_bytes)
        self._leave(work, engine, now_s)
        self._turn(now_s)

    def advance(self, now_s: float) -> list[NodeEvent]:
        """Let everything happen that is due by `now_s`; returns it in order."""
        self._run(now_s)
        events = self._events
        if events:
            self._events = []
        self.next_event_s = self._due_s
        return events

    # -- models and faults ---------------------------------------------------------------------------

    def load_model(self, name: str, now_s: float) -> None:
        """Load a model though no job asks for it; idle ones give way. A name unknown here does nothing."""
        self._run(now_s)
        engine = self._engines.get(name)
        if engine is not None and self._up:
            engine.placed = engine.state is not ModelState.READY and engine is not self._loads.loading
            self._loads.want(engine)
            self._turn(now_s)

    def unload_model(self, name: str, now_s: float) -> None:
        """Take a model out of memory, or out of the queue to it, if no job needs it; else nothing happens."""
        self._run(now_s)
        engine = self._engines.get(name)
        if engine is None or not self._up:
            return
        engine.placed = False
        self._loads.give_up(engine)
        if engine.idle:
            self._loads.unload(engine)
        self._turn(now_s)

    def set_speed(self, factor: float, now_s: float) -> None:
        """From now on computing, not loading, takes `1 / factor` of its time, restarts or not; 0 stops it."""
        if not factor >= 0.0:
            raise ValueError(f"the speed factor {factor} of {self.spec.name} is negative")
        self._run(now_s)
        self._factor = factor
        self._share(now_s)
        self._look_ahead()

    def fail(self, now_s: float) -> list[int]:
        """Power off: all is lost. Returns the ids of the jobs that were here, in order of their coming."""
        self._run(now_s)
        lost = list(self._works)
        for work in self._works.values():
            if work.claim.started_at_s is not None:
                self._abandon(work, self._engines[work.job.model], now_s)
        if self._busy:
            self._busy_s += now_s - self._busy_since_s
        self._version += self._loads.version + 1
        self._reset()
        self._up = False
        return lost

    def revive(self, now_s: float) -> None:
        """Power on: the node is as it was at the start. Nothing happens when it is on."""
        self._run(now_s)
        if not self._up:
            self._version += self._loads.version + 1
            self._reset()

    # -- what it tells -------------------------------------------------------------------------------

    def load(self, now_s: float) -> Load:
        """The load as a live node would tell it: from expected lengths and learned speeds."""
        self._run(now_s)
        for engine in self._busy:
            for work in engine.batch.running:
                if work.claim.first_token_at_s is not None:
                    work.claim.tokens_out = engine.batch.tokens_out(work, now_s)
        load, kv_used = self._desk.load(now_s), self._memory.kv_used
        return replace(load, kv_used=kv_used) if kv_used else load

    def overdue_load(self) -> Load:
        """The load it would come to tell if nothing happened for ever: every answer long overdue."""
        return self._desk.load(_LONG_AFTER_S)

    @property
    def idle(self) -> bool:
        """Whether a new prompt would begin at once, and power is on."""
        prompts, running = any(engine.batch.prompts for engine in self._busy), len(self._desk.running)
        return self._up and not prompts and len(self._works) == running < self._desk.slots

    @property
    def models_version(self) -> int:
        """Changes whenever the state of a model does, or, among several, which of them are at work."""
        return self._version + self._loads.version

    def model_pulses(self, now_s: float) -> tuple[ModelPulse, ...]:
        """Each model as the node claims it; the same object as before when nothing is different."""
        self._run(now_s)
        engines, concurrency = self._engines.values(), max(1, len(self._desk.running))
        waits, shared = self._loads.ready_in_s, self._shared
        key = (self.models_version, concurrency, *(engine.claims.answers for engine in engines))
        if key == self._pulses_key and all(engine.state is ModelState.READY for engine in engines):
            return self._pulses
        pulses = tuple(e.pulse(concurrency, waits(e, now_s), shared=shared) for e in engines)
        self._pulses_key, self._pulses = key, self._pulses if pulses == self._pulses else pulses
        return self._pulses

    @property
    def memory_free_bytes(self) -> int:
        """Memory that weights could take without an eviction."""
        return int(min(max(0.0, self._memory.free_bytes), _UNBOUNDED_BYTES))

    @property
    def busy_s(self) -> float:
        """Seconds in which at least one sequence was on a slot, until the last call."""
        return self._busy_s + (self._now_s - self._busy_since_s if self._busy else 0.0)

    # -- what only the simulation knows --------------------------------------------------------------

    def true_backlog_s(self, now_s: float) -> float:
        """Slot-seconds of work that remain, from true lengths, at present speeds.

        Waiting jobs count as if all slots that they can fill were full, and with the prefixes cached when
        they came; loads and the lack of memory are left out.
        """
        return self._remaining(now_s).backlog_s

    def true_wait_s(self, now_s: float) -> float:
        """Seconds until the prompt of a job that came now would begin, inf while power is off.

        Exact for jobs of ready models with room in memory and no common prefixes, if there is one slot or a
        speed that does not depend on who else runs; else an estimate, as in `true_backlog_s`.
        """
        remaining = self._remaining(now_s)
        return remaining.wait_s(self._desk.slots) if self._up else inf

    def hit_tokens(self, job: Job) -> int:
        """Prompt tokens of a job that are in its model's prefix cache now."""
        return self._memory.hit_tokens(job)

    def _remaining(self, now_s: float) -> Remaining:
        self._run(now_s)
        at_once = min(self._desk.slots, len(self._works))
        waiting = (work for work in self._works.values() if work.claim.started_at_s is None)
        waiting_ms = [self._engines[work.job.model].batch.service_ms(work, at_once) for work in waiting]
        running = [engine.batch.remaining_s(now_s) for engine in self._busy]
        return Remaining.of(running, [over(ms, self._rate) for ms in waiting_ms])

    # -- the course of events ------------------------------------------------------------------------

    def _run(self, now_s: float) -> None:
        """Let everything happen that is due by `now_s`."""
        while self._due_s <= now_s:
            at_s = self._due_s
            if self._loads.ready_at_s <= at_s:
                self._events.append(ModelReady(self._loads.finish().model.name, at_s))
                self._turn(at_s)
                continue
            engine = self._busy[0] if len(self._busy) == 1 else min(self._busy, key=lambda e: e.batch.next_s)
            work = engine.batch.step()
            if work is not None and self._progress(work, engine, at_s):
                self._turn(at_s)
            else:
                self._look_ahead()
        self._now_s = max(self._now_s, now_s)

    def _turn(self, now_s: float) -> None:
        """Something changed: begin the loads and give the slots that can be begun and given now."""
        if self._loads.queue:
            self._loads.begin(now_s)
        running = len(self._desk.running)
        if running < self._desk.slots and running < len(self._works):
            self._give_slots(now_s)
        self._look_ahead()

    def _give_slots(self, now_s: float) -> None:
        while len(self._desk.running) < self._desk.slots and not (self._loads.queue and self._loads.draining):
            engine = self._loads.first_in_line()
            if engine is None:
                break
            work = next(iter(engine.waiting.values()))
            if not self._loads.make_room(work.context_bytes, engine):
                break
            self._start(work, engine, now_s)
        if self._loads.queue:
            self._loads.begin(now_s)  # what was evicted for a context wants to come back

    def _start(self, work: Work, engine: Engine, now_s: float) -> None:
        """A job gets its slot."""
        job, desk = work.job, self._desk
        del engine.waiting[job.id]
        desk.start(work.claim.id, now_s)
        work.busy_slot_s = desk.busy_slot_s(now_s)
        work.loaded_s = max(work.claim.admitted_at_s, engine.ready_since_s)
        work.uncached_tokens = job.prompt_tokens - self._memory.begin(engine.model, job)
        self._memory.hold(context_bytes=work.context_bytes)
        if not len(engine.batch):
            self._busy_since_s = self._busy_since_s if self._busy else now_s
            self._busy.append(engine)
            self._version += self._shared
            self._share(now_s)
        engine.batch.join(work, now_s)

    def _progress(self, work: Work, engine: Engine, at_s: float) -> bool:
        """A prompt or an answer is done; returns whether the job is."""
        if work.claim.first_token_at_s is None:
            job = work.job
            self._desk.first_token(work.claim, at_s)
            self.tokens_prefilled += work.uncached_tokens
            self.tokens_cached += job.prompt_tokens - work.uncached_tokens
            self._memory.keep(engine.model, job.blocks)
            engine.begin_next_prompt(self._memory)
            self._events.append(FirstToken(job.id, at_s))
            if job.output_tokens > 1:
                return False
        self._done(work, engine, at_s)
        return True

    def _done(self, work: Work, engine: Engine, at_s: float) -> None:
        job = work.job
        timings = work.measure(at_s, self._desk.busy_slot_s(at_s))
        engine.claims.learn(job, timings)
        self.jobs_done += 1
        self.tokens_decoded += job.output_tokens
        self._memory.end(job, job.prompt_tokens + job.output_tokens - 1)
        self._memory.release(context_bytes=work.context_bytes)
        self._leave(work, engine, at_s)
        self._events.append(Done(job.id, at_s, timings))

    def _abandon(self, work: Work, engine: Engine, now_s: float) -> None:
        """A job on a slot leaves its batch unfinished; what was computed of it counts."""
        prefilled, decoded = engine.leave(work, self._memory, now_s)
        self.tokens_prefilled += prefilled
        self.tokens_decoded += decoded

    def _leave(self, work: Work, engine: Engine, now_s: float) -> None:
        """A job is gone from its batch or its line; now from the rest."""
        del self._works[work.job.id]
        self._desk.leave(work.claim.id, now_s)
        engine.used_at_s = now_s
        if engine in self._busy and not len(engine.batch):
            self._busy.remove(engine)
            self._version += self._shared
            if self._busy:
                self._share(now_s)
            else:
                self._busy_s += now_s - self._busy_since_s

    def _share(self, now_s: float) -> None:
        """Each engine with work gets the same share of the node."""
        rate = self._rate
        for engine in self._busy:
            if engine.batch.rate != rate:
                engine.batch.set_rate(rate, now_s)

    @property
    def _rate(self) -> float:
        """Nominal milliseconds that one engine with work computes in a second."""
        return 1e3 * self.spec.speed * self._factor / (len(self._busy) or 1)

    def _look_ahead(self) -> None:
        due_s = self._loads.ready_at_s
        for engine in self._busy:
            due_s = min(due_s, engine.batch.next_s)
        self._due_s = due_s
        self.next_event_s = min(due_s, self._events[0].at_s) if self._events else due_s
