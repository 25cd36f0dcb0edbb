from dataclasses import dataclass, field

import msgspec

from isochrone.gateway.announcer import ASK_S, Announcer
from isochrone.model import Decision
from isochrone.wire.explain import Record


@dataclass
class HandClock:
    """Shows what it is set to."""

    at_s: float = 100.0

    def now_s(self) -> float:
        return self.at_s

    def unix_ms(self) -> int:
        return 0


@dataclass
class Listeners:
    """A bus on which somebody listens, or nobody; keeps what was sent with the question and without."""

    listening: bool
    asked: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    async def publish(self, subject: str, payload: bytes) -> None:
        assert subject == "isochrone.decision.gw"
        self.told.append(msgspec.json.decode(payload)["id"])

    async def publish_heard(self, subject: str, payload: bytes) -> bool:
        assert subject == "isochrone.decision.gw"
        self.asked.append(msgspec.json.decode(payload)["id"])
        return self.listening


def a_record(name: str) -> Record:
    return Record("gw", 1, False, Decision(name, "m", "p", (), (), 0.0))


async def announce(announcer: Announcer, *names: str) -> None:
    for name in names:
        if (work := announcer.announce(a_record(name))) is not None:
            await work


async def test_each_decision_is_told_while_somebody_listens():
    bus = Listeners(listening=True)
    await announce(Announcer(bus, HandClock(), "isochrone.decision.gw"), "a", "b", "c")
    assert bus.asked + bus.told == ["a", "b", "c"]


async def test_without_a_listener_only_the_question_is_sent():
    bus = Listeners(listening=False)
    await announce(Announcer(bus, HandClock(), "isochrone.decision.gw"), "a", "b", "c")
    assert (bus.asked, bus.told) == (["a"], [])


async def test_a_listener_that_comes_is_found_by_the_next_question_and_one_that_leaves_missed():
    bus, clock = Listeners(listening=False), HandClock()
    announcer = Announcer(bus, clock, "isochrone.decision.gw")
    await announce(announcer, "a", "b")
    bus.listening, clock.at_s = True, clock.at_s + ASK_S
    await announce(announcer, "c", "d")
    bus.listening, clock.at_s = False, clock.at_s + ASK_S
    await announce(announcer, "e", "f")
    assert (bus.asked, bus.told) == (["a", "c", "e"], ["d"])
