"""Capacity: what the fleet is believed to serve, what is scarce, what one more node would save; the page."""

import asyncio
import random
import subprocess
import sys

import httpx
import msgspec
import pytest
from gateway_nouns import Clock, FakeBus

from isochrone.cli.gateway import capacity_page
from isochrone.demand import ArrivalRates
from isochrone.fleet import BusChanged, CardReceived, Fleet, GatewayHeard, PulseReceived
from isochrone.gateway import Gateway, GatewaySettings, capacity
from isochrone.gateway.capacity import CapacityDesk
from isochrone.gateway.capacity_fields import capacity_fields
from isochrone.gateway.look import Look, look_at
from isochrone.gateway.settings import CapacitySettings
from isochrone.gateway.supply import Supply, gather
from isochrone.model import GatewayPulse, Load, Me, ModelFlow, ModelPulse, ModelState, NodeCard, Pulse
from isochrone.routing.estimate import PRIOR_PREFILL_BASE_MS, PRIOR_PREFILL_MS_PER_TOKEN, PRIOR_TPOT_MS
from isochrone.routing.flow import FlowFailed
from isochrone.wire.subjects import CAPACITY_PATH

SETTINGS = CapacitySettings()
RTT_MS = {("near", "near"): 1.0, ("near", "far"): 200.0, ("far", "near"): 200.0, ("far", "far"): 1.0}
NOW_S = 11.0


def ready(model: str, tpot_ms: float = 20.0) -> ModelPulse:
    return ModelPulse(model, ModelState.READY, 0.0, 50.0, 1.0, tpot_ms)


def cold(model: str, ready_in_s: float = 6.0) -> ModelPulse:
    return ModelPulse(model, ModelState.ON_DISK, ready_in_s, 50.0, 1.0, 20.0)


def a_fleet(*nodes: tuple[str, str, tuple[ModelPulse, ...]], slots: int = 2) -> Fleet:
    """Nodes as (name, region, models), seen from the region `near`."""
    fleet = Fleet(me=Me.of("gate", "near"), rtt_between=lambda a, b: RTT_MS.get((a, b)))
    for name, region, models in nodes:
        fleet.step(PulseReceived(Pulse(name, 1, 1, "d", Load(slots), models)), 10.0)
        fleet.step(CardReceived(NodeCard(name, f"http://{name}:1", region=region), "d"), 10.0)
    return fleet


def two_places() -> Fleet:
    names = (("n1", "near"), ("f1", "far"), ("f2", "far"))
    return a_fleet(*((name, region, (ready("m"),)) for name, region in names))


def supply(fleet: Fleet, **own_per_s: float) -> Supply:
    return gather(fleet, own_per_s, NOW_S, SETTINGS)


def told(fleet: Fleet, **own_per_s: float) -> dict:
    look = look_at(supply(fleet, **own_per_s), None, NOW_S, SETTINGS)
    fields = capacity_fields(look, NOW_S, SETTINGS)
    assert msgspec.json.decode(msgspec.json.encode(fields)) == fields
    return fields


def by_region(fields: dict, key: str) -> dict:
    return {each["region"]: each for each in fields[key]}


# -- what there is -------------------------------------------------------------------------------------


def test_capacity_is_slots_over_service_and_no_more_than_prompts_allow():
    few, many = (
        supply(a_fleet(("n", "near", (ready("m"),)))),
        supply(a_fleet(("n", "near", (ready("m"),)), slots=100)),
    )
    prefill_s = (50.0 + few.typical[0].prompt_tokens) / 1e3
    service_s = prefill_s + (few.typical[0].output_tokens - 1) * 20.0 / 1e3
    assert few.service_s[0, 0] == pytest.approx(service_s)
    assert few.capacity_per_s[0, 0] == pytest.approx(2 / service_s)
    assert many.capacity_per_s[0, 0] == pytest.approx(1 / prefill_s)


def test_a_node_of_unknown_speed_counts_as_the_estimate_takes_it():
    fleet = a_fleet(("n", "near", (ModelPulse("m", ModelState.READY),)))
    found = supply(fleet, m=0.1)
    prompt_s = (PRIOR_PREFILL_BASE_MS + PRIOR_PREFILL_MS_PER_TOKEN * found.typical[0].prompt_tokens) / 1e3
    answer_s = (found.typical[0].output_tokens - 1) * PRIOR_TPOT_MS / 1e3
    assert found.capacity_per_s[0, 0] == pytest.approx(2 / (prompt_s + answer_s))
    fields = told(fleet, m=0.1)
    assert fields["groups"][0]["speed_guessed"]
    assert "the speed of 1 of 1 nodes is not known: a guess stands for it" in fields["words"]


