"""The desk: who is in work, who waits, who is refused, and how much work that is.

A pure ledger of the node's own requests; the agent tells it what happens and when. First come, first served
over a fixed number of slots, with a bounded queue.
"""

from collections import OrderedDict
from collections.abc import Container
from dataclasses import dataclass, field
from heapq import heapify, heapreplace

from isochrone.fleet.learn import Average, Flow
from isochrone.model import Load
from isochrone.wire.nodes import INFLOW_MAX, SECONDS_MAX

_OVERDUE_SHARE = 0.25
"""An answer longer than expected is expected to go on for this share of what was expected."""


@dataclass(slots=True)
class Job:
    """One admitted request.

    Attributes:
        id: the request's id.
        model: the model it asks for.
        prefill_s: expected time to the first token on a slot.
        tpot_s: expected time per output token.
        output_tokens: expected length of the answer.
        output_tokens_max: the client's limit, or None.
        admitted_at_s: when it came.
        started_at_s: when it got a slot, None while it waits.
        streams: its first token will be seen when it comes.
        first_token_at_s: when its first token came.
        prompt_from_s: when the engine turned to its prompt; known with the first token.
        tokens_out: tokens sent so far, as counted in the stream.
    """

    id: str
    model: str
    prefill_s: float
    tpot_s: float
    output_tokens: float
    output_tokens_max: int | None = None
    admitted_at_s: float = 0.0
    started_at_s: float | None = None
    streams: bool = True
    first_token_at_s: float | None = None
    prompt_from_s: float | None = None
    tokens_out: int = 0

    @property
    def service_s(self) -> float:
        """Expected time on a slot."""
        return self.prefill_s + self.output_tokens * self.tpot_s

    def decode_left_s(self, now_s: float) -> float:
        """Expected time from now, or from the first token, to the last."""
        if self.first_token_at_s is None:
            return self.output_tokens * self.tpot_s
        done = max(float(self.tokens_out), (now_s - self.first_token_at_s) / max(self.tpot_s, 1e-6))
        left = max(self.output_tokens - done, _OVERDUE_SHARE * self.output_tokens)
        if self.output_tokens_max is not None:
            left = min(left, max(0.0, self.output_tokens_max - done))
        return left * self.tpot_s


