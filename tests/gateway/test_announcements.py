"""Announcements of room on nodes and of others' traffic: who listens, what is believed, what is refused."""

import pytest
from gateway_nouns import MODEL, FakeBus, a_fleet, a_membership

from isochrone.gateway.membership import Membership
from isochrone.gateway.settings import GatewaySettings
from isochrone.model import GatewayPulse, Load, ModelFlow, ProbeSettings, Request
from isochrone.routing import CATALOGUE, Router, find_policy
from isochrone.wire.gateways import encode_gateway_pulse
from isochrone.wire.nodes import encode_idle
from isochrone.wire.subjects import GATEWAYS, IDLE, IDLE_LISTENERS, gateway_subject, idle_subject


async def listening(bus: FakeBus, **settings) -> Membership:
    membership = a_membership(GatewaySettings(**settings), a_fleet("a", "b"), bus=bus)
    await membership.start()
    await membership.stop()  # ends the ticks; the fake bus still delivers
    return membership


@pytest.mark.parametrize("settings", [{"policy": "jiq"}, {"policy_by_header": True}])
async def test_who_wants_the_news_shares_it_with_all_other_gateways(settings) -> None:
    bus = FakeBus()
    await listening(bus, **settings)
    assert (IDLE, IDLE_LISTENERS) in bus.handlers


async def test_who_does_not_want_the_news_leaves_it_to_others() -> None:
    bus = FakeBus()
    await listening(bus, policy="soonest")
    assert all(subject != IDLE for subject, _ in bus.handlers)


async def test_idle_nodes_are_kept_in_the_order_of_their_news() -> None:
    bus = FakeBus()
    membership = await listening(bus, policy="jiq")
    for node in ("b", "a", "nobody"):
        bus.say(idle_subject(node), encode_idle(node, Load(2, running=1, backlog_s=3.0)))
    view = membership.fleet.view(MODEL, 1000.0)
    assert [view.nodes[index].node for index in view.idle] == ["b", "a"]
    assert [node.running for node in view.nodes] == [1, 1]
    assert (membership.idle_heard, membership.undecodable) == (3, 0)


async def test_a_node_speaks_only_for_itself() -> None:
    bus = FakeBus()
    membership = await listening(bus, policy="jiq")
    bus.say(idle_subject("a"), encode_idle("b", Load(2)))
    assert (membership.idle_heard, membership.undecodable) == (0, 1)
    assert list(membership.fleet.view(MODEL, 1000.0).idle) == []


@pytest.mark.parametrize("payload", [b"", b"a", b"[]", b'{"node":""}', b'{"node":"' + b"a" * 200 + b'"}'])
async def test_what_is_no_name_is_counted_and_dropped(payload: bytes) -> None:
    bus = FakeBus()
    membership = await listening(bus, policy="jiq")
    bus.say(idle_subject("a"), payload)
    assert (membership.idle_heard, membership.undecodable) == (0, 1)
    assert list(membership.fleet.view(MODEL, 1000.0).idle) == []


def a_word(gateway: str = "there", epoch: int = 1, seq: int = 1, work_per_s: float = 1.5) -> GatewayPulse:
    return GatewayPulse(gateway, epoch, seq, "eu", (ModelFlow(MODEL, 3.0, work_per_s),))


async def test_every_gateway_hears_the_traffic_of_all_others() -> None:
    bus = FakeBus()
    membership = await listening(bus, policy="p2c")
    assert (GATEWAYS, "") in bus.handlers
    for word in (a_word(), a_word("elsewhere"), a_word("there", seq=2, work_per_s=2.0)):
        bus.say(gateway_subject(word.gateway), encode_gateway_pulse(word))
    assert sum(peer.work_per_s for peer in membership.fleet.view(MODEL, 1000.0).peers) == 3.5
    assert [word.gateway for word in membership.fleet.gateways()] == ["elsewhere", "there"]


async def test_its_own_words_are_no_news_to_a_gateway() -> None:
    bus = FakeBus()
    membership = await listening(bus, name="here")
    bus.say(gateway_subject("here"), encode_gateway_pulse(a_word("here", epoch=0)))
    assert membership.fleet.gateways() == ()
    assert membership.undecodable == 0


@pytest.mark.parametrize(
    ("subject", "payload"),
    [
        (gateway_subject("there"), b"junk"),
        (gateway_subject("there"), encode_gateway_pulse(a_word("elsewhere"))),
        (gateway_subject("there"), encode_gateway_pulse(a_word(work_per_s=-1.0))),
    ],
)
async def test_a_word_that_makes_no_sense_is_counted_and_dropped(subject: str, payload: bytes) -> None:
    bus = FakeBus()
    membership = await listening(bus)
    bus.say(subject, payload)
    assert membership.fleet.gateways() == ()
    assert membership.undecodable == 1


async def test_a_request_is_placed_by_a_plan_where_the_policy_wants_one() -> None:
    membership = await listening(FakeBus())
    request = Request("r", MODEL, prompt_bytes=400)
    plan = membership.view(request, Router(find_policy("soonest"))).plan
    assert plan is not None
    assert len(plan.edges) == 2
    assert membership.view(request, Router(find_policy("soonest"))).plan is plan
    assert membership.fleet.view(MODEL, 1000.0).plan is plan
    other = await listening(FakeBus())
    assert other.view(request, Router(find_policy("p2c"))).plan is None


@pytest.mark.parametrize(
    ("policy", "by_header", "per_request", "pool_max"),
    [
        ("soonest", False, 0.0, ProbeSettings().pool_max),
        ("soonest", True, *(getattr(CATALOGUE["prequal"].probing, n) for n in ("per_request", "pool_max"))),
        ("prequal:pool_max=6,per_request=2", False, 2.0, 6),
        ("prequal:pool_max=6,per_request=2", True, 2.0, 6),
    ],
)
def test_the_pool_is_kept_as_the_own_policy_says_or_as_prequal_does(
    policy: str, by_header: bool, per_request: float, pool_max: int
) -> None:
    settings = GatewaySettings(policy=policy, policy_by_header=by_header)
    probing = settings.beliefs.probing
    assert (probing.per_request, probing.pool_max) == (per_request, pool_max)
