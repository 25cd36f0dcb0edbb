"""What it costs to choose a node that others of the company choose before they hear of it."""

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from routing_nouns import A_REQUEST, MODEL, a_choice, a_node, a_plan, a_view

from isochrone.model import Company, FleetView, Me, Meeting, Peer, Places, name_hash
from isochrone.routing.estimate import DEFAULT_WEIGHTS, ServiceColumns
from isochrone.routing.meeting import find_meeting

EAST, WEST, MIDDLE = "east", "west", "middle"
RTT_MS = {frozenset((EAST, WEST)): 200.0, frozenset((EAST, MIDDLE)): 100.0, frozenset((WEST, MIDDLE)): 100.0}


def rtt_between(a: str, b: str) -> float | None:
    return 0.0 if a == b else RTT_MS.get(frozenset((a, b)))


def a_fleet(*mates: tuple[str, float], waits_s: tuple[float, ...] = (0.0, 0.0, 0.0)) -> FleetView:
    """A node in each region and a gateway in the east; `mates` are (region, requests a second)."""
    nodes = [
        a_node(region, region=region, rtt_ms=rtt_between(EAST, region) or 0.0, wait_s=wait_s)
        for region, wait_s in zip((EAST, MIDDLE, WEST), waits_s, strict=True)
    ]
    peers = tuple(
        Peer(f"g{at}", name_hash(f"g{at}"), region, 1.0, rate, tells=True)
        for at, (region, rate) in enumerate(mates)
    )
    return a_view(*nodes, places=Places(rtt_between), peers=peers, me=Me.of("me", EAST, tells=True))


def meeting(view: FleetView) -> Meeting | None:
    mates = frozenset(peer.name for peer in view.peers)
    service = ServiceColumns(view, A_REQUEST, DEFAULT_WEIGHTS)
    company = Company(mates, 0.0, (), 0, 0.0)
    regions = np.array([view.places.number(node.region) for node in view.nodes])
    known = view.nodes.columns
    columns = SimpleNamespace(available=known.available, rtt_ms=known.rtt_ms, region=regions)
    return find_meeting(view, company, columns, service.score_ms, service.prefill_ms)  # type: ignore[arg-type]


def met(view: FleetView) -> Meeting:
    found = meeting(view)
    assert found is not None
    return found


def test_who_stands_in_one_place_or_alone_meets_nobody_unheard():
    assert meeting(a_fleet()) is None
    assert meeting(a_fleet((EAST, 5.0))) is None


def test_before_us_comes_what_left_within_the_way_of_the_word_and_is_nearer():
    found = met(a_fleet((WEST, 2.0)))
    prefill_ms = ServiceColumns(a_fleet((WEST, 2.0)), A_REQUEST, DEFAULT_WEIGHTS).prefill_ms
    likings = np.exp(-np.array([200.0, 100.0, 0.0]) / 200.0)
    sent = 2.0 * likings / likings.sum()
    way_s = 0.002 + 0.1
    assert found.before_ms == pytest.approx(sent * np.array([0.002, way_s, way_s + 0.1]) * prefill_ms)
    assert found.behind == pytest.approx(sent * np.array([way_s + 0.1, way_s, 0.002]))


def test_a_node_that_others_do_not_choose_costs_nothing():
    found = met(a_fleet((WEST, 2.0), waits_s=(0.0, 0.0, 60.0)))
    assert found.before_ms[2] == pytest.approx(0.0)
    assert found.before_ms[1] > 1.0


def test_it_grows_with_what_they_send_and_adds_up_over_regions():
    west, middle = met(a_fleet((WEST, 2.0))), met(a_fleet((MIDDLE, 3.0)))
    both = met(a_fleet((WEST, 1.0), (MIDDLE, 3.0), (WEST, 1.0)))
    assert both.before_ms == pytest.approx(west.before_ms + middle.before_ms)
    assert both.behind == pytest.approx(west.behind + middle.behind)


def test_where_no_node_is_usable_nothing_is_worked_out():
    view = a_fleet((WEST, 2.0))
    gone = [replace(node, unavailable="is leaving") for node in view.nodes]
    assert meeting(replace(FleetView.of(MODEL, gone, 100.0), peers=view.peers, places=view.places)) is None


def test_of_mates_whose_way_is_not_known_nothing_is_expected():
    assert meeting(a_fleet(("nowhere", 5.0))) is None
    known, mixed = met(a_fleet((WEST, 2.0))), met(a_fleet((WEST, 2.0), ("nowhere", 5.0)))
    assert mixed.before_ms == pytest.approx(known.before_ms)


def test_what_a_node_s_own_line_adds_is_the_same_for_all():
    view = a_fleet((WEST, 2.0))
    slow = [replace(node, rtt_ms=node.rtt_ms + 40.0) for node in view.nodes]
    far = replace(view, nodes=a_view(*slow).nodes)
    assert met(far).before_ms == pytest.approx(met(view).before_ms)
    assert met(far).behind == pytest.approx(met(view).behind)


def test_the_score_counts_it_with_the_prompt_at_hand_and_explains_itself():
    nodes = [a_node(name, rtt_ms=30.0) for name in "abc"]
    found = Meeting(np.array([0.0, 40.0]), np.array([0.0, 0.5]))
    view = a_view(*nodes, plan=a_plan(2, meeting=found))
    plain = a_choice(a_view(*nodes, plan=a_plan(2)))
    choice = a_choice(view)
    prefill_ms = choice.estimate(1).prefill_ms
    costs_ms = [0.0, 40.0 + 0.5 * prefill_ms, 0.0]  # the third came after the plan
    assert [choice.score_ms(at) - plain.score_ms(at) for at in range(3)] == pytest.approx(costs_ms)
    assert [choice.estimate(at).congestion_ms for at in range(3)] == pytest.approx(costs_ms)
    assert all(
        choice.estimate(one).ttft_ms == choice.estimate(other).ttft_ms for one, other in pairwise(range(3))
    )


def test_a_node_that_leaves_takes_its_cost_along():
    plan = a_plan(3, meeting=Meeting(np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0])))
    left = plan.without(0, 2).meeting
    assert left is not None
    assert (left.before_ms.tolist(), left.behind.tolist()) == ([3.0, 2.0], [6.0, 5.0])