@dataclass(slots=True)
class Desk:
    """All admitted requests of a node.

    Attributes:
        slots: how many are worked on at once.
        queue_max: how many may wait.
        flow: offered work, slot-seconds a second.
        service_s: mean expected time on a slot of those admitted.
        foreign_jobs: requests in the engine that did not come through us, as its metrics tell; each counts as
            one of average length.
        kv_used: share of the engine's KV cache in use, 0 to 1, as its metrics told last; 0 when they do not.
    """

    slots: int
    queue_max: int
    flow: Flow
    service_s: Average = field(default_factory=lambda: Average(40.0, 1.0, 1.0))
    foreign_jobs: int = 0
    kv_used: float = 0.0
    running: dict[str, Job] = field(default_factory=dict)
    waiting: "OrderedDict[str, Job]" = field(default_factory=OrderedDict)
    _prompts_done_at_s: float = 0.0
    _busy_slot_s: float = 0.0
    _busy_at_s: float = 0.0

    def admit(self, job: Job, now_s: float) -> bool:
        """Take a request in as the last to wait; False when all slots and the queue are full."""
        if self.full:
            return False
        job.admitted_at_s = now_s
        self.waiting[job.id] = job
        self.flow.add(job.service_s, now_s)
        self.service_s.add(job.service_s)
        return True

    @property
    def full(self) -> bool:
        """Whether all slots and the queue are taken."""
        return len(self.running) + len(self.waiting) >= self.slots + self.queue_max

    @property
    def concurrency_next(self) -> int:
        """How many slots will be busy when one more request is in work."""
        return min(self.slots, len(self.running) + len(self.waiting) + 1)

    def next_to_start(self, ready_models: Container[str]) -> Job | None:
        """The first waiting job whose model is ready, if a slot is free."""
        if len(self.running) >= self.slots:
            return None
        return next((job for job in self.waiting.values() if job.model in ready_models), None)

    def start(self, job_id: str, now_s: float) -> None:
        """A waiting job gets its slot."""
        self._account(now_s)
        job = self.waiting.pop(job_id)
        job.started_at_s = now_s
        self.running[job_id] = job

    def first_token(self, job: Job, at_s: float) -> None:
        """A job's first token came: its own prompt took the time since the one before it was done."""
        job.first_token_at_s = at_s
        started_at_s = at_s if job.started_at_s is None else job.started_at_s
        job.prompt_from_s = min(at_s, max(started_at_s, self._prompts_done_at_s))
        self._prompts_done_at_s = max(self._prompts_done_at_s, at_s)

    def leave(self, job_id: str, now_s: float) -> None:
        """A job ended or was given up, wherever it stood; no error when it is not here."""
        self._account(now_s)
        self.running.pop(job_id, None)
        self.waiting.pop(job_id, None)

    def busy_slot_s(self, now_s: float) -> float:
        """Slot-seconds in use since the beginning; two readings give the mean concurrency between them."""
        self._account(now_s)
        return self._busy_slot_s

    def load(self, now_s: float) -> Load:
        """The work on the node now, within the bounds of what can be told."""
        running, prompts_s = self._running_s(now_s)
        queued = [job.service_s for job in self.waiting.values()]
        foreign_running = min(self.foreign_jobs, self.slots - len(running))
        running += [self.service_s.value / 2] * foreign_running
        queued += [self.service_s.value] * (self.foreign_jobs - foreign_running)
        return Load(
            slots=self.slots,
            running=len(running),
            queued=len(queued),
            wait_s=min(_wait_s(self.slots, running, queued), SECONDS_MAX),
            backlog_s=min(sum(running) + sum(queued), SECONDS_MAX),
            inflow=min(self.flow.at(now_s), INFLOW_MAX),
            kv_used=self.kv_used,
            prefill_s=min(prompts_s + sum(job.prefill_s for job in self.waiting.values()), SECONDS_MAX),
        )

    def has_room(self, now_s: float) -> bool:
        """Whether the prompt of a request accepted now would begin at once."""
        if self.waiting or len(self.running) + self.foreign_jobs >= self.slots:
            return False
        return self._running_s(now_s)[1] <= 0.0

    def _running_s(self, now_s: float) -> tuple[list[float], float]:
        """(seconds that each running job still needs, seconds until the last of their prompts is done).

        The engine takes prompts in the order of the slots given. One that should have been done, and would
        have been seen, is expected to go on for a share of what was expected.
        """
        left_s, free_at_s = [], self._prompts_done_at_s
        for job in self.running.values():
            prompt_left_s = 0.0
            if job.first_token_at_s is None and job.started_at_s is not None:
                free_at_s = max(free_at_s, job.started_at_s) + job.prefill_s
                if job.streams:
                    free_at_s = max(free_at_s, now_s + _OVERDUE_SHARE * job.prefill_s)
                prompt_left_s = max(0.0, free_at_s - now_s)
            left_s.append(prompt_left_s + job.decode_left_s(now_s))
        return left_s, max(0.0, free_at_s - now_s)

    def _account(self, now_s: float) -> None:
        self._busy_slot_s += len(self.running) * (now_s - self._busy_at_s)
        self._busy_at_s = now_s


def _wait_s(slots: int, running_s: list[float], queued_s: list[float]) -> float:
    """When a slot would be free for one more, served first come, first served."""
    free_at_s = running_s + [0.0] * (slots - len(running_s))
    heapify(free_at_s)
    for service_s in queued_s:
        heapreplace(free_at_s, free_at_s[0] + service_s)
    return free_at_s[0]