def test_nodes_that_cannot_be_chosen_are_counted_and_left_out():
    fleet = two_places()
    fleet.step(PulseReceived(Pulse("n1", 1, 2, "d", Load(2), (ready("m"),), leaving=True)), 10.5)
    found = supply(fleet)
    assert found.nodes == ("f1", "f2")
    assert found.left_out == {"node is leaving": 1}
    assert gather(fleet, {}, 99.0, SETTINGS).left_out == {"node is leaving": 1, "node silent": 2}
    fleet.step(BusChanged(connected=False), 20.0)
    assert gather(fleet, {}, 99.0, SETTINGS).nodes == ("f1", "f2")


def test_the_table_says_how_far_places_are_and_a_place_not_told_is_one_too():
    found = supply(a_fleet(("n", "near", (ready("m"),)), ("f", "far", ()), ("x", "", (ready("m"),))))
    assert found.places == ("", "far", "near")
    assert found.rtt_s.tolist() == [[0.05, 0.2, 0.001]]
    fields = told(a_fleet(("x", "", (ready("m"),)), ("idle", "far", ())), m=0.1)
    assert fields["demand"][0]["served_from"] == [{"region": "", "share": 1.0}]
    assert fields["left_out"] == {"node that serves nothing": 1}


# -- what is asked -------------------------------------------------------------------------------------


def test_the_traffic_of_all_gateways_counts_where_it_arises():
    fleet = two_places()
    for seq, name in enumerate(("a", "b")):
        flows = (ModelFlow("m", 0.25, 1.0), ModelFlow("fading", 1e-9, 1e-9))
        fleet.step(GatewayHeard(GatewayPulse(name, 1, seq, "far", flows)), NOW_S)
    found = supply(fleet, m=0.1)
    assert (found.origins, found.models) == (("near", "far"), ("m",))
    assert found.demand_per_s.tolist() == [[0.1], [0.5]]
    places = by_region(told(fleet, m=0.1), "places")
    assert (places["near"]["asked_per_s"], places["far"]["asked_per_s"]) == ({"m": 0.1}, {"m": 0.5})


def test_models_beyond_the_most_are_counted_and_those_asked_for_stay():
    fleet = a_fleet(("n", "near", (ready("a"), ready("b"), ready("c"))))
    found = gather(fleet, {"c": 1.0}, NOW_S, CapacitySettings(models_max=2))
    assert found.models == ("c", "a")
    assert found.left_out == {"model beyond the first 2": 1}


# -- what is scarce ------------------------------------------------------------------------------------


def test_an_idle_fleet_has_no_price():
    fields = told(two_places(), m=0.05)
    assert [group["price_s"] for group in fields["groups"]] == [0.0, 0.0]
    assert all(group["saving_s_per_node"] < 0.05 for group in fields["groups"])
    assert fields["demand"][0]["served_from"] == [{"region": "near", "share": 1.0}]
    assert fields["demand"][0]["unmet_per_s"] == 0.0


def test_where_the_near_place_is_full_one_more_node_there_saves_most():
    fleet = a_fleet(("n1", "near", (ready("m"),)), ("f1", "far", (ready("m"),)))
    capacity_per_s = told(fleet)["places"][1]["capacity_per_s"]["m"]
    fields = told(fleet, m=1.5 * capacity_per_s)
    groups = by_region(fields, "groups")
    assert groups["near"]["saving_s_per_node"] > groups["far"]["saving_s_per_node"] >= 0.0
    assert groups["near"]["utilisation"] >= groups["far"]["utilisation"] > 0.0
    assert {share["region"] for share in fields["demand"][0]["served_from"]} == {"near", "far"}


def test_a_full_place_has_a_price_and_what_is_not_served_is_told():
    fields = told(a_fleet(("n1", "near", (ready("m"),))), m=10.0)
    assert fields["groups"][0]["price_s"] > 0.0
    assert fields["groups"][0]["utilisation"] == pytest.approx(fields["plan"]["utilisation_most"])
    asked = fields["demand"][0]
    served = fields["places"][0]["served_per_s"]["m"]
    assert asked["unmet_per_s"] == pytest.approx(10.0 - served, abs=1e-3)
    assert asked["marginal_s"] == fields["plan"]["unmet_cost_s"]


def test_models_share_their_nodes_and_cold_ones_cost_their_loading():
    warm = ("warm", "far", (ready("b"),))
    fleet = a_fleet(("both", "near", (ready("a"), cold("b"))), warm, slots=20)
    fields = told(fleet, a=0.1, b=0.1)
    near = by_region(fields, "groups")["near"]
    assert near["models"] == [{"model": "a", "ready": 1.0}, {"model": "b", "ready": 0.0}]
    assert by_region(fields, "places")["near"]["ready_capacity_per_s"].keys() == {"a"}
    served = {pair["model"]: pair["served_from"][0]["region"] for pair in fields["demand"]}
    assert served == {"a": "near", "b": "near"}, "6 s shared by 100 requests are less than 200 ms each"
    fleet = a_fleet(("both", "near", (ready("a"), cold("b", 60.0))), warm, slots=20)
    served = {pair["model"]: pair["served_from"][0]["region"] for pair in told(fleet, a=0.1, b=0.1)["demand"]}
    assert served == {"a": "near", "b": "far"}


