"""Which prompt blocks a node is believed to hold in its prefix cache.

Nobody tells us how much a node's cache holds, so the bound is learned: a miss where a hit was believed means
that we remember more than the node does, and shrinks it; a hit lets it grow again.
"""

from collections import OrderedDict
from collections.abc import Iterable

_CAPACITY_MIN = 16
_SHRINK = 0.8
_GROW = 1.02


class PrefixMemory(OrderedDict[int, None]):
    """The last distinct blocks that were sent to one node for one model, least recent first.

    Attributes:
        blocks_max: the most that is ever remembered.
        capacity: what is remembered now, learned from hits and misses.
    """

    def __init__(self, blocks_max: int) -> None:
        super().__init__()
        self.blocks_max = blocks_max
        self.capacity = float(blocks_max)

    def remember(self, blocks: Iterable[int]) -> None:
        """Note that the node has computed these blocks just now."""
        for block in blocks:
            self[block] = None
            self.move_to_end(block)
        self._trim()

    def judge(self, believed_tokens: int, cached_tokens: int) -> None:
        """Learn from one answer: tokens believed to be cached, and tokens that were."""
        if believed_tokens <= 0:
            return
        if cached_tokens < believed_tokens / 2:
            self.capacity = max(_CAPACITY_MIN, _SHRINK * min(self.capacity, len(self)))
        else:
            self.capacity = min(float(self.blocks_max), _GROW * self.capacity + 1)
        self._trim()

    def _trim(self) -> None:
        while len(self) > self.capacity:
            self.popitem(last=False)
