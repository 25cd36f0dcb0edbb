"""What of a prompt a node is believed to hold in its prefix cache, and how many tokens that saves.

Nobody tells us how much a node's cache holds, nor how well its engine finds what it holds: both are learned
from the cached tokens that answers report. A miss where a hit was believed means that we remember more than
the node does, and shrinks the memory; a hit lets it grow again.
"""

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from isochrone.fleet.learn import Line
from isochrone.fleet.owners import Owners
from isochrone.model import PromptBlocks, fleeting

_CAPACITY_MIN = 64.0
_SHRINK = 0.8
_GROW = 1.02
_MISS_SHARE = 0.5
_PRIOR_TOKENS_PER_BYTE = 0.25
_PRIOR_PREFIX_BYTES = (0.0, 1024.0)
_LINE_MEMORY = 40.0


class PrefixMemory(OrderedDict[int, None]):
    """The last distinct blocks that were sent to one node for one model, least recent first.

    Attributes:
        blocks_max: the most that is ever remembered.
        capacity: what is remembered now, learned from hits and misses.
        owners: who holds what, kept in step; None to keep no such index.
        node: under which number.
    """

    def __init__(self, blocks_max: int, owners: Owners | None = None, node: int = 0) -> None:
        super().__init__()
        self.blocks_max = blocks_max
        self.capacity = float(blocks_max)
        self.owners, self.node = owners, node
        self._whole = True  # of each chain in it the beginning is here, for its end is forgotten first

    def held_bytes(self, blocks: PromptBlocks) -> int:
        """How many leading bytes of the prompt it holds: `blocks.prefix_bytes(self)`, without the walk."""
        return blocks.bytes_of(self.held(blocks))

    def held(self, blocks: PromptBlocks) -> int:
        """How many leading blocks of the prompt it holds."""
        hashes = blocks.hashes
        if not hashes or hashes[0] not in self:
            return 0
        if not self._whole:
            return len(list(takewhile(self.__contains__, hashes)))
        if hashes[-1] in self:
            return len(hashes)
        return bisect_left(hashes, 1, key=lambda block: block not in self)

    def remember(self, blocks: Sequence[int]) -> None:
        """Note that the node has computed this chain of blocks just now; its end is forgotten first."""
        for block in reversed(blocks):
            if block in self:
                self.move_to_end(block)
            else:
                self[block] = None
                if self.owners is not None:
                    self.owners.add(block, self.node)
        if len(self) > self.capacity:
            self._trim()

    def missed(self) -> None:
        """The node did not hold what we remember."""
        self.capacity = max(_CAPACITY_MIN, _SHRINK * min(self.capacity, len(self)))
        self._trim()

    def hit(self) -> None:
        """The node held what we remember."""
        self.capacity = min(float(self.blocks_max), _GROW * self.capacity + 1)

    def forget(self) -> None:
        """Nothing is held any more."""
        if self.owners is not None:
            for block in self:
                self.owners.discard(block, self.node)
        self.clear()
        self._whole = True

    def drop(self, blocks: Iterable[int]) -> None:
        """These blocks are not held after all; no error when they were not believed to be."""
        for block in blocks:
            if block in self:
                del self[block]
                self._whole = not self  # another prompt that went on from here may be believed held
                if self.owners is not None:
                    self.owners.discard(block, self.node)

    def _trim(self) -> None:
        while len(self) > self.capacity:
            block, _ = self.popitem(last=False)
            if self.owners is not None:
                self.owners.discard(block, self.node)


def _new_line() -> Line:
    line = Line(_LINE_MEMORY)
    line.expect(0.0, _PRIOR_TOKENS_PER_BYTE, _PRIOR_PREFIX_BYTES, 1.0)
    return line


@fleeting(frozen=True, slots=True)
class Sent:
    """What was believed of the cache as a prompt was sent.

    Attributes:
        held_bytes: leading bytes of the prompt that it held.
        warm: whether it held anything at all.
        proven: whether an answer had shown that; else a prompt that is still under way may have left it.
        life: how often the cache had been cleared.
    """

    held_bytes: int
    warm: bool
    proven: bool
    life: int = 0


@dataclass(slots=True)
class PrefixCache:
    """The prefix cache of one model on one node, as believed.

    Attributes:
        memory: the blocks it is believed to hold.
        tokens: cached tokens over leading bytes held. The base is what every prompt shares (the chat
            template); both are near 0 for an engine without a prefix cache.
    """

    memory: PrefixMemory
    tokens: Line = field(default_factory=_new_line)
    _unproven: set[int] = field(default_factory=set)
    _life: int = 0

    def expect(self, blocks: PromptBlocks) -> float:
        """Tokens of this prompt that will be found in the cache."""
        return self.tokens.at(self.memory.held_bytes(blocks)) if self.memory else 0.0

    def sent(self, blocks: PromptBlocks) -> Sent:
        """A prompt is on its way: from now on the node is believed to hold it."""
        hashes, held, warm = blocks.hashes, self.memory.held(blocks), bool(self.memory)
        proven = not held or hashes[held - 1] not in self._unproven  # an answer proves all before it too
        self._unproven.update(block for block in hashes[held:] if block not in self.memory)
        self.memory.remember(hashes or (0,))
        return Sent(blocks.bytes_of(held), warm=warm, proven=proven, life=self._life)

    def learn(self, blocks: PromptBlocks, cached_tokens: int, sent: Sent | None = None) -> None:
        """Fold in one answer: the prompt, how many of its tokens were found, and what was believed of it."""
        sent = sent or self.sent(blocks)
        self._unproven.difference_update(blocks.hashes)
        held_bytes = sent.held_bytes
        missed = held_bytes and cached_tokens < _MISS_SHARE * self.tokens.at(held_bytes)
        if missed and (not sent.proven or sent.life != self._life):
            pass  # the prompt that it would have shared was still being computed, or all was cleared since
        elif missed and self.memory.capacity > _CAPACITY_MIN:
            self.memory.missed()
        elif sent.warm or cached_tokens:
            if held_bytes and not missed:
                self.memory.hit()
            self.tokens.add(held_bytes, cached_tokens)
        if not blocks.hashes or self.memory.held(blocks) < len(blocks.hashes):
            self.memory.remember(blocks.hashes or (0,))

    def failed(self, blocks: PromptBlocks) -> None:
        """No answer came: what only that prompt would have left there is not believed any more."""
        unproven = [block for block in blocks.hashes if block in self._unproven]
        self._unproven.difference_update(unproven)
        self.memory.drop(unproven)

    def clear(self) -> None:
        """The model left memory, and its cache with it. What was learned of the engine stays."""
        self.memory.forget()
        self._unproven.clear()
        self._life += 1
