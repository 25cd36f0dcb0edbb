"""A node's memory: weights, the contexts of running sequences, and prefix caches in what these leave.

Weights and contexts are held; cached blocks give way to both, the least recently used first, whichever model
they belong to. Of blocks used at the same time the end of the chain goes first: a chain is of use only from
its beginning.

An engine that keeps prefixes by slots instead (`slots.py`) has the memory for that beside this budget.
"""

from collections import OrderedDict
from math import inf

from isochrone.model import PromptBlocks
from isochrone.sim.node.slots import SlotCache
from isochrone.sim.spec import BYTES_PER_TOKEN, HardwareSpec, Job, ModelSpec

_BLOCKS_MAX = 65_536
"""Cached blocks on a node, for memory without a bound or contexts that take none."""

_Cache = OrderedDict[int, tuple[int, float]]


class Memory:
    """The budget and who has what of it.

    Attributes:
        bytes_max: all there is, inf for no bound.
        weights_bytes: of models loaded or being loaded.
        contexts_bytes: of sequences on a slot.
        cached_bytes: of prefix caches.
        by_blocks: whether the engines keep prefixes as blocks; else by slots, or not at all.
    """

    __slots__ = ("_blocks", "_by_slots", "_caches", "_hardware", "_slots", "_stamp", "by_blocks", "bytes_max",
                 "cached_bytes", "contexts_bytes", "weights_bytes")  # fmt: skip

    def __init__(self, hardware: HardwareSpec) -> None:
        self._hardware, self.bytes_max = hardware, hardware.memory_bytes
        caching = hardware.prefix_block_tokens > 0
        self.by_blocks = caching and hardware.prefix_cache == "blocks"
        self._by_slots = caching and not self.by_blocks
        self.weights_bytes = self.contexts_bytes = self.cached_bytes = 0.0
        self._caches: dict[str, _Cache] = {}
        self._slots: dict[str, SlotCache] = {}
        self._stamp = self._blocks = 0

    @property
    def free_bytes(self) -> float:
        """What can be held beside what is held now."""
        return self.bytes_max - self.weights_bytes - self.contexts_bytes

    @property
    def kv_used(self) -> float:
        """Share of what the weights leave that contexts hold; 0 without a bound."""
        if self.bytes_max == inf or not self.contexts_bytes:
            return 0.0
        return min(1.0, self.contexts_bytes / (self.bytes_max - self.weights_bytes))

    def hold(self, *, weights_bytes: float = 0.0, context_bytes: float = 0.0) -> None:
        """Take what the caller has found to be free; caches give way."""
        self.weights_bytes += weights_bytes
        self.contexts_bytes += context_bytes
        if self._blocks:
            self._trim()

    def release(self, *, weights_bytes: float = 0.0, context_bytes: float = 0.0) -> None:
        """Give back."""
        self.weights_bytes -= weights_bytes
        self.contexts_bytes -= context_bytes

    # -- prefixes ------------------------------------------------------------------------------------

    def hit_tokens(self, job: Job) -> int:
        """Tokens of the prompt that are cached: its leading blocks, but never all of it."""
        if self._by_slots:
            slots = self._slots.get(job.model)
            return slots.found_tokens(job) if slots else 0
        cache = self._caches.get(job.model)
        if not cache:
            return 0
        tokens = job.blocks.prefix_bytes(cache) // BYTES_PER_TOKEN
        return max(0, min(tokens, job.prompt_tokens - 1))

    def begin(self, model: ModelSpec, job: Job) -> int:
        """A job gets its slot; returns the tokens of its prompt that are cached."""
        if not self._by_slots:
            return self.hit_tokens(job)
        if model.name not in self._slots:
            hardware = self._hardware
            slots = SlotCache(hardware.slots, hardware.prefix_store_bytes, model.kv_bytes_per_token)
            self._slots[model.name] = slots
        return self._slots[model.name].begin(job)

    def end(self, job: Job, computed_tokens: int) -> None:
        """It leaves its slot, with so many tokens of its prompt and its answer there."""
        if self._by_slots:
            self._slots[job.model].end(job, computed_tokens)

    def keep(self, model: ModelSpec, blocks: PromptBlocks) -> None:
        """A prompt was computed: its blocks are now the most recently used."""
        if not self.by_blocks or not blocks.hashes:
            return
        block_bytes = blocks.block_bytes / BYTES_PER_TOKEN * model.kv_bytes_per_token
        cache = self._caches.setdefault(model.name, OrderedDict())
        for block in reversed(blocks.hashes):
            self._stamp += 1
            if block in cache:
                self.cached_bytes -= cache[block][1]
                cache.move_to_end(block)
            else:
                self._blocks += 1
            self.cached_bytes += block_bytes
            cache[block] = self._stamp, block_bytes
        self._trim()

    def forget(self, model: str) -> None:
        """The model left memory and its cache with it."""
        self._slots.pop(model, None)
        for _, block_bytes in self._caches.pop(model, _Cache()).values():
            self._drop(block_bytes)

    def _trim(self) -> None:
        free_bytes = self.free_bytes
        while self._blocks and (self.cached_bytes > free_bytes or self._blocks > _BLOCKS_MAX):
            filled = (cache for cache in self._caches.values() if cache)
            oldest = min(filled, key=lambda cache: next(iter(cache.values()))[0])
            self._drop(oldest.popitem(last=False)[1][1])

    def _drop(self, block_bytes: float) -> None:
        self._blocks -= 1
        self.cached_bytes = self.cached_bytes - block_bytes if self._blocks else 0.0
