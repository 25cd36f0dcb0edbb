"""Waiting for a slot, in order."""

import asyncio

from isochrone.nodes.inference.desk import Desk, Job
from isochrone.nodes.inference.shelf import Shelf
from isochrone.ports import Clock


class Turns:
    """Wakes the jobs whose turn it is: the first of those whose model is ready, while slots are free."""

    def __init__(self, desk: Desk, shelf: Shelf, clock: Clock) -> None:
        self._desk, self._shelf, self._clock = desk, shelf, clock
        self._waiters: dict[str, asyncio.Future[None]] = {}

    def changed(self) -> None:
        """A slot became free, or a model ready."""
        ready = self._shelf.ready()
        while (job := self._desk.next_to_start(ready)) is not None and job.id in self._waiters:
            self._desk.start(job.id, self._clock.now_s())
            waiter = self._waiters.pop(job.id)
            if not waiter.done():
                waiter.set_result(None)

    async def wait_for(self, job: Job) -> None:
        """Return when `job` has its slot. Whoever is cancelled meanwhile must take the job off the desk."""
        waiter = self._waiters[job.id] = asyncio.get_running_loop().create_future()
        try:
            self.changed()
            await waiter
        finally:
            self._waiters.pop(job.id, None)
