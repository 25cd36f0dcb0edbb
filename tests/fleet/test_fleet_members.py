"""Who is known: joining, order of pulses, silence, leaving, bounds."""

from dataclasses import replace

import pytest
from fleet_nouns import IDLE, MODEL, READY, a_card, a_pulse, joined, seen

from isochrone.fleet import (
    BusChanged,
    CardWanted,
    Fleet,
    FleetSettings,
    LoadReported,
    NodeForgotten,
    NodeJoined,
    NodeReturned,
    NodeSilent,
    PulseReceived,
    RttMeasured,
    Tick,
)
from isochrone.model import Load, Me


def pulse(fleet: Fleet, now_s: float, **facts):
    return fleet.step(PulseReceived(a_pulse(**facts)), now_s)


def test_a_node_is_known_by_its_card_and_its_pulse():
    fleet = Fleet()
    assert pulse(fleet, 0.0) == (CardWanted("a"),)
    assert not fleet.view(MODEL, 0.0).nodes
    assert fleet.belief("a") is None
    assert fleet.step(a_card(region="eu", failure_domains=("rack:1",)), 0.1) == (NodeJoined("a"),)
    (view,) = fleet.view(MODEL, 0.1).nodes
    assert (view.node, view.url, view.region, view.failure_domains) == ("a", "http://a:1", "eu", ("rack:1",))
    assert view.unavailable is None
    assert pulse(fleet, 1.0, seq=2) == ()
    assert fleet.step(a_card(), 1.1) == ()


def test_a_card_without_a_pulse_is_no_node():
    fleet = Fleet()
    assert fleet.step(a_card(), 0.0) == ()
    assert list(fleet.beliefs()) == []
    assert fleet.models() == ()


def test_only_nodes_that_list_the_model_are_seen():
    fleet = joined("c", "a", "b")
    fleet.step(PulseReceived(a_pulse("b", seq=2, models=(replace(READY, name="other"),))), 1.0)
    assert sorted(view.node for view in fleet.view(MODEL, 1.0).nodes) == ["a", "c"]
    assert fleet.models() == ("other", MODEL)


def test_a_model_that_a_pulse_no_longer_lists_is_gone():
    fleet = joined()
    pulse(fleet, 1.0, seq=2, models=())
    assert not fleet.view(MODEL, 1.0).nodes


@pytest.mark.parametrize(("epoch", "seq"), [(5, 5), (5, 4), (4, 99)])
def test_what_is_not_newer_is_dropped(epoch, seq):
    fleet = joined(epoch=5, seq=5)
    assert pulse(fleet, 3.0, epoch=epoch, seq=seq, load=Load(1, running=1), card_digest="new") == ()
    assert seen(fleet, 3.0).free_slots == 1
    assert seen(fleet, 3.0).age_s == 3.0


@pytest.mark.parametrize(("epoch", "seq"), [(5, 6), (6, 1)])
def test_what_is_newer_counts(epoch, seq):
    fleet = joined(epoch=5, seq=5)
    pulse(fleet, 3.0, epoch=epoch, seq=seq, load=Load(2, running=1))
    assert (seen(fleet, 3.0).slots, seen(fleet, 3.0).free_slots) == (2, 1)
    assert seen(fleet, 3.0).age_s == 0.0


def test_a_new_card_is_asked_for_now_and_then_until_it_is_here():
    fleet = joined(settings=FleetSettings(card_retry_s=1.0))
    asked = [(CardWanted("a") in pulse(fleet, 10 + at / 4, seq=2 + at, card_digest="new")) for at in range(9)]
    assert asked == [True, False, False, False, True, False, False, False, True]
    assert fleet.step(replace(a_card(), digest="new"), 12.5) == ()
    assert pulse(fleet, 20.0, seq=99, card_digest="new") == ()


def test_silence_is_told_once_and_so_is_the_return():
    fleet = joined(settings=FleetSettings(silent_s=3.0))
    assert fleet.step(Tick(), 3.0) == ()
    assert seen(fleet, 3.0).unavailable is None
    assert fleet.step(Tick(), 3.5) == (NodeSilent("a", 3.5),)
    assert seen(fleet, 3.5).unavailable == "silent for 3.5 s"
    assert fleet.step(Tick(), 4.5) == ()
    assert pulse(fleet, 5.0, seq=2) == (NodeReturned("a"),)
    assert seen(fleet, 5.0).unavailable is None
    assert pulse(fleet, 6.0, seq=3) == ()
    assert fleet.step(Tick(), 9.5) == (NodeSilent("a", 3.5),)


def test_a_load_in_an_answer_is_news_too():
    fleet = joined(settings=FleetSettings(silent_s=3.0))
    assert fleet.step(LoadReported("a", Load(4, running=3)), 2.0) == ()
    assert fleet.step(Tick(), 4.5) == ()
    assert seen(fleet, 4.5).free_slots == 1
    assert fleet.step(LoadReported("stranger", IDLE), 4.5) == ()


