"""What an engine like llama.cpp's server has cached: what slots hold, and a store of what they held before.

A slot keeps the prompt and the answer that it worked on last. A new prompt is compared with what the idle
slots hold, token by token from the beginning. It gets the slot that holds the largest share of it, if that is
more than a tenth, and else the one unused for longest. Where less than half of what that slot holds would be
of use, and always in the second case, its state is first saved into a store in memory, and the store is
looked through for a better one: more of the prompt is in it, and more of the state is of use. A state taken
from the store leaves it. What is in the slot then, as far as it agrees with the prompt, need not be computed.
With each prompt that begins, the other idle slots save their states too, and keep them.

Source: ggml-org/llama.cpp, tools/server/server-context.cpp (`get_available_slot`, and what `cache_idle_slots`
does when a task is launched) and server-task.cpp (`server_prompt_cache`: `alloc`, `load`), as of 2026, with a
KV cache that is not unified, which is how `adapters/engines/llama_worker.py` starts it.

What is simpler here: prompts agree block by block of the job's chain, and an answer agrees with nothing but
itself. A state is as large as the keys and values of its tokens.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from isochrone.model import PromptBlocks
from isochrone.sim.spec import BYTES_PER_TOKEN, Job

_SIMILAR = 0.1
"""Share of a prompt that a slot must hold to be chosen for it: `--slot-prompt-similarity`, its default."""

_KEPT_ENOUGH = 0.5
"""A slot of which this share stays in use is used without a look into the store."""

_KEPT_LEAST = 0.25
"""Of a state in the store, the share that must be of use."""

_NO_BLOCKS = PromptBlocks()


@dataclass(frozen=True, slots=True)
class Held:
    """What is in a slot or in the store: a prompt and the answer to it, or the beginning of both.

    Attributes:
        job: whose; -1 for nobody's.
        blocks: the prompt's hash chain.
        tokens: how many tokens are held, answer included.
    """

    job: int = -1
    blocks: PromptBlocks = _NO_BLOCKS
    tokens: int = 0

    def shared_tokens(self, other: "Held") -> int:
        """With how many tokens both begin."""
        if self.job == other.job:
            return min(self.tokens, other.tokens)
        mine, theirs = self.blocks.hashes, other.blocks.hashes
        low, high = 0, min(len(mine), len(theirs))
        while low < high:  # a block's hash tells all before it: equal here is equal up to here
            middle = (low + high + 1) // 2
            if mine[middle - 1] == theirs[middle - 1]:
                low = middle
            else:
                high = middle - 1
        return min(low * self.blocks.block_bytes // BYTES_PER_TOKEN, self.tokens, other.tokens)


@dataclass(slots=True)
class _Slot:
    held: Held
    used: int = 0
    busy: bool = False


class SlotCache:
    """The slots of one model's engine, and its store."""

    __slots__ = ("_bytes_per_token", "_slots", "_store", "_store_bytes", "_used")

    def __init__(self, slots: int, store_bytes: float, bytes_per_token: float) -> None:
        """`store_bytes`: most memory for the store, 0 for none; `bytes_per_token` of keys and values."""
        self._slots = [_Slot(Held()) for _ in range(slots)]
        self._store: list[Held] = []
        self._store_bytes, self._bytes_per_token = store_bytes, bytes_per_token
        self._used = 0

    @property
    def stored_tokens(self) -> int:
        """Tokens of all states in the store."""
        return sum(state.tokens for state in self._store)

    def found_tokens(self, job: Job) -> int:
        """Tokens of the prompt that need not be computed, were it begun now: never all of them.

        While no slot is idle: as if all were, with what is worked on in them.
        """
        copy = SlotCache(0, self._store_bytes, self._bytes_per_token)
        none_idle = all(slot.busy for slot in self._slots)
        copy._store = list(self._store)
        copy._slots = [_Slot(slot.held, slot.used, busy=slot.busy and not none_idle) for slot in self._slots]
        return copy.begin(job)

    def begin(self, job: Job) -> int:
        """The job gets an idle slot; returns the tokens of its prompt that need not be computed.

        Raises ValueError when no slot is idle.
        """
        prompt = Held(job.id, job.blocks, job.prompt_tokens)
        slot, look = self._choose(prompt)
        if look and self._store_bytes:
            self._save(slot.held)
            self._load(slot, prompt)
        found_tokens = slot.held.shared_tokens(prompt)
        slot.held, slot.busy = prompt, True
        if self._store_bytes:
            for idle in self._idle():
                self._save(idle.held)
        return max(0, min(found_tokens, job.prompt_tokens - 1))

    def end(self, job: Job, computed_tokens: int) -> None:
        """The job leaves its slot; so many tokens of its prompt and answer are there, found ones included."""
        slot = next(slot for slot in self._slots if slot.busy and slot.held.job == job.id)
        self._used += 1
        slot.held = Held(job.id, job.blocks, computed_tokens)
        slot.busy, slot.used = False, self._used

    def _idle(self) -> Iterable[_Slot]:
        return (slot for slot in self._slots if not slot.busy)

    def _choose(self, prompt: Held) -> tuple[_Slot, bool]:
        """(the slot for `prompt`, whether the store is looked through)."""
        best, best_tokens = None, _SIMILAR * prompt.tokens
        for slot in self._idle():
            if slot.held.tokens and (shared := slot.held.shared_tokens(prompt)) > best_tokens:
                best, best_tokens = slot, float(shared)
        if best is not None:
            return best, best_tokens < _KEPT_ENOUGH * best.held.tokens
        idle = list(self._idle())
        if not idle:
            raise ValueError("no slot is idle")
        oldest = min(slot.used for slot in idle)
        return [slot for slot in idle if slot.used == oldest][-1], True

    def _save(self, held: Held) -> None:
        """Into the store, as its newest, unless it holds that already or could never."""
        if not held.tokens or any(state.shared_tokens(held) == held.tokens for state in self._store):
            return
        room_tokens = self._store_bytes / self._bytes_per_token if self._bytes_per_token else float("inf")
        if held.tokens > room_tokens:
            return
        self._store = [state for state in self._store if state.shared_tokens(held) < state.tokens]
        while self._store and self.stored_tokens + held.tokens > room_tokens:
            del self._store[0]
        self._store.append(held)

    def _load(self, slot: _Slot, prompt: Held) -> None:
        """Move a state that is better in both respects than what the slot holds, if any, into the slot.

        The store is gone through once, oldest first, and each state must be better than the best before it.
        """
        shared = slot.held.shared_tokens(prompt)
        kept = shared / slot.held.tokens if slot.held.tokens else -1.0
        best = None
        for at, state in enumerate(self._store):
            state_shared = state.shared_tokens(prompt)
            state_kept = state_shared / state.tokens
            if state_kept >= _KEPT_LEAST and state_kept > kept and state_shared > shared:
                best, kept, shared = at, state_kept, state_shared
        if best is not None:
            slot.held = self._store.pop(best)
