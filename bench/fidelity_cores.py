"""A share of the processor for each engine, so that engines on one machine do not slow each other down.

For bench/fidelity. An engine, which its node's agent starts, is put into a control group of its own with a
quota of CPU time, as the kernel's CFS bandwidth control gives it. While all quotas leave cores over, each
engine computes at a speed of its own whatever the others do, as on a machine of its own. The agents are left
alone: one that had to wait for its engine's quota would look far away. Needs root, and control groups of
either version.
"""

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

PERIOD_US = 10_000
"""Short, so that a node waits for its next share for less than a decoding step takes."""

LOOK_S = 0.01
AGENTS_LOOK_S = 0.2
"""Between two looks for engines of the agents that are known, and for agents. Both import for longer than
that before they do anything else."""

ROOTS = (Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup"))


class CannotError(Exception):
    """No quotas here; says why."""


@contextlib.contextmanager
def engines_on_cores_of_their_own(cores: float | None) -> Iterator[None]:
    """Give every engine of a node below this process `cores` of its own until the block ends; None: none.

    Raises CannotError.
    """
    if cores is None:
        yield
        return
    groups = _Groups(cores)
    groups.make(0)  # fails now, or not at all
    done = threading.Event()
    watcher = threading.Thread(target=groups.watch, args=(done,), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
        groups.remove()


class _Groups:
    """The control groups that we made, by the process that each was made for."""

    def __init__(self, cores: float) -> None:
        self._quota_us = round(cores * PERIOD_US)
        self._root = next((root for root in ROOTS if (root / "cgroup.procs").exists()), None)
        self._made: dict[int, Path] = {}

    def make(self, pid: int) -> Path:
        """A group with the quota. Raises CannotError."""
        if self._root is None:
            raise CannotError("this machine has no control groups for CPU time")
        group = self._root / f"isochrone-fidelity-{os.getpid()}-{pid}"
        try:
            group.mkdir()
            self._made[pid] = group
            if (group / "cpu.cfs_quota_us").exists():
                (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
                (group / "cpu.cfs_quota_us").write_text(str(self._quota_us))
            else:
                (group / "cpu.max").write_text(f"{self._quota_us} {PERIOD_US}")
        except OSError as error:
            self.remove()
            raise CannotError(f"no quota of CPU time can be set in {self._root}: {error}") from error
        return group

    def watch(self, done: threading.Event) -> None:
        """Put every engine that comes into a group of its own."""
        agents, looked_at_s = list[int](), 0.0
        while not done.wait(LOOK_S):
            if time.monotonic() - looked_at_s > AGENTS_LOOK_S:
                agents, looked_at_s = _agents(), time.monotonic()
            for engine in set(_children(agents)) - self._made.keys():
                with contextlib.suppress(ProcessLookupError):
                    (self.make(engine) / "cgroup.procs").write_text(str(engine))

    def remove(self) -> None:
        """All groups; those whose processes live on stay."""
        for group in self._made.values():
            with contextlib.suppress(OSError):
                group.rmdir()


def _agents() -> list[int]:
    """Every `isochrone node` below this process."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            argv = child.cmdline()
            if "node" in argv[2:4] and any(Path(word).name == "isochrone" for word in argv[1:3]):
                found.append(child.pid)
    return found


def _children(processes: list[int]) -> Iterator[int]:
    """What these have started."""
    for process in processes:
        with contextlib.suppress(OSError):
            yield from map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split())
