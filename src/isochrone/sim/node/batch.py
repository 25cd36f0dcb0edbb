"""One model's running sequences as a fluid: what is computed of them by when.

Between two changes all rates are constant, so progress is never stepped: it is a straight line from the
last change, and the next event is found by division. The tokens that decoding sequences gain are counted for
all of them together (attained tokens); one that joins notes at which count it will be done, and a heap of
those counts tells which is next. An event costs O(log b) for b sequences, however many tokens lie between.
"""

from collections import deque
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from math import inf

from isochrone.model import Timings
from isochrone.nodes.inference.desk import Job as DeskJob
from isochrone.sim.spec import Job, SpeedSpec


@dataclass(slots=True, eq=False)
class Work:
    """One job that a node has taken in.

    Attributes:
        job: what is asked, with its true lengths.
        claim: the same as the node's desk expects it.
        order: counts up with each job taken in.
        context_bytes: memory for prompt and answer, held from the slot to the end.
        uncached_tokens: of the prompt, those to be computed; as of coming, again as of the slot, and where
            prompts are computed in chunks again as of its turn.
        loaded_s: when its model was ready for it.
        busy_slot_s: reading of the desk's meter at the slot.
        prompt_ms: nominal time that its prompt's tokens take.
        left_ms: nominal time that is left of its prompt, what all prompts cost included; exact as of the
            batch's last change.
        ends_at: the batch's attained tokens at which it will be done.
    """

    job: Job
    claim: DeskJob
    order: int
    context_bytes: float
    uncached_tokens: int
    loaded_s: float = 0.0
    busy_slot_s: float = 0.0
    prompt_ms: float = 0.0
    left_ms: float = 0.0
    ends_at: float = 0.0

    def measure(self, ended_s: float, busy_slot_s: float) -> Timings:
        """What the answer took, now that it is complete; the desk's meter reads `busy_slot_s`."""
        job, claim = self.job, self.claim
        started_s, first_s = claim.started_at_s or 0.0, claim.first_token_at_s or 0.0
        prompt_from_s = first_s if claim.prompt_from_s is None else claim.prompt_from_s
        return Timings(
            queue_ms=(prompt_from_s - self.loaded_s) * 1e3,
            load_ms=(self.loaded_s - claim.admitted_at_s) * 1e3,
            prefill_ms=(first_s - prompt_from_s) * 1e3,
            decode_ms=(ended_s - first_s) * 1e3,
            prompt_tokens=job.prompt_tokens,
            cached_tokens=job.prompt_tokens - self.uncached_tokens,
            output_tokens=job.output_tokens,
            concurrency=max(1.0, (busy_slot_s - self.busy_slot_s) / max(ended_s - started_s, 1e-9)),
        )


