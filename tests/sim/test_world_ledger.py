"""In a world gateways tell each other what they send as live ones do: after a moment and a way."""

from collections.abc import Callable
from functools import partial
from typing import Any

from world_nouns import run_world, scenario

from isochrone.fleet import Dispatched, LedgerHeard
from isochrone.routing import DEFAULT_COMPANY_SETTINGS
from isochrone.sim.world.world import World

OLD_NEWS = {"bus.pulse_s": 3, "bus.load_in_responses": False, "gateways.count": 4}


def test_gateways_that_tell_hear_of_each_dispatch_of_each_other() -> None:
    ran = run_world(scenario({"gateways.count": 3}), "soonest")
    heard = [gateway.fleet.told for gateway in ran.world.gateways]
    told = [gateway.teller.told for gateway in ran.world.gateways]
    # Two hear of each, but for what comes while one knows of a new gateway and another does not yet.
    assert 0.95 * 2 * sum(told) <= sum(heard) <= 2 * sum(told)
    assert min(heard) > 0
    assert ran.world.counters()["ledger_news"] > 0
    assert ran.kinds() == {"answered": len(ran.jobs)}


def test_others_neither_tell_nor_hear() -> None:
    for policy in ("soonest:told=0", "predicted-latency", "p2c"):
        ran = run_world(scenario({"gateways.count": 3}), policy)
        assert ran.world.counters()["ledger_news"] == 0
        assert all(gateway.fleet.told == gateway.teller.told == 0 for gateway in ran.world.gateways)


def test_a_policy_without_a_plan_may_heed_it_too() -> None:
    ran = run_world(scenario({"gateways.count": 3}), "predicted-latency:told=1")
    assert sum(gateway.fleet.told for gateway in ran.world.gateways) > 0


def test_what_ended_is_told_too_so_that_nothing_stays_behind() -> None:
    ran = run_world(scenario(OLD_NEWS), "soonest")
    ended_s = ran.world.agenda.now_s
    while ran.world.agenda.next_s < ended_s + 1.0:  # the last news are on their way yet
        ran.world.agenda.step()
    assert any(gateway.fleet.told for gateway in ran.world.gateways)
    for gateway in ran.world.gateways:
        assert gateway.fleet.in_flight == 0
        assert (
            sum(len(node._ledger.told) for node in gateway.fleet.beliefs() if node._ledger is not None) == 0
        )


def test_news_are_told_after_a_moment_and_their_way() -> None:
    sent_s: dict[str, float] = {}
    ages: list[float] = []

    def watch(world: World) -> None:
        for gateway in world.gateways:
            gateway.step = partial(noted, gateway.step)  # type: ignore[method-assign]

    def noted(step: Callable[[Any, float], None], event: Any, now_s: float) -> None:
        if isinstance(event, Dispatched):
            sent_s[event.request.id] = now_s
        elif isinstance(event, LedgerHeard):
            ages.extend(now_s - sent_s[work.request] for work in event.news.sent)
        step(event, now_s)

    ran = run_world(scenario({"bus.jitter": 0}), "soonest", prepare=watch)
    ways_s = [ran.world.network.between_s(0, 1), ran.world.network.between_s(1, 0)]
    assert min(ways_s) > 0.01  # they stand on two continents
    assert ages
    assert min(ways_s) - 1e-9 <= min(ages)
    assert max(ages) <= max(ways_s) + DEFAULT_COMPANY_SETTINGS.told_after_s + 1e-9


def test_nothing_is_told_across_a_partition() -> None:
    faults = [{"kind": "partition", "at_s": 0, "duration_s": 1000, "region": "East US"}]
    ran = run_world(scenario({"gateways.count": 2, "faults": faults}), "soonest")
    assert sum(gateway.teller.told for gateway in ran.world.gateways) > 0
    assert [gateway.fleet.told for gateway in ran.world.gateways] == [0, 0]


def test_with_old_news_telling_makes_answers_sooner() -> None:
    many = scenario(OLD_NEWS | {"traffic.rate_per_s": 16})
    told, untold = (run_world(many, policy).answered("ttft_ms") for policy in ("soonest", "soonest:told=0"))
    assert told.mean() < 0.97 * untold.mean()
