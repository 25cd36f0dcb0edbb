"""Counters that the workers of one gateway share: memory of their own, and the kernel's record locks.

The memory has no name: it is made before the workers are forked, and is gone with the last of them. Each
worker has a column of its own in all that is counted as "under way", which nobody else writes while it lives;
when it has died its supervisor empties the column. So a sum needs no lock, and a worker killed at any point
leaves nothing behind.
"""

import fcntl
import mmap
import os
import struct
import tempfile
from typing import NamedTuple

from isochrone.model import KEYS_MAX

WORKERS_MAX = 64

_TALLIES = ("requests", "connections", "beats")
_TALLY_BYTES = 4 * WORKERS_MAX
_KEYS_AT = _TALLY_BYTES * len(_TALLIES)
_HEAD = struct.Struct("=16sdd")
_TIMES = struct.Struct("=dd")
_MARK_BYTES = 16
_COLUMN_BYTES = 4
_SLOT_BYTES = _HEAD.size + _COLUMN_BYTES * WORKERS_MAX
_FLAG_AT = _KEYS_AT + KEYS_MAX * _SLOT_BYTES
_BYTES = _FLAG_AT + 4


class KeyState(NamedTuple):
    """What a key has used. Times are on the machine's monotonic clock, the same for all workers.

    Attributes:
        requests_at_s: when the requests it began will all have been earned back.
        tokens_at_s: likewise of tokens.
        in_flight: requests under way, of all workers.
    """

    requests_at_s: float = 0.0
    tokens_at_s: float = 0.0
    in_flight: int = 0


class SharedTable:
    """The memory, and one worker's way to it.

    What a key has used is read and written between `lock` and `unlock`. Locks are of the process (POSIX);
    of one that died the kernel takes them back. Within one process they hold nobody off, so only the event
    loop's thread may use the table.

    Attributes:
        requests: tally of requests under way.
        connections: tally of clients connected.
        beats: each worker counts up here while its event loop runs.
        keys_asked_for: whether some worker has ever known a key.
    """

    def __init__(self, *, workers: int = 1) -> None:
        self._fd = _unnamed_file()
        os.ftruncate(self._fd, _BYTES)
        self._memory = mmap.mmap(self._fd, _BYTES)
        words = memoryview(self._memory)
        self._columns = words.cast("I")
        self._workers, self._worker = workers, 0
        self.requests, self.connections, self.beats = (
            SharedTally(words[at * _TALLY_BYTES : at * _TALLY_BYTES + 4 * workers].cast("I"))
            for at in range(len(_TALLIES))
        )

        self.keys_asked_for = SharedFlag(words[_FLAG_AT : _FLAG_AT + 1])

    def take(self, worker: int) -> None:
        """Count as `worker` from now on, in the process that is it."""
        self._worker = self.requests.worker = self.connections.worker = self.beats.worker = worker

    def empty(self, worker: int) -> None:
        """What `worker` had under way is over: it has died. Called by who knows that."""
        self.requests.cells[worker] = self.connections.cells[worker] = 0
        for slot in range(KEYS_MAX):
            self._columns[_column(slot) + worker] = 0

    # -- keys ----------------------------------------------------------------------------------------

    def lock(self, slot: int) -> None:
        """Keep the other workers off the slot until `unlock`."""
        if self._workers > 1:
            fcntl.lockf(self._fd, fcntl.LOCK_EX, 1, slot)

    def unlock(self, slot: int) -> None:
        """Let the others go on."""
        if self._workers > 1:
            fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, slot)

    def read(self, slot: int, mark: bytes) -> KeyState:
        """What is there; a slot that held the state of another key (another mark) begins anew."""
        at = _KEYS_AT + slot * _SLOT_BYTES
        held, requests_at_s, tokens_at_s = _HEAD.unpack_from(self._memory, at)
        if held != mark:
            self._memory[at : at + _SLOT_BYTES] = mark.ljust(_SLOT_BYTES, b"\0")
            return KeyState()
        first = _column(slot)
        return KeyState(requests_at_s, tokens_at_s, sum(self._columns[first : first + self._workers]))

    def spend(self, slot: int, requests_at_s: float, tokens_at_s: float) -> None:
        """Write what has been used."""
        at = _KEYS_AT + slot * _SLOT_BYTES + _MARK_BYTES
        _TIMES.pack_into(self._memory, at, requests_at_s, tokens_at_s)

    def enter(self, slot: int) -> None:
        """One more request of the key under way in this worker."""
        self._columns[_column(slot) + self._worker] += 1

    def leave(self, slot: int, mark: bytes) -> None:
        """One less; nothing when the slot has become another key's. Its own column: it needs no lock."""
        at = _KEYS_AT + slot * _SLOT_BYTES
        own = _column(slot) + self._worker
        if self._memory[at : at + _MARK_BYTES] == mark and self._columns[own]:
            self._columns[own] -= 1


class SharedFlag:
    """Set by any worker, and never cleared."""

    def __init__(self, cell: memoryview) -> None:
        self._cell = cell

    @property
    def is_set(self) -> bool:
        """Whether some worker has set it."""
        return bool(self._cell[0])

    def set(self) -> None:
        """Set it, for all workers and those that follow them."""
        self._cell[0] = 1


class SharedTally:
    """One number for each worker (`relay.Tally`)."""

    def __init__(self, cells: "memoryview[int]") -> None:
        self.cells, self.worker = cells, 0

    def enter(self) -> int:
        """One more here; returns the sum with it."""
        self.cells[self.worker] += 1
        return sum(self.cells)

    def leave(self) -> None:
        """One less here."""
        self.cells[self.worker] -= 1

    def total(self) -> int:
        """The sum."""
        return sum(self.cells)


def _column(slot: int) -> int:
    return (_KEYS_AT + slot * _SLOT_BYTES + _HEAD.size) // _COLUMN_BYTES


def _unnamed_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("isochrone-workers")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
