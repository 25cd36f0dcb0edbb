"""Who is believed to hold which block of prompt text: the way back from a prompt to the nodes."""

from collections.abc import Mapping

from isochrone.model import PromptBlocks

OWNERS_MAX = 64
"""Nodes told for one prompt: those that hold most of it, and of equals those that held it first."""


class Owners:
    """For each block, the nodes that hold it. Most blocks have one owner, so one is kept without a dict."""

    def __init__(self) -> None:
        self._of: dict[int, int | dict[int, None]] = {}

    def __len__(self) -> int:
        return len(self._of)

    def add(self, block: int, node: int) -> None:
        """`node` holds `block` now."""
        held_by = self._of.setdefault(block, node)
        if isinstance(held_by, dict):
            held_by[node] = None
        elif held_by != node:
            self._of[block] = {held_by: None, node: None}

    def discard(self, block: int, node: int) -> None:
        """`node` holds `block` no more."""
        held_by = self._of.get(block)
        if isinstance(held_by, dict):
            held_by.pop(node, None)
            if not held_by:
                del self._of[block]
        elif held_by == node:
            del self._of[block]

    def find(self, blocks: PromptBlocks) -> Mapping[int, int]:
        """Leading bytes of the prompt by node: for those that hold most of it, at most `OWNERS_MAX`.

        Goes from the prompt's end to its beginning, so that the longest prefixes are found first. A node
        counts as holding all blocks before one that it holds: an end is always forgotten first.
        """
        found: dict[int, int] = {}
        last, numbers = None, range(len(blocks.hashes), 0, -1)
        for number, held_by in zip(numbers, map(self._of.get, reversed(blocks.hashes)), strict=True):
            if held_by is None or held_by == last:  # most blocks of a prompt have the owner of the next
                continue
            last = held_by
            for node in held_by if isinstance(held_by, dict) else (held_by,):
                if node not in found:
                    found[node] = blocks.bytes_of(number)
                    if len(found) == OWNERS_MAX:
                        return found
        return found
