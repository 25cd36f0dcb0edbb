"""Waiting for a slot, in order."""

import asyncio

from isochrone.nodes.inference.desk import Desk, Job
from isochrone.nodes.inference.shelf import Shelf
from isochrone.ports import Clock


class Turns:
    """Wakes the job whose turn it is: the first of those whose model is ready, when a slot is free."""

    def __init__(self, desk: Desk, shelf: Shelf, clock: Clock) -> None:
        self._desk, self._shelf, self._clock = desk, shelf, clock
        self._change = asyncio.Condition()

    async def changed(self) -> None:
        """A slot became free, or a model ready."""
        async with self._change:
            self._change.notify_all()

    async def wait_for(self, job: Job) -> None:
        """Return when `job` has its slot."""
        async with self._change:
            await self._change.wait_for(lambda: self._desk.may_start(job.id, self._shelf.ready()))
            self._desk.start(job.id, self._clock.now_s())
            self._change.notify_all()
