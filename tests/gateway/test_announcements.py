"""Announcements of idleness: who listens, what is believed, what is refused."""

import pytest
from gateway_nouns import MODEL, FakeBus, a_fleet, a_membership

from isochrone.gateway.membership import Membership
from isochrone.gateway.settings import GatewaySettings
from isochrone.model import ProbeSettings
from isochrone.routing import CATALOGUE
from isochrone.wire.nodes import encode_idle
from isochrone.wire.subjects import IDLE, IDLE_LISTENERS


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
        bus.say(IDLE, encode_idle(node))
    view = membership.fleet.view(MODEL, 1000.0)
    assert [view.nodes[index].node for index in view.idle] == ["b", "a"]
    assert (membership.idle_heard, membership.undecodable) == (3, 0)


@pytest.mark.parametrize("payload", [b"", b"a", b"[]", b'{"node":""}', b'{"node":"' + b"a" * 200 + b'"}'])
async def test_what_is_no_name_is_counted_and_dropped(payload: bytes) -> None:
    bus = FakeBus()
    membership = await listening(bus, policy="jiq")
    bus.say(IDLE, payload)
    assert (membership.idle_heard, membership.undecodable) == (0, 1)
    assert list(membership.fleet.view(MODEL, 1000.0).idle) == []


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
