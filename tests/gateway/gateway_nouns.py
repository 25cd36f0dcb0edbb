"""A bus, a clock and a network of one node, for the parts of a gateway."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from isochrone.fleet import CardReceived, Fleet, FleetSettings, PulseReceived, RttMeasured
from isochrone.gateway.membership import Membership
from isochrone.gateway.settings import GatewaySettings
from isochrone.model import NOBODY, Load, Me, ModelPulse, ModelState, NodeCard, Pulse
from isochrone.ports import Handler
from isochrone.relay import HttpClient

MODEL = "tiny"
READY = ModelPulse(MODEL, ModelState.READY, prefill_base_ms=20.0, prefill_ms_per_token=2.0, tpot_ms=10.0)


@dataclass
class Clock:
    """Stands still until it is moved."""

    at_s: float = 1000.0

    def now_s(self) -> float:
        return self.at_s

    def unix_ms(self) -> int:
        return 0


@dataclass
class FakeBus:
    """Keeps what is subscribed to, as (subject, queue), and what is published; `say` delivers at once."""

    connected: bool = True
    handlers: dict[tuple[str, str], Handler] = field(default_factory=dict)
    published: list[tuple[str, bytes]] = field(default_factory=list)
    urgent: set[str] = field(default_factory=set)
    said: asyncio.Queue[tuple[str, bytes]] = field(default_factory=asyncio.Queue)

    def on_change(self, listener: Callable[[bool], None]) -> None:
        pass

    async def publish(self, subject: str, payload: bytes) -> None:
        self.published.append((subject, payload))
        self.said.put_nowait((subject, payload))

    async def publish_heard(self, subject: str, payload: bytes) -> bool:
        await self.publish(subject, payload)
        return True

    async def subscribe(
        self, subject: str, handler: Handler, *, queue: str = "", urgent: bool = False
    ) -> None:
        self.handlers[subject, queue] = handler
        if urgent:
            self.urgent.add(subject)

    async def put(self, key: str, value: bytes) -> None:
        pass

    async def get(self, key: str) -> bytes | None:
        return None

    async def delete(self, key: str) -> None:
        pass

    async def close(self) -> None:
        pass

    def say(self, subject: str, payload: bytes) -> None:
        for (heard, _), handler in self.handlers.items():
            if heard in (subject, f"{subject.rpartition('.')[0]}.*"):
                handler(subject, payload)


def a_fleet(
    *names: str, url: str = "http://127.0.0.1:9", rtt_ms: float = 7.0, me: Me = NOBODY, **settings
) -> Fleet:
    """A fleet that knows nodes of these names, all reached at `url`."""
    fleet = Fleet(FleetSettings(**settings), me)
    for name in names:
        fleet.step(PulseReceived(Pulse(name, 1, 1, "digest", Load(slots=2), (READY,))), 1000.0)
        fleet.step(CardReceived(NodeCard(name, url), "digest"), 1000.0)
        fleet.step(RttMeasured(name, rtt_ms), 1000.0)
    return fleet


def a_membership(settings: GatewaySettings, fleet: Fleet, **parts) -> Membership:
    given = {
        "bus": FakeBus(),
        "client": HttpClient(),
        "clock": Clock(),
        "node_headers": (),
        "log": lambda _line: None,
        **parts,
    }
    return Membership(settings, fleet=fleet, **given)
