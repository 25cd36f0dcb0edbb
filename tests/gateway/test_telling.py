"""Gateways of one company tell each other what they send: to whom, when, and what is taken of it."""

import asyncio

import pytest
from gateway_nouns import MODEL, FakeBus, a_fleet, a_membership

from isochrone.fleet import Planned
from isochrone.fleet.teller import TOLD_AT_ONCE_MAX
from isochrone.gateway.membership import Membership
from isochrone.gateway.settings import GatewaySettings
from isochrone.model import Estimate, GatewayPulse, LedgerNews, Me, ModelFlow, Request, SentWork
from isochrone.routing import Router, find_policy, plan_if_due
from isochrone.wire.gateways import (
    decode_gateway_pulse,
    decode_ledger_news,
    encode_gateway_pulse,
    encode_ledger_news,
)
from isochrone.wire.subjects import GATEWAYS, LEDGER_OF, gateway_subject, ledger_subject

REQUEST = Request("r", MODEL, prompt_bytes=400)
ESTIMATE = Estimate(1.0, 0.0, 0.0, 500.0, 0.0, 1500.0, 0.0, 100, 0, 20, 501.0)


async def a_gateway(bus: FakeBus, name: str = "us", **settings) -> Membership:
    told = GatewaySettings(name=name, **settings)
    fleet = a_fleet("a", "b", me=Me.of(name, "", tells=told.tells))
    membership = a_membership(told, fleet, bus=bus)
    await membership.telling.start()
    await bus.subscribe(GATEWAYS, membership._heard_gateway)
    return membership


def speaks(bus: FakeBus, name: str, *, tells: bool = True) -> None:
    flows = (ModelFlow(MODEL, 1.0, 1.0),)
    bus.say(gateway_subject(name), encode_gateway_pulse(GatewayPulse(name, 1, 1, "", flows, tells)))


def plan(membership: Membership, policy: str = "soonest") -> None:
    """As for a request at this moment."""
    fleet = membership.fleet
    made = plan_if_due(fleet.view(MODEL, 1000.0), REQUEST, Router(find_policy(policy)))
    assert made is not None
    fleet.step(Planned(MODEL, made), 1000.0)


async def told(bus: FakeBus) -> tuple[str, LedgerNews]:
    """What is published next."""
    async with asyncio.timeout(10):
        subject, payload = await bus.said.get()
    return subject, decode_ledger_news(payload)


async def test_a_dispatch_and_its_end_go_to_each_gateway_of_the_company() -> None:
    bus = FakeBus()
    membership = await a_gateway(bus)
    for name in ("g", "h"):
        speaks(bus, name)
    plan(membership)
    membership.telling.dispatched(REQUEST, "a", ESTIMATE)
    membership.telling.finished(REQUEST, "a")
    (first, news), (second, same) = await told(bus), await told(bus)
    assert (first, second) == (ledger_subject("g", "us"), ledger_subject("h", "us"))
    assert news == same
    assert [(work.request, work.node, work.model) for work in news.sent] == [("r", "a", MODEL)]
    assert (news.sent[0].service_s, news.sent[0].prefill_s) == (pytest.approx(2.0), pytest.approx(0.5))
    assert [(ended.request, ended.node) for ended in news.ended] == [("r", "a")]
    assert membership.telling.told == 1


async def nothing_is_told(membership: Membership, bus: FakeBus) -> None:
    membership.telling.dispatched(REQUEST, "a", ESTIMATE)
    membership.telling.finished(REQUEST, "a")
    assert membership.telling.told == 0
    assert membership.telling._due is None
    assert bus.published == []


async def test_who_has_no_company_tells_nobody() -> None:
    bus = FakeBus()
    membership = await a_gateway(bus)
    speaks(bus, "g", tells=False)
    plan(membership)
    await nothing_is_told(membership, bus)


async def test_a_gateway_whose_policy_does_not_tell_is_in_no_company_whatever_a_request_says() -> None:
    bus = FakeBus()
    membership = await a_gateway(bus, policy="soonest:told=0")
    speaks(bus, "g")
    plan(membership, "soonest")
    await nothing_is_told(membership, bus)


async def test_a_request_s_own_policy_does_not_end_the_telling() -> None:
    bus = FakeBus()
    membership = await a_gateway(bus)
    speaks(bus, "g")
    plan(membership, "soonest:told=0")
    company = membership.fleet.company(MODEL)
    assert company is not None
    assert company.mates == {"g"}


async def test_before_there_is_a_plan_nobody_is_told() -> None:
    bus = FakeBus()
    await nothing_is_told(await a_gateway(bus), bus)


async def test_a_gateway_that_ends_tells_nothing_more() -> None:
    bus = FakeBus()
    membership = await a_gateway(bus)
    speaks(bus, "g")
    plan(membership)
    membership.telling.dispatched(REQUEST, "a", ESTIMATE)
    due = membership.telling._due
    assert due is not None
    membership.telling.stop()
    assert due.cancelled()
    membership.telling.finished(REQUEST, "a")
    assert membership.telling._due is due
    assert bus.published == []


async def test_a_full_message_is_sent_at_once() -> None:
    bus = FakeBus()
    membership = await a_gateway(bus)
    speaks(bus, "g")
    plan(membership)
    for number in range(1000):
        membership.telling.dispatched(Request(f"r{number}", MODEL, prompt_bytes=1), "a", ESTIMATE)
    messages: list[LedgerNews] = []
    while sum(len(news.sent) for news in messages) < 1000:
        messages.append((await told(bus))[1])
    assert [news.seq for news in messages] == [1, 2, 3, 4]
    assert [len(news.sent) for news in messages][:3] == [TOLD_AT_ONCE_MAX] * 3


async def test_what_others_tell_is_believed_at_once() -> None:
    bus = FakeBus()
    membership = await a_gateway(bus)
    news = LedgerNews("g", 1, 1, sent=tuple(SentWork(f"r{n}", "a", MODEL, 5.0, 5.0) for n in range(3)))
    bus.say(ledger_subject("us", "g"), encode_ledger_news(news))
    view = membership.fleet.view(MODEL, 1000.0)
    assert [view.nodes[index].wait_s > 4.0 for index in range(2)] == [True, False]
    assert (membership.telling.heard, membership.telling.undecodable) == (1, 0)


@pytest.mark.parametrize(
    "payload",
    [b"", b"junk", encode_ledger_news(LedgerNews("h", 1, 1)), encode_ledger_news(LedgerNews("", 1, 1))],
)
async def test_what_makes_no_sense_or_speaks_for_another_is_counted_and_dropped(payload: bytes) -> None:
    bus = FakeBus()
    membership = await a_gateway(bus)
    bus.say(ledger_subject("us", "g"), payload)
    assert (membership.telling.heard, membership.telling.undecodable) == (0, 1)


async def test_it_listens_to_what_is_told_to_it_alone_and_urgently() -> None:
    bus = FakeBus()
    await a_gateway(bus, name="me")
    assert (LEDGER_OF.format("me"), "") in bus.handlers
    assert bus.urgent == {LEDGER_OF.format("me")}


@pytest.mark.parametrize(("policy", "tells"), [("soonest", True), ("soonest:told=0", False), ("p2c", False)])
async def test_a_gateway_says_whether_it_tells(policy: str, tells: bool) -> None:
    bus = FakeBus()
    membership = a_membership(GatewaySettings(policy=policy, pulse_s=0.001), a_fleet("a"), bus=bus)
    await membership.start()
    async with asyncio.timeout(10):
        _, payload = await bus.said.get()
    await membership.stop()
    assert decode_gateway_pulse(payload).tells is tells
