"""The fleet as plain values: complete, encodable, and right for nodes of which little is known."""

import msgspec

from isochrone.dashboard import status_fields, whole_status
from isochrone.demand import ArrivalRates
from isochrone.fleet import BusChanged, CardReceived, Dispatched, Fleet, PulseReceived
from isochrone.model import Estimate, Load, ModelPulse, ModelState, NodeCard, Pulse, Request

BUSY = Load(slots=2, running=2, queued=3, wait_s=4.0, backlog_s=10.0, kv_used=0.375)
MEASURED = ModelPulse("big", ModelState.READY, 0.0, 30.0, 2.0, 20.0)
UNKNOWN = ModelPulse("small", ModelState.ON_DISK, 6.0)


def a_fleet() -> Fleet:
    fleet = Fleet()
    for name, load in (("b", Load(1)), ("a", BUSY)):
        models = (MEASURED, UNKNOWN) if name == "a" else (UNKNOWN,)
        fleet.step(PulseReceived(Pulse(name, 1, 1, "d", load, models, memory_free_bytes=7)), 10.0)
        card = NodeCard(name, f"http://{name}:1", "op", "eu", "llama.cpp", memory_bytes=9)
        fleet.step(CardReceived(card, "d"), 10.0)
    fleet.step(PulseReceived(Pulse("cardless", 1, 1, "d", Load(1))), 10.0)
    return fleet


def test_what_is_told_of_nodes():
    told = status_fields(a_fleet(), ArrivalRates(), 11.0)
    first, second = told["nodes"]
    assert (first["node"], second["node"]) == ("a", "b")
    assert (first["slots"], first["running"], first["queued"], first["queue_s"]) == (2, 2, 3, 3.0)
    assert (first["kv_used"], second["kv_used"]) == (0.375, 0.0)
    assert (first["operator"], first["region"], first["engine"]) == ("op", "eu", "llama.cpp")
    assert (first["memory_bytes"], first["memory_free_bytes"], first["age_s"]) == (9, 7, 1.0)
    assert first["unavailable"] is None
    assert not first["rtt_measured"]


def test_what_is_told_of_models():
    told = status_fields(a_fleet(), ArrivalRates(), 11.0)
    big, small = told["nodes"][0]["models"]
    assert (big["model"], big["state"], big["ready_in_s"]) == ("big", "ready", 0.0)
    assert (big["prefill_tokens_per_s"], big["decode_tokens_per_s"]) == (500.0, 50.0)
    assert (small["state"], small["ready_in_s"]) == ("on_disk", 6.0)
    assert small["prefill_tokens_per_s"] is None
    assert small["decode_tokens_per_s"] is None


def test_traffic_and_own_work_are_told():
    fleet, rates = a_fleet(), ArrivalRates()
    for tick in range(200):
        rates.arrived("big", tick / 10)
    fleet.step(Dispatched(Request("r", "big"), "a", Estimate(1, 0, 0, 9, 0, 0, 0, 1, 0, 1, 0)), 20.0)
    told = status_fields(fleet, rates, 20.0)
    assert [model["model"] for model in told["models"]] == ["big", "small"]
    assert 9 < told["models"][0]["requests_per_s"] < 11
    assert told["models"][1] == {"model": "small", "requests_per_s": 0.0, "growth": 1.0}
    assert told["in_flight"] == told["nodes"][0]["own_in_flight"] == 1


def test_silence_and_a_lost_bus_are_told():
    fleet = a_fleet()
    assert status_fields(fleet, ArrivalRates(), 99.0)["nodes"][0]["unavailable"] == "silent for 89.0 s"
    fleet.step(BusChanged(connected=False), 20.0)
    told = status_fields(fleet, ArrivalRates(), 99.0)
    assert told["bus_up"] is False
    assert told["nodes"][0]["unavailable"] is None


def test_all_of_it_is_json():
    told = status_fields(a_fleet(), ArrivalRates(), 11.0)
    assert msgspec.json.decode(msgspec.json.encode(told)) == told


def test_an_empty_fleet_has_a_status_too():
    told = status_fields(Fleet(), ArrivalRates(), 0.0)
    assert told == {"bus_up": True, "in_flight": 0, "models": [], "nodes": []}


def test_a_gateway_of_several_workers_tells_the_traffic_of_all():
    own, other = (
        {
            "gateway": name,
            "in_flight": in_flight,
            "models": [{"model": "big", "requests_per_s": 0.1 * in_flight, "growth": 1.0}],
            "nodes": [{"node": "a", "rtt_ms": rtt_ms, "own_in_flight": in_flight}],
        }
        for name, in_flight, rtt_ms in (("g-w1", 2, 5.0), ("g-w0", 3, 6.0))
    )
    told = whole_status(own, [other])
    assert told["gateway"] == "g-w1"
    assert told["in_flight"] == 5
    assert told["models"] == [{"model": "big", "requests_per_s": 0.5, "growth": 1.0}]
    assert told["nodes"] == [{"node": "a", "rtt_ms": 5.0, "own_in_flight": 5}]
    assert told["workers"] == [
        {"gateway": "g-w0", "in_flight": 3, "nodes": 1},
        {"gateway": "g-w1", "in_flight": 2, "nodes": 1},
    ]


def test_a_gateway_alone_is_its_only_worker():
    own = {"gateway": "g", **status_fields(a_fleet(), ArrivalRates(), 11.0)}
    told = whole_status(own, [])
    assert told == {**own, "workers": [{"gateway": "g", "in_flight": 0, "nodes": 2}]}
