"""A worker's place among the workers of its gateway."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from isochrone.gateway.crew.heartbeat import BEAT_S
from isochrone.gateway.crew.table import SharedTable


@dataclass(frozen=True, slots=True)
class Crew:
    """One worker, and what it shares with the others.

    Attributes:
        worker: its number, from 0.
        workers: how many there are.
        table: what all of them count.
        folder: where workers listen to each other, open to their user only; None for a worker alone.
    """

    worker: int
    workers: int
    table: SharedTable
    folder: Path | None = None

    @classmethod
    def alone(cls) -> "Crew":
        """A gateway of one worker."""
        return cls(0, 1, SharedTable())

    async def beat(self) -> None:
        """Show the supervisor that the event loop runs, until cancelled; alone there is none to see it."""
        while self.workers > 1:
            self.table.beats.enter()
            await asyncio.sleep(BEAT_S)

    @property
    def id_prefix(self) -> str:
        """How the ids of this worker's decisions begin."""
        return f"req-w{self.worker}-" if self.workers > 1 else "req-"

    def worker_of(self, decision_id: str) -> int | None:
        """The other worker that made the decision, None when it was this one or nobody."""
        first, _, rest = decision_id.removeprefix("req-w").partition("-")
        if not rest or not first.isascii() or not first.isdigit() or len(first) > 2:
            return None
        worker = int(first)
        return worker if worker < self.workers and worker != self.worker else None