@dataclass(slots=True)
class Batch:
    """The sequences that run in one engine. Every call's `now_s` is at most `next_s`.

    Attributes:
        speed: nominal speeds.
        chunk_tokens: prompt tokens in a step beside the decodes; 0: decodes wait for the prompt.
        rate: nominal milliseconds computed in a second: 1000 for a node of nominal speed, alone.
        next_s: when the next event is due, inf for never.
        prompts: whose prompt is computed, and those behind it.
    """

    speed: SpeedSpec
    chunk_tokens: int
    rate: float = 1e3
    next_s: float = inf
    prompts: deque[Work] = field(default_factory=deque)
    _decoding: list[tuple[float, int, Work]] = field(default_factory=list)
    _tokens: float = 0.0
    _at_s: float = 0.0
    _token_rate: float = 0.0
    _prompt_rate: float = 0.0
    _prompt_due_s: float = inf
    _base_is_due: bool = False

    def __len__(self) -> int:
        return len(self.prompts) + len(self._decoding)

    @property
    def running(self) -> list[Work]:
        """All sequences: those with a prompt to compute, then those that decode, the next to end first."""
        return [*self.prompts, *(work for _, _, work in sorted(self._decoding))]

    def step_ms(self, sequences: int) -> float:
        """Nominal time of one decode step with so many sequences in it; 0 without any."""
        if sequences <= 0:
            return 0.0
        return self.speed.tpot_ms + self.speed.tpot_ms_per_sequence * (sequences - 1)

    def join(self, work: Work, now_s: float) -> None:
        """A sequence gets its slot: its prompt is computed after those before it."""
        self._count_prompt(work)
        self._settle(now_s)
        self.prompts.append(work)
        self._schedule()

    def begin_prompt(self, uncached_tokens: int) -> None:
        """The turn of the first of `prompts` comes just now: so many of its tokens are to be computed."""
        work = self.prompts[0]
        work.uncached_tokens = uncached_tokens
        self._count_prompt(work)
        self._schedule()

    def leave(self, work: Work, now_s: float) -> tuple[int, int]:
        """A sequence is given up; returns the tokens computed of an unfinished prompt, and of its answer."""
        self._settle(now_s)
        if work in self.prompts:
            done_tokens = self._prompt_tokens(work), 0
            self.prompts.remove(work)
        else:
            done_tokens = 0, self.tokens_out(work, now_s)
            self._decoding = [entry for entry in self._decoding if entry[2] is not work]
            heapify(self._decoding)
        self._schedule()
        return done_tokens

    def set_rate(self, rate: float, now_s: float) -> None:
        """The engine computes faster or slower from now on; what is done stays done."""
        if rate != self.rate:
            self._settle(now_s)
            self.rate = rate
            self._schedule()

    def step(self) -> Work | None:
        """Let the event at `next_s` happen. Returns whose prompt or, if that was done, answer is done.

        None for an event inside: the constant part of a prompt's time is over.
        """
        self._settle(self.next_s)
        if self._prompt_due_s <= self.next_s:
            work = self._step_prompt()
        else:
            self._tokens, _, work = heappop(self._decoding)
        self._schedule()
        return work

    def tokens_out(self, work: Work, now_s: float) -> int:
        """Whole tokens of the answer of a sequence that decodes."""
        left = work.ends_at - self._tokens_at(now_s)
        return min(work.job.output_tokens, max(1, int(work.job.output_tokens - left + 1e-6)))

    def remaining_s(self, now_s: float) -> tuple[list[float], float]:
        """(seconds that each of `running` needs yet at present rates, seconds to the end of all prompts)."""
        decoding = len(self._decoding)
        chunk_ms = self.chunk_tokens * self.speed.prefill_ms_per_token
        stretch = 1.0 + self.step_ms(decoding) / chunk_ms if chunk_ms else 1.0
        drain_ms, prompts_ms, left_ms = 0.0, 0.0, []
        for work in self.prompts:
            todo_ms = self._left_ms(work, now_s)
            prompt_ms = min(todo_ms, work.prompt_ms)
            prompts_ms += prompt_ms
            drain_ms += todo_ms - prompt_ms + prompt_ms * stretch
            left_ms.append(drain_ms + (work.job.output_tokens - 1) * self.step_ms(decoding + 1))
        tokens = self._tokens_at(now_s)
        for ends_at, _, _ in sorted(self._decoding):
            todo = max(0.0, ends_at - tokens)
            held_up_ms = min(todo * chunk_ms, prompts_ms) if self.chunk_tokens else drain_ms
            left_ms.append(todo * self.step_ms(decoding) + held_up_ms)
        return [over(ms, self.rate) for ms in left_ms], over(drain_ms, self.rate)

    def service_ms(self, work: Work, sequences: int) -> float:
        """Nominal time on a slot that a job which waits will need, with so many sequences at once."""
        prompt_ms = self.speed.prefill_base_ms + work.uncached_tokens * self.speed.prefill_ms_per_token
        return prompt_ms + (work.job.output_tokens - 1) * self.step_ms(sequences)

    def _count_prompt(self, work: Work) -> None:
        work.prompt_ms = work.uncached_tokens * self.speed.prefill_ms_per_token
        work.left_ms = self.speed.prefill_base_ms + work.prompt_ms

    # -- the fluid -----------------------------------------------------------------------------------

    def _step_prompt(self) -> Work | None:
        work = self.prompts[0]
        if self._base_is_due and work.prompt_ms:
            work.left_ms = work.prompt_ms
            return None
        work.left_ms = 0.0
        self.prompts.popleft()
        if work.job.output_tokens > 1:
            work.ends_at = self._tokens + work.job.output_tokens - 1
            heappush(self._decoding, (work.ends_at, work.order, work))
        return work

    def _settle(self, now_s: float) -> None:
        """Note what was computed since the last change; nothing may be due before `now_s`."""
        since_s = now_s - self._at_s
        if since_s > 0.0:
            if self._decoding:
                self._tokens += since_s * self._token_rate
            if self.prompts:
                work = self.prompts[0]
                work.left_ms = max(0.0, work.left_ms - since_s * self._prompt_rate)
            self._at_s = now_s

    def _schedule(self) -> None:
        """Set the rates for what there is now, and when the next event is due."""
        if not self._decoding:
            self._tokens = self._token_rate = 0.0  # nobody counts on, and small numbers are exact ones
            self._base_is_due, self._prompt_rate = False, self.rate
            due_s = self._at_s + over(self.prompts[0].left_ms, self.rate) if self.prompts else inf
            self.next_s = self._prompt_due_s = due_s
            return
        prompt_due_s = self._schedule_prompt() if self.prompts else inf
        if not self.prompts:
            self._token_rate = over(self.rate, self.step_ms(len(self._decoding)))
        due_s = self._at_s + over(self._decoding[0][0] - self._tokens, self._token_rate)
        self._prompt_due_s, self.next_s = prompt_due_s, min(prompt_due_s, due_s)

    def _schedule_prompt(self) -> float:
        """Set the rates of a prompt beside decodes; returns when its next event is due."""
        work, rate, step_ms = self.prompts[0], self.rate, self.step_ms(len(self._decoding))
        self._prompt_rate, self._token_rate = rate, 0.0
        self._base_is_due = self.chunk_tokens > 0 and work.left_ms > work.prompt_ms
        if self._base_is_due:
            self._token_rate = over(rate, step_ms)
            return self._at_s + over(work.left_ms - work.prompt_ms, rate)
        chunk_ms = self.chunk_tokens * self.speed.prefill_ms_per_token
        if chunk_ms:
            self._token_rate = over(rate, step_ms + chunk_ms)
            self._prompt_rate = rate * chunk_ms / (step_ms + chunk_ms)
        return self._at_s + over(work.left_ms, self._prompt_rate)

    def _tokens_at(self, now_s: float) -> float:
        since_s = now_s - self._at_s
        return self._tokens + since_s * self._token_rate if since_s > 0.0 else self._tokens

    def _left_ms(self, work: Work, now_s: float) -> float:
        since_s = now_s - self._at_s
        if since_s <= 0.0 or work is not self.prompts[0]:
            return work.left_ms
        return max(0.0, work.left_ms - since_s * self._prompt_rate)

    def _prompt_tokens(self, work: Work) -> int:
        if not work.prompt_ms:
            return 0
        done = 1.0 - min(work.left_ms, work.prompt_ms) / work.prompt_ms
        return int(done * work.uncached_tokens)


def over(amount: float, rate: float) -> float:
    """`amount / rate`: nothing takes no time, and anything takes for ever at rate 0."""
    if amount <= 0.0:
        return 0.0
    return amount / rate if rate > 0.0 else inf