def test_without_demand_it_says_so_and_still_shows_the_capacity():
    fields = told(two_places())
    assert fields["words"] == ["no demand: no gateway has lately sent requests, so nothing is scarce"]
    assert fields["demand"] == []
    assert by_region(fields, "places")["far"]["capacity_per_s"]["m"] > 0.0
    assert all(group["price_s"] == group["saving_s_per_node"] == 0.0 for group in fields["groups"])


def test_a_fleet_without_nodes_or_without_a_model_that_is_asked_for_is_told_too():
    fields = told(a_fleet())
    assert (fields["groups"], fields["plan"]["failures"]) == ([], 0)
    fields = told(a_fleet(), gone=1.0)
    assert "no node can be chosen now" in fields["words"]
    assert "gone is asked for, and no node that can be chosen now has it" in fields["words"]
    assert fields["demand"][0]["unmet_per_s"] == 1.0


# -- keeping -------------------------------------------------------------------------------------------


def failing(*_args: object, **_named: object) -> FlowFailed:
    return FlowFailed("the solver ran out of time")


def test_the_last_good_plan_is_kept_through_failures_and_its_age_is_told(monkeypatch):
    good = look_at(supply(two_places(), m=0.1), None, 10.0, SETTINGS)
    monkeypatch.setattr("isochrone.gateway.look.solve", failing)
    later = look_at(supply(a_fleet(("new", "near", (ready("m"),))), m=0.5), good, 17.0, SETTINGS)
    fields = capacity_fields(later, 18.0, SETTINGS)
    assert (fields["plan"]["age_s"], fields["plan"]["failures"]) == (8.0, 1)
    assert fields["demand"][0]["requests_per_s"] == 0.1
    expected = "the latest plan failed: the solver ran out of time; the last good plan is shown"
    assert expected in fields["words"]


def test_without_any_plan_the_capacity_is_shown_all_the_same(monkeypatch):
    monkeypatch.setattr("isochrone.gateway.look.solve", failing)
    fields = told(two_places(), m=0.1)
    assert fields["plan"]["failed"] == "the solver ran out of time"
    assert (fields["plan"]["status"], fields["plan"]["age_s"]) == (None, None)
    assert fields["places"][0]["capacity_per_s"]["m"] > 0.0
    assert fields["demand"][0]["unmet_per_s"] is None


# -- the page ------------------------------------------------------------------------------------------


def counted(monkeypatch) -> list[float]:
    """When each look was made, from now on."""
    made: list[float] = []
    real = capacity._look_at

    def look(found: Supply, last: Look | None, now_s: float, settings: CapacitySettings) -> tuple[Look, dict]:
        made.append(now_s)
        return real(found, last, now_s, settings)

    monkeypatch.setattr("isochrone.gateway.capacity._look_at", look)
    return made


async def test_all_who_ask_within_the_refresh_see_one_look(monkeypatch):
    made, clock = counted(monkeypatch), Clock(10.0)
    desk = CapacityDesk(SETTINGS, fleet=two_places(), rates=ArrivalRates(), clock=clock)
    first, second = await asyncio.gather(desk.look(), desk.look())
    clock.at_s = 14.9
    third = await desk.look()
    assert (made, first == second) == ([10.0], True)
    assert third["plan"]["age_s"] == 4.9
    clock.at_s = 15.0
    await desk.look()
    assert made == [10.0, 15.0]
    await desk.stop()


async def test_a_look_goes_on_when_the_one_who_asked_leaves(monkeypatch):
    made = counted(monkeypatch)
    desk = CapacityDesk(SETTINGS, fleet=two_places(), rates=ArrivalRates(), clock=Clock(10.0))
    asked = asyncio.create_task(desk.look())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asked.cancel()
    assert (await desk.look())["plan"]["status"] == "nothing is asked"
    assert made == [10.0]
    await desk.stop()


async def test_the_gateway_serves_it_with_its_own_arrivals():
    settings = GatewaySettings(name="gate", port=0, region="near")
    pages = {CAPACITY_PATH: lambda: capacity_page(gate)}
    gate = Gateway(
        settings, fleet=two_places(), bus=FakeBus(), clock=Clock(NOW_S), luck=random.Random(1), pages=pages
    )
    gate.rates.arrived("m", NOW_S)
    port = await gate.start()
    async with httpx.AsyncClient(trust_env=False) as client:
        response = await client.get(f"http://127.0.0.1:{port}{CAPACITY_PATH}")
    await gate.stop()
    fields = response.json()
    assert (response.status_code, fields["gateway"], fields["region"]) == (200, "gate", "near")
    assert fields["demand"][0]["model"] == "m"
    assert {group["region"] for group in fields["groups"]} == {"near", "far"}


def test_the_gateway_is_imported_without_the_solver():
    check = "import sys, isochrone.gateway, isochrone.dashboard; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
