"""Probing on behalf of a policy: after a dispatch, ask a few nodes for their load (Prequal)."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from isochrone.fleet import ProbeAnswered
from isochrone.gateway.membership import Membership
from isochrone.gateway.metrics import GatewayMetrics
from isochrone.gateway.settings import GatewaySettings
from isochrone.model import Load
from isochrone.ports import Clock, UpstreamError
from isochrone.relay import Headers, HttpClient
from isochrone.routing import Luck, draw_probes
from isochrone.wire import WireError
from isochrone.wire.orca import decode_orca
from isochrone.wire.subjects import HEADER_LOAD, LOAD_PATH


@dataclass(frozen=True, slots=True)
class ProberParts:
    """What probing needs of the gateway."""

    settings: GatewaySettings
    clock: Clock
    membership: Membership
    metrics: GatewayMetrics
    client: HttpClient
    luck: Luck
    node_headers: Headers
    log: Callable[[str], None]


class Prober:
    """Sends probes, a bounded number at once, each for a bounded time. A probe that fails is only counted."""

    def __init__(self, parts: ProberParts) -> None:
        self._parts = parts
        self._under_way: set[asyncio.Task[None]] = set()
        self._stopped = False

    @property
    def in_flight(self) -> int:
        """Probes sent and not yet ended."""
        return len(self._under_way)

    def dispatched(self, model: str, per_request: float) -> None:
        """A request for `model` was dispatched: probe `per_request` nodes that have it, drawn by lot.

        Returns at once. Beyond `probes_in_flight_max` probes are dropped and counted.
        """
        if per_request <= 0.0 or self._stopped:
            return
        parts, most = self._parts, self._parts.settings.probes_in_flight_max
        view = parts.membership.fleet.view(model, parts.clock.now_s())
        for node in draw_probes(view, parts.luck, min(per_request, most)):
            if len(self._under_way) >= most:
                parts.metrics.probes_dropped.add()
                continue
            parts.metrics.probes_sent.add()
            task = asyncio.create_task(self._probe(node, model))
            self._under_way.add(task)
            task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """Give up what is under way, and send no more."""
        self._stopped = True
        tasks = tuple(self._under_way)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._parts.log(f"a probe ended in an unforeseen way: {error!r}")

    async def _probe(self, node: str, model: str) -> None:
        try:
            async with asyncio.timeout(self._parts.settings.probe_s_max):
                answer = await self._ask(node, model)
        except (UpstreamError, TimeoutError):
            answer = None
        except WireError:
            answer = None
            self._parts.membership.undecodable += 1
        if answer is None:
            self._parts.metrics.probes_failed.add()
        else:
            self._parts.membership.step(answer)

    async def _ask(self, node: str, model: str) -> ProbeAnswered | None:
        """What `node` told of its load; None when it told nothing, or left meanwhile."""
        parts, belief = self._parts, self._parts.membership.fleet.belief(node)
        if belief is None:
            return None
        sent_s = parts.clock.now_s()
        response = await parts.client.request("GET", belief.card.url + LOAD_PATH, parts.node_headers)
        rtt_ms = (parts.clock.now_s() - sent_s) * 1e3
        response.close()  # the head is all there is
        load = _told(response.header(HEADER_LOAD)) if response.status == 204 else None
        if load is None:
            return None
        # Setting a connection up is no part of the way there and back.
        return ProbeAnswered(node, model, load, rtt_ms if response.reused else belief.rtt_ms)


def _told(header: bytes | None) -> Load | None:
    return None if header is None else decode_orca(header)
