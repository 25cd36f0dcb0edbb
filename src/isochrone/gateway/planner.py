"""When plans are made: at once for a small fleet, in a thread of their own for a large one.

A plan for ten thousand nodes takes milliseconds, one for a hundred thousand tenths of a second, and on the
event loop every answer under way would stand still for as long. In the thread it is made from a copy of the
columns; the loop stands still for the copying and for folding the plan in. Until it is there the last plan
stays in force; where there is none, all nodes are compared.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from isochrone.fleet import Fleet, Planned
from isochrone.model import FleetView, Request
from isochrone.ports import Clock
from isochrone.routing import Router, make_plan, wants_plan

_AGAIN_S = 5.0
"""After a plan that could not be made, the next is not tried sooner."""


class Planner:
    """Keeps the plans of a gateway's models fresh."""

    def __init__(
        self,
        fleet: Fleet,
        *,
        clock: Clock,
        fold: Callable[[Planned], None],
        log: Callable[[str], None],
        at_once_nodes_max: int,
    ) -> None:
        """`fold` takes a plan in; up to `at_once_nodes_max` nodes are planned without the thread."""
        self._fleet, self._clock, self._fold, self._log = fleet, clock, fold, log
        self._at_once_nodes_max = at_once_nodes_max
        self._thread = ThreadPoolExecutor(1, "plan")
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._not_before_s: dict[str, float] = {}

    def view(self, request: Request, router: Router) -> FleetView:
        """What is believed now, to place `request`, with a plan that is fresh or soon will be."""
        view = self._fleet.view(request.model, self._clock.now_s())
        if not wants_plan(view, router) or view.now_s < self._not_before_s.get(view.model, 0.0):
            return view
        if len(view.nodes) > self._at_once_nodes_max:
            self._begin(view, request, router)
            return view
        try:
            plan = make_plan(view, request, router.weights)
        except Exception as error:  # noqa: BLE001 - whatever it is, requests go on by the last plan
            self._failed(view.model, error)
            return view
        self._not_before_s.pop(view.model, None)
        self._fold(Planned(view.model, plan))
        return self._fleet.view(view.model, self._clock.now_s())

    async def settled(self) -> None:
        """Wait until no plan is under way."""
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    async def stop(self) -> None:
        """Give up what is under way: a thread can't be stopped, but what it brings is not looked at."""
        for task in self._under_way.values():
            task.cancel()
        await self.settled()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _begin(self, view: FleetView, request: Request, router: Router) -> None:
        """One plan at a time for a model; those of several models are made one after the other."""
        model = view.model
        if model in self._under_way:
            return
        task = asyncio.create_task(self._plan(view.snapshot(), request, router), name=f"plan {model}")
        self._under_way[model] = task
        task.add_done_callback(partial(self._ended, model))

    async def _plan(self, view: FleetView, request: Request, router: Router) -> None:
        loop = asyncio.get_running_loop()
        plan = await loop.run_in_executor(self._thread, make_plan, view, request, router.weights)
        self._fold(Planned(view.model, plan, view.nodes.roster))

    def _ended(self, model: str, task: asyncio.Task[None]) -> None:
        del self._under_way[model]
        self._not_before_s.pop(model, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(model, error)

    def _failed(self, model: str, error: BaseException) -> None:
        self._not_before_s[model] = self._clock.now_s() + _AGAIN_S
        self._log(f"no plan for {model!r} could be made, the next try is in {_AGAIN_S:.0f} s: {error!r}")
