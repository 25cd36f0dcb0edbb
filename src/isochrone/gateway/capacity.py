"""Where capacity is, where it is scarce, what one more node would save: worked out when someone asks."""

import asyncio
from typing import TYPE_CHECKING, Any

from isochrone.demand import ArrivalRates
from isochrone.fleet import Fleet
from isochrone.gateway.capacity_fields import capacity_fields
from isochrone.gateway.settings import CapacitySettings
from isochrone.gateway.supply import Supply, gather
from isochrone.ports import Clock

if TYPE_CHECKING:
    from isochrone.gateway.look import Look


class CapacityDesk:
    """Looks at capacity for whoever asks, at most once in `refresh_s`, in a thread.

    A look that is under way is waited for by all who ask meanwhile; when one of them leaves it goes on.
    """

    def __init__(
        self, settings: CapacitySettings, *, fleet: Fleet, rates: ArrivalRates, clock: Clock
    ) -> None:
        self._settings, self._fleet, self._rates, self._clock = settings, fleet, rates, clock
        self._last: Look | None = None
        self._told: dict[str, Any] = {}
        self._looking: asyncio.Task[Look] | None = None

    async def look(self) -> dict[str, Any]:
        """What `capacity_fields` tells, of a look no older than `refresh_s`."""
        last, now_s = self._last, self._clock.now_s()
        if last is None or now_s - last.asked_s >= self._settings.refresh_s:
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._look())
            last = await asyncio.shield(self._looking)
        age_s = None if last.keeper.plan is None else round(last.keeper.age_s(self._clock.now_s()), 1)
        return {**self._told, "plan": {**self._told["plan"], "age_s": age_s}}

    async def stop(self) -> None:
        """Give up a look that is under way."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _look(self) -> "Look":
        now_s = self._clock.now_s()
        arriving = {model: self._rates.rate_per_s(model, now_s) for model in self._fleet.models()}
        supply = gather(self._fleet, arriving, now_s, self._settings)
        look, self._told = await asyncio.to_thread(_look_at, supply, self._last, now_s, self._settings)
        self._last = look
        return look


def _look_at(
    supply: Supply, last: "Look | None", now_s: float, settings: CapacitySettings
) -> tuple["Look", dict[str, Any]]:
    """In a thread: the look and what it tells."""
    from isochrone.gateway.look import look_at  # noqa: PLC0415 - half a second, for those who ask alone

    look = look_at(supply, last, now_s, settings)
    return look, capacity_fields(look, now_s, settings)
