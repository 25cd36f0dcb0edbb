"""Who is believed to hold which block of prompt text: the way back from a prompt to the nodes."""

from bisect import bisect_left
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

        Goes from the last block that anybody holds to the first, so that the longest prefixes are found
        first, until all are found that hold the first. A node counts as holding all blocks before one that it
        holds: an end is always forgotten first. Where a failed request took a beginning away, the end that
        somebody else went on from may be overlooked.
        """
        hashes, held_by_of, found = blocks.hashes, self._of.get, dict[int, int]()
        most = min(OWNERS_MAX, _count(held_by_of(hashes[0], {}))) if hashes else 0
        known = bisect_left(hashes, 1, key=lambda block: block not in self._of) if most else 0
        for number in range(known, 0, -1):
            held_by = held_by_of(hashes[number - 1], {})
            if _count(held_by) <= len(found):  # those who hold the next block too
                continue
            for node in held_by if isinstance(held_by, dict) else (held_by,):
                if node not in found:
                    found[node] = blocks.bytes_of(number)
                    if len(found) == most:
                        return found
        return found


def _count(held_by: int | dict[int, None]) -> int:
    return len(held_by) if isinstance(held_by, dict) else 1
