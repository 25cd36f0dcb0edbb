"""Plans of large fleets are made aside: what they are made from, when they count, and what a failure does."""

import threading

import numpy as np
import pytest
from gateway_nouns import MODEL, READY, Clock, a_fleet, a_membership

from isochrone.fleet import CardReceived, LoadReported, PulseReceived
from isochrone.gateway import planner
from isochrone.gateway.membership import Membership
from isochrone.gateway.settings import GatewaySettings
from isochrone.model import FleetView, Load, NodeCard, Plan, Pulse, Request
from isochrone.routing import Router, find_policy, make_plan

NODES = ("a", "b", "c")
REQUEST, SOONEST = Request("r", MODEL, prompt_bytes=400), Router(find_policy("soonest"))


class Thread:
    """Stands between the planner and `make_plan`: holds it up, and notes where it was made from what."""

    def __init__(self) -> None:
        self.may_go, self.error = threading.Event(), None
        self.seen: list[tuple[int, FleetView]] = []

    def make_plan(self, view: FleetView, *rest, **more) -> Plan:
        self.seen.append((threading.get_ident(), view))
        assert self.may_go.wait(60.0)
        if self.error is not None:
            raise self.error
        return make_plan(view, *rest, **more)


class Lab:
    """A membership whose fleets of more than two nodes are planned aside."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *nodes: str) -> None:
        self.thread, self.clock, self.log = Thread(), Clock(), list[str]()
        monkeypatch.setattr(planner, "make_plan", self.thread.make_plan)
        settings, fleet = GatewaySettings(plan_at_once_nodes_max=2), a_fleet(*nodes)
        self.membership: Membership = a_membership(settings, fleet, clock=self.clock, log=self.log.append)
        self.planner = self.membership._planner

    def view(self) -> FleetView:
        return self.membership.view(REQUEST, SOONEST)

    async def planned(self) -> Plan | None:
        """The plan in force once none is under way."""
        self.thread.may_go.set()
        await self.planner.settled()
        return self.membership.fleet.view(MODEL, self.clock.now_s()).plan

    def join(self, name: str) -> None:
        self.membership.fleet.step(PulseReceived(Pulse(name, 1, 1, "d", Load(2), (READY,))), 1000.0)
        self.membership.fleet.step(CardReceived(NodeCard(name, "http://n:1"), "d"), 1000.0)


@pytest.fixture
async def lab(monkeypatch):
    lab = Lab(monkeypatch, *NODES)
    yield lab
    lab.thread.may_go.set()
    await lab.membership.stop()


async def test_a_large_fleet_is_planned_in_another_thread_and_nobody_waits_for_it(lab):
    assert lab.view().plan is None
    plan = await lab.planned()
    assert plan is not None
    assert len(plan.edges) == len(NODES)
    ((thread, _),) = lab.thread.seen
    assert thread != threading.get_ident()
    assert lab.view().plan is plan


async def test_a_small_fleet_is_planned_at_once(monkeypatch):
    lab = Lab(monkeypatch, "a", "b")
    lab.thread.may_go.set()
    assert lab.view().plan is not None
    ((thread, _),) = lab.thread.seen
    assert thread == threading.get_ident()
    await lab.membership.stop()


async def test_what_is_heard_meanwhile_does_not_change_what_the_plan_is_made_from(lab):
    began = make_plan(lab.view(), REQUEST, SOONEST.weights)
    busy = Load(2, running=2, queued=9, wait_s=30.0, backlog_s=60.0)
    for name in NODES[:2]:
        lab.membership.step(LoadReported(name, busy))
    assert make_plan(lab.view(), REQUEST, SOONEST.weights).edges[-1] != began.edges[-1]
    plan = await lab.planned()
    assert np.array_equal(plan.edges, began.edges)
    assert np.array_equal(plan.others_flow, began.others_flow)


async def test_one_plan_at_a_time_is_made_for_a_model(lab):
    lab.view()
    lab.clock.at_s += 1.0
    lab.view()
    first = await lab.planned()
    assert len(lab.thread.seen) == 1
    assert first.made_at_s == 1000.0
    assert lab.view().plan is first  # it is old by now, and in force until the next is there
    assert (await lab.planned()).made_at_s == 1001.0


async def test_a_plan_from_before_nodes_came_or_went_does_not_count(lab):
    """Also when as many came as went: its numbers are those of other nodes."""
    lab.view()
    lab.membership.step(PulseReceived(Pulse("a", 1, 2, "digest", Load(2), ())))
    lab.join("d")
    assert len(lab.view().nodes) == len(NODES)
    assert await lab.planned() is None
    lab.view()
    assert await lab.planned() is not None


@pytest.mark.parametrize("nodes", [NODES, NODES[:2]], ids=["aside", "at once"])
async def test_a_failure_is_told_and_tried_again_a_little_later(monkeypatch, nodes):
    lab = Lab(monkeypatch, *nodes)
    lab.thread.may_go.set()
    lab.thread.error = ZeroDivisionError("no nodes")
    assert len(lab.view().nodes) == len(nodes)  # requests go on without
    assert await lab.planned() is None
    (line,) = lab.log
    assert f"no plan for {MODEL!r} could be made" in line
    assert "ZeroDivisionError('no nodes')" in line
    lab.thread.error = None
    lab.clock.at_s += 4.9
    lab.view()
    assert (await lab.planned(), len(lab.thread.seen)) == (None, 1)
    lab.clock.at_s += 0.2
    lab.view()
    assert await lab.planned() is not None
    assert len(lab.log) == 1
    await lab.membership.stop()


@pytest.mark.parametrize("nodes", [NODES, NODES[:2]], ids=["aside", "at once"])
async def test_while_no_plan_can_be_made_the_last_good_one_stays_and_is_told_once(monkeypatch, nodes):
    lab = Lab(monkeypatch, *nodes)
    lab.thread.may_go.set()
    lab.view()
    good = await lab.planned()
    assert good is not None
    lab.thread.error = ZeroDivisionError("no nodes")
    for period in (1, 2):
        lab.clock.at_s += 5.1
        for _ in range(20):
            assert lab.view().plan is good
            assert await lab.planned() is good
            lab.clock.at_s += 0.2
        assert (len(lab.log), len(lab.thread.seen)) == (period, 1 + period)
    await lab.membership.stop()


async def test_the_end_does_not_wait_for_a_plan(monkeypatch):
    lab = Lab(monkeypatch, *NODES)
    lab.view()
    await lab.membership.stop()
    assert not lab.log
    lab.thread.may_go.set()
    assert lab.membership.fleet.view(MODEL, 1000.0).plan is None