def test_silence_after_an_answer_of_a_silent_node_is_told_again():
    """It may be chosen again since it answered, so those who chose it must hear of its second silence."""
    fleet = joined(settings=FleetSettings(silent_s=3.0))
    assert fleet.step(Tick(), 4.0) == (NodeSilent("a", 4.0),)
    fleet.step(LoadReported("a", IDLE), 5.0)
    assert seen(fleet, 5.0).unavailable is None
    assert fleet.step(Tick(), 9.0) == (NodeSilent("a", 4.0),)


def test_silence_says_nothing_while_the_bus_is_down():
    fleet = joined(settings=FleetSettings(silent_s=3.0, forget_s=60.0))
    fleet.step(BusChanged(connected=False), 1.0)
    assert not fleet.bus_up
    assert fleet.step(Tick(), 100.0) == ()
    assert seen(fleet, 100.0).unavailable is None
    fleet.step(BusChanged(connected=True), 100.0)
    assert fleet.bus_up
    assert fleet.step(Tick(), 103.0) == ()
    assert seen(fleet, 103.0).unavailable is None
    assert fleet.step(Tick(), 103.5) == (NodeSilent("a", 3.5),)


def test_the_bus_coming_back_makes_the_load_no_fresher():
    fleet = joined()
    fleet.step(BusChanged(connected=False), 1.0)
    fleet.step(BusChanged(connected=True), 9.0)
    assert seen(fleet, 10.0).age_s == 10.0


def test_a_node_silent_since_before_the_bus_was_down_is_told_silent_again():
    """The bus's return makes it eligible for its full time, so its silence after that is news."""
    fleet = joined(settings=FleetSettings(silent_s=3.0))
    assert fleet.step(Tick(), 4.0) == (NodeSilent("a", 4.0),)
    fleet.step(BusChanged(connected=False), 5.0)
    fleet.step(BusChanged(connected=True), 10.0)
    assert seen(fleet, 11.0).unavailable is None
    assert fleet.step(Tick(), 14.0) == (NodeSilent("a", 4.0),)


def test_a_leaving_node_takes_no_more_and_is_forgotten_soon():
    fleet = joined(settings=FleetSettings(silent_s=3.0, forget_s=60.0))
    pulse(fleet, 1.0, seq=2, leaving=True)
    assert seen(fleet, 1.0).unavailable == "is leaving"
    assert fleet.step(Tick(), 3.9) == ()
    assert fleet.step(Tick(), 4.1) == (NodeForgotten("a"),)
    assert fleet.belief("a") is None


def test_a_node_that_stays_after_all_is_usable_again():
    fleet = joined()
    pulse(fleet, 1.0, seq=2, leaving=True)
    pulse(fleet, 2.0, epoch=2, seq=1)
    assert seen(fleet, 2.0).unavailable is None


def test_long_silence_is_forgotten_and_a_return_is_a_new_joining():
    fleet = joined(settings=FleetSettings(silent_s=3.0, forget_s=60.0))
    fleet.step(Tick(), 10.0)
    assert fleet.step(Tick(), 60.0) == ()
    assert fleet.step(Tick(), 60.5) == (NodeForgotten("a"),)
    assert fleet.step(Tick(), 70.0) == ()
    assert pulse(fleet, 80.0, seq=90) == (CardWanted("a"),)
    assert fleet.step(a_card(), 80.1) == (NodeJoined("a"),)


def test_a_fleet_is_bounded_and_room_comes_free():
    fleet = joined("a", "b", settings=FleetSettings(nodes_max=2, silent_s=3.0))
    assert fleet.step(PulseReceived(a_pulse("c")), 1.0) == ()
    assert fleet.step(a_card("c"), 1.0) == ()
    assert [belief.name for belief in fleet.beliefs()] == ["a", "b"]
    assert fleet.step(PulseReceived(a_pulse("a", seq=2, leaving=True)), 1.0) == ()
    fleet.step(PulseReceived(a_pulse("b", seq=2)), 4.0)
    assert fleet.step(Tick(), 4.5) == (NodeForgotten("a"),)
    assert fleet.step(PulseReceived(a_pulse("c", seq=5)), 5.0) == (CardWanted("c"),)


def test_the_round_trip_is_the_tables_until_it_is_measured():
    fleet = Fleet(me=Me.of("g", "us"), rtt_between=lambda *regions: {("us", "eu"): 12.0}.get(regions))
    pulse(fleet, 0.0)
    fleet.step(a_card(region="eu"), 0.0)
    assert (seen(fleet, 0.0).rtt_ms, seen(fleet, 0.0).rtt_measured) == (12.0, False)
    fleet.step(RttMeasured("a", 40.0), 1.0)
    assert (seen(fleet, 1.0).rtt_ms, seen(fleet, 1.0).rtt_measured) == (40.0, True)
    fleet.step(a_card(region="eu"), 2.0)
    assert seen(fleet, 2.0).rtt_ms == 40.0
    fleet.step(RttMeasured("stranger", 1.0), 2.0)


def test_a_region_off_the_table_is_neither_near_nor_free():
    fleet = joined()
    assert seen(fleet, 0.0).rtt_ms > 0


def test_a_new_life_of_a_node_keeps_its_round_trip():
    fleet = joined(rtt_ms=7.0)
    pulse(fleet, 1.0, epoch=2)
    assert seen(fleet, 1.0).rtt_ms == 7.0
