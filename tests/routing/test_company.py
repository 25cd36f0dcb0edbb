"""Companies: few where few requests are told and the ways are short, and the same at every gateway."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from routing_nouns import a_node, a_plan, a_view

from isochrone.model import Company, FleetView, Me, Peer, Places, name_hash
from isochrone.routing import find_company
from isochrone.routing.company import DEFAULT_COMPANY_SETTINGS, CompanySettings, near_together

WAY_MS = {("eu", "us"): 80.0, ("eu", "asia"): 160.0, ("us", "asia"): 150.0}


def between(one: str, other: str) -> float | None:
    return 1.0 if one == other else WAY_MS.get((one, other), WAY_MS.get((other, one)))


def a_peer(name: str, requests_per_s: float = 1.0, region: str = "eu", *, tells: bool = True) -> Peer:
    return Peer(name, name_hash(name), region, requests_per_s, requests_per_s, tells)


def seen_by(me: Peer, peers: list[Peer], **beliefs) -> FleetView:
    return a_view(
        a_node(),
        me=Me.of(me.name, me.region, tells=me.tells),
        peers=tuple(peer for peer in peers if peer.name != me.name),
        own_work_per_s=me.work_per_s,
        own_requests_per_s=me.requests_per_s,
        places=Places(between),
        **beliefs,
    )


def companies(
    peers: list[Peer], settings: CompanySettings = DEFAULT_COMPANY_SETTINGS, homes_max: int = 1
) -> list[Company]:
    """As each of them sees them."""
    return [find_company(seen_by(me, peers), homes_max, settings) for me in peers]


def sizes(company: Company) -> list[int]:
    return sorted(len(group) for group in company.groups)


def test_alone_there_is_nobody_to_tell():
    (company,) = companies([a_peer("g")])
    assert (company.mates, company.groups, company.unheard) == (frozenset(), (("g",),), 0.0)


def test_where_few_requests_come_all_tell_each_other():
    peers = [a_peer(f"g{at}") for at in range(9)]
    for me, company in zip(peers, companies(peers), strict=True):
        assert company.mates == {peer.name for peer in peers} - {me.name}
        assert company.unheard == pytest.approx(8 * DEFAULT_COMPANY_SETTINGS.told_after_s)


def test_the_more_requests_the_more_companies():
    settings = replace(DEFAULT_COMPANY_SETTINGS, unheard_max=1e9)
    for requests_per_s, most in ((1.0, 16), (60.0, 8), (120.0, 4), (200.0, 2), (600.0, 1)):
        peers = [a_peer(f"g{at}", requests_per_s) for at in range(16)]
        (company, *_) = companies(peers, settings)
        assert max(sizes(company)) == most
        assert sum(sizes(company)) == 16


def test_a_long_way_makes_small_companies_of_those_near_each_other():
    peers = [a_peer(f"{region}{at}", 40.0, region) for region in ("eu", "us", "asia") for at in range(4)]
    for company in companies(peers):
        assert len(company.groups) > 1
        assert company.unheard <= DEFAULT_COMPANY_SETTINGS.unheard_max
    near = [replace(peer, region="eu") for peer in peers]
    assert all(len(company.groups) == 1 for company in companies(near))


def test_a_company_has_no_more_gateways_than_it_may():
    peers = [a_peer(f"g{at}", 0.01) for at in range(9)]
    for company in companies(peers, replace(DEFAULT_COMPANY_SETTINGS, gateways_max=5)):
        assert max(sizes(company)) <= 5


def test_who_does_not_tell_is_in_nobody_s_company():
    peers = [a_peer("g"), a_peer("h"), a_peer("old", tells=False)]
    mine, its, _ = companies(peers)
    assert mine.groups == its.groups == (("g", "h"), ("old",))
    assert mine.mates == {"h"}


@given(
    st.lists(
        st.tuples(st.floats(0.0, 400.0), st.sampled_from(["eu", "us", "asia", ""])), min_size=1, max_size=20
    )
)
def test_all_gateways_come_out_alike_and_nobody_is_left_out(gateways):
    peers = [a_peer(f"g{at}", rate, region) for at, (rate, region) in enumerate(gateways)]
    told = companies(peers)
    assert len({company.groups for company in told}) == 1
    assert sorted(name for group in told[0].groups for name in group) == sorted(peer.name for peer in peers)
    for me, company in zip(peers, told, strict=True):
        (ours,) = (group for group in company.groups if me.name in group)
        assert company.mates == set(ours) - {me.name}


def test_companies_stay_for_some_seconds_and_then_follow_the_traffic():
    calm, busy = ([a_peer(name, rate) for name in "gh"] for rate in (1.0, 1000.0))
    before = find_company(seen_by(calm[0], calm), 1)
    plan, later_s = a_plan(company=before), before.made_at_s + DEFAULT_COMPANY_SETTINGS.refresh_s
    assert find_company(seen_by(busy[0], busy, plan=plan), 1) is before
    assert find_company(seen_by(busy[0], busy, plan=plan, now_s=later_s), 1).mates == frozenset()


def test_who_comes_or_goes_is_noticed_at_once():
    peers = [a_peer("g"), a_peer("h")]
    plan = a_plan(company=find_company(seen_by(peers[0], peers), 1))
    assert find_company(seen_by(peers[0], [*peers, a_peer("i")], plan=plan), 1).mates == {"h", "i"}
    assert find_company(seen_by(peers[0], peers[:1], plan=plan), 1).mates == frozenset()


def test_where_gateways_do_not_tell_each_is_alone():
    peers = [a_peer("g", tells=False), a_peer("h", tells=False)]
    for company in companies(peers):
        assert (company.mates, company.unheard, company.groups) == (frozenset(), 0.0, (("g",), ("h",)))


def test_who_begins_or_ceases_to_tell_or_moves_is_noticed_at_once():
    peers = [a_peer("g"), a_peer("h")]
    plan = a_plan(company=find_company(seen_by(peers[0], peers), 1))
    for other in (replace(peers[1], tells=False), replace(peers[1], region="asia", requests_per_s=1e4)):
        assert find_company(seen_by(peers[0], [peers[0], other], plan=plan), 1).mates == frozenset()
    two = find_company(seen_by(peers[0], peers, plan=plan), 2)
    assert two.mates == {"h"}
    assert two is not plan.company


def test_where_there_are_homes_for_all_only_those_of_one_region_stand_together():
    peers = [a_peer(f"{region}{at}", 1.0, region) for region in ("eu", "us") for at in range(2)]
    (mine, *_) = companies(peers, homes_max=4)
    assert mine.groups == (("eu0", "eu1"), ("us0", "us1"))
    (mine, *_) = companies(peers, homes_max=1)
    assert sizes(mine) == [4]


def test_groups_of_nobody_are_none():
    assert near_together([], 1, Places()) == []
    assert near_together([a_peer("g")], 4, Places()) == [[a_peer("g")]]
