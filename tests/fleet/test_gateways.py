"""What other gateways tell of their traffic: the last word of each counts, until it falls silent."""

from dataclasses import replace

import pytest
from fleet_nouns import MODEL, a_dispatch, a_request, joined

from isochrone.fleet import Fleet, FleetSettings, GatewayHeard, Tick
from isochrone.fleet.gateways import Gateways
from isochrone.model import FleetView, GatewayPulse, Me, ModelFlow, name_hash


def a_word(
    gateway: str = "g", seq: int = 1, epoch: int = 1, region: str = "eu", **work_per_s
) -> GatewayPulse:
    flows = tuple(ModelFlow(model, 2 * work, work) for model, work in work_per_s.items())
    return GatewayPulse(gateway, epoch, seq, region, flows)


def heard(*words: GatewayPulse, most: int = 9) -> Gateways:
    gateways = Gateways(most, silent_s=10.0)
    for at_s, word in enumerate(words):
        gateways.hear(word, float(at_s))
    return gateways


def test_work_is_summed_over_gateways_and_kept_apart_by_model():
    gateways = heard(a_word("g", tiny=1.5, big=4.0), a_word("h", tiny=0.5), a_word("i"))
    assert [gateways.work_per_s(model) for model in ("tiny", "big", "unheard-of")] == [2.0, 4.0, 0.0]
    assert len(gateways) == 3


@pytest.mark.parametrize(
    ("epoch", "seq", "taken"),
    [(2, 5, True), (1, 6, True), (1, 5, False), (1, 4, False), (0, 9, False)],
)
def test_only_a_later_word_replaces_the_last(epoch, seq, taken):
    gateways = heard(a_word(seq=5, tiny=1.0))
    assert gateways.work_per_s("tiny") == 1.0
    gateways.hear(a_word(seq=seq, epoch=epoch, tiny=3.0), 1.0)
    assert gateways.work_per_s("tiny") == (3.0 if taken else 1.0)
    assert len(gateways) == 1


def test_what_a_gateway_no_longer_sends_it_no_longer_tells():
    assert heard(a_word(seq=1, tiny=1.0), a_word(seq=2, big=2.0)).work_per_s("tiny") == 0.0


def test_a_silent_gateway_counts_no_more():
    gateways = heard(a_word("g", tiny=1.0), a_word("h", tiny=2.0))
    gateways.forget_silent(10.0)
    assert gateways.work_per_s("tiny") == 3.0
    gateways.forget_silent(10.5)
    assert (gateways.work_per_s("tiny"), len(gateways)) == (2.0, 1)


def test_an_old_word_that_comes_again_keeps_nobody_alive():
    gateways = heard(a_word("g", tiny=1.0))
    gateways.hear(a_word("g", tiny=1.0), 9.0)
    gateways.forget_silent(11.0)
    assert (gateways.work_per_s("tiny"), len(gateways), gateways.pulses()) == (0.0, 0, ())


def test_gateways_are_bounded_and_the_one_silent_for_longest_gives_way():
    gateways = heard(a_word("g"), a_word("h"), a_word("g", seq=2), a_word("i"), most=2)
    assert [pulse.gateway for pulse in gateways.pulses()] == ["g", "i"]
    for number in range(50):
        gateways.hear(a_word(f"x{number}"), 10.0 + number)
        assert len(gateways) == 2


def test_the_peers_of_a_model_are_those_that_send_for_it():
    gateways = heard(a_word("g", tiny=1.5), a_word("h", big=1.0), a_word("i", region="us", tiny=2.5, big=1.0))
    peers = gateways.peers("tiny")
    assert [(peer.name, peer.region, peer.work_per_s) for peer in peers] == [
        ("g", "eu", 1.5),
        ("i", "us", 2.5),
    ]
    assert [peer.name_hash for peer in peers] == [name_hash("g"), name_hash("i")]


# -- through the beliefs -----------------------------------------------------------------------------


def others_work_per_s(view: FleetView) -> float:
    return sum(peer.work_per_s for peer in view.peers)


def test_a_view_tells_what_others_send_and_what_we_send():
    fleet = joined()
    fleet.step(GatewayHeard(a_word("h", tiny=1.5, big=9.0)), 1.0)
    fleet.step(GatewayHeard(a_word("i", tiny=0.25)), 1.0)
    view = fleet.view(MODEL, 1.0)
    assert (others_work_per_s(view), view.own_work_per_s) == (1.75, 0.0)
    fleet.step(a_dispatch(a_request(), service_s=5.0), 1.0)
    view = fleet.view(MODEL, 1.0)
    assert view.own_work_per_s == pytest.approx(5.0 / FleetSettings().flow_memory_s)
    assert others_work_per_s(view) == 1.75
    assert fleet.view(MODEL, 1e4).own_work_per_s == pytest.approx(0.0, abs=1e-6)


def test_a_tick_forgets_the_silent_ones():
    fleet = joined(settings=FleetSettings(silent_s=3.0))
    fleet.step(GatewayHeard(a_word("h", tiny=1.5)), 1.0)
    fleet.step(Tick(), 4.0)
    assert [pulse.gateway for pulse in fleet.gateways()] == ["h"]
    fleet.step(Tick(), 4.5)
    assert fleet.gateways() == ()
    assert others_work_per_s(fleet.view(MODEL, 4.5)) == 0.0


def test_a_view_tells_whose_it_is_and_who_else_sends():
    fleet = Fleet(me=Me.of("here", "us"))
    fleet.step(GatewayHeard(a_word("there", tiny=1.5)), 1.0)
    view = fleet.view(MODEL, 1.0)
    assert (view.me.name, view.me.region, view.me.name_hash) == ("here", "us", name_hash("here"))
    assert [(peer.name, peer.region) for peer in view.peers] == [("there", "eu")]


def test_what_we_tell_is_what_we_send_by_model():
    fleet = joined("a", "b")
    assert fleet.flows(0.0) == ()
    for number in range(4):
        fleet.step(a_dispatch(a_request(number), "ab"[number % 2], service_s=3.0), 1.0)
    fleet.step(a_dispatch(replace(a_request(9), model="other"), "a", service_s=2.0), 1.0)
    memory_s = FleetSettings().flow_memory_s
    told = {flow.model: (flow.requests_per_s, flow.work_per_s) for flow in fleet.flows(1.0)}
    assert told == {
        MODEL: (pytest.approx(4 / memory_s), pytest.approx(12 / memory_s)),
        "other": (pytest.approx(1 / memory_s), pytest.approx(2 / memory_s)),
    }
    assert fleet.flows(1e4) == ()


def test_a_steady_stream_is_told_at_its_rate():
    fleet = joined()
    for number in range(400):
        fleet.step(a_dispatch(a_request(number), service_s=0.5), number / 4)
    (flow,) = fleet.flows(100.0)
    assert flow.requests_per_s == pytest.approx(4.0, rel=0.05)
    assert flow.work_per_s == pytest.approx(2.0, rel=0.05)
