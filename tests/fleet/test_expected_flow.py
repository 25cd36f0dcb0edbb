"""What plans expect of everybody else: it flows from the plan on, and the next report knows it all."""

from dataclasses import fields, replace

import numpy as np
import pytest
from fleet_nouns import MODEL, READY, a_card, a_plan, a_pulse, joined, seen

from isochrone.fleet import Fleet, LoadReported, LoadsReceived, PulseReceived, RttMeasured, Tick
from isochrone.model import Homes, Load

BUSY = Load(1, running=1, wait_s=10.0, backlog_s=10.0)
OTHER = replace(READY, name="other")
BOTH = (READY, OTHER)


def waits(fleet: Fleet, *times_s: float, node: str = "a") -> list[float]:
    """As one node tells it, which must be what the columns tell."""
    told = [seen(fleet, now_s, node).wait_s for now_s in times_s]
    for now_s, wait_s in zip(times_s, told, strict=True):
        nodes = fleet.view(MODEL, now_s).nodes
        assert nodes.columns.wait_s[nodes.index_of(node)] == pytest.approx(wait_s)
    return told


def told_at(*heard_at_s: float) -> LoadsReceived:
    """A batch in which the first nodes say that they are busy, each heard at its own time."""
    nodes = len(heard_at_s)
    loads = {field.name: np.full(nodes, getattr(BUSY, field.name)) for field in fields(Load)}
    return LoadsReceived(np.arange(nodes), np.full(nodes, 9), np.array(heard_at_s), **loads)


def test_without_a_plan_others_are_taken_to_send_what_they_sent():
    fleet = joined(load=replace(BUSY, inflow=0.5))
    assert waits(fleet, 0.0, 2.0, 4.0) == pytest.approx([10.0, 9.0, 8.0])


def test_what_is_expected_of_others_flows_from_the_plan_on():
    fleet = joined(load=BUSY)
    fleet.step(a_plan(0.5), 2.0)
    assert waits(fleet, 2.0, 4.0, 6.0) == pytest.approx([8.0, 7.0, 6.0])


def test_a_newer_plan_says_what_flows_from_then_on():
    fleet = joined(load=BUSY)
    fleet.step(a_plan(0.5), 2.0)
    fleet.step(a_plan(1.0), 4.0)
    fleet.step(a_plan(0.0), 6.0)
    assert waits(fleet, 6.0, 7.0) == pytest.approx([10.0 - 6.0 + 1.0 + 2.0, 6.0])


def test_many_plans_that_say_the_same_are_one():
    once, often = joined(load=BUSY), joined(load=BUSY)
    once.step(a_plan(0.5), 1.0)
    for now_s in np.arange(1.0, 5.0, 0.2):
        often.step(a_plan(0.5), float(now_s))
    assert waits(often, 5.0, 8.0) == pytest.approx(waits(once, 5.0, 8.0))


def test_a_report_knows_all_that_came_before_it():
    fleet = joined(load=BUSY)
    fleet.step(a_plan(0.5), 2.0)
    fleet.step(LoadReported("a", replace(BUSY, wait_s=3.0)), 6.0)
    assert waits(fleet, 6.0, 8.0) == pytest.approx([3.0, 2.0])
    fleet.step(a_plan(1.0), 8.0)
    assert waits(fleet, 8.0, 9.0) == pytest.approx([2.0, 2.0])


def test_a_pulse_is_such_a_report_as_well():
    fleet = joined(load=BUSY)
    fleet.step(a_plan(0.5), 2.0)
    fleet.step(PulseReceived(a_pulse(seq=2, load=BUSY)), 6.0)
    assert waits(fleet, 8.0) == pytest.approx([9.0])


@pytest.mark.parametrize("planned_at_s", [(), (4.5,), (5.0,), (4.5, 5.0, 5.5)])
def test_plans_between_hearing_and_folding_in_do_not_count_others_twice(planned_at_s):
    """A batch is folded in a little after it was heard: it knows all up to its hearing, and nothing after."""
    fleet = joined(load=BUSY)
    for at_s in (2.0, *planned_at_s):
        fleet.step(a_plan(0.5), at_s)
    fleet.step(told_at(4.0), 6.0)
    assert waits(fleet, 6.0, 8.0) == pytest.approx([10.0 - 2.0 + 1.0, 10.0 - 4.0 + 2.0])


def test_a_pulse_that_is_folded_in_late_is_right_for_each_node_of_its_batch():
    fleet = joined("a", "b", load=BUSY)
    fleet.step(a_plan(0.5, 1.0), 5.0)
    fleet.step(told_at(4.0, 6.0), 7.0)
    assert waits(fleet, 8.0) == pytest.approx([10.0 - 4.0 + 2.0])
    assert waits(fleet, 8.0, node="b") == pytest.approx([10.0])


def test_a_plan_takes_the_place_of_what_the_node_tells_of_its_inflow():
    fleet = joined(load=replace(BUSY, inflow=5.0))
    fleet.step(a_plan(0.0), 0.0)
    assert waits(fleet, 0.0, 4.0) == pytest.approx([10.0, 6.0])


def test_each_node_has_its_own_flow():
    fleet = joined("a", "b", load=BUSY)
    fleet.step(a_plan(0.5, 0.0), 0.0)
    assert waits(fleet, 4.0) == pytest.approx([8.0])
    assert waits(fleet, 4.0, node="b") == pytest.approx([6.0])


def test_the_flows_of_several_models_add_up():
    fleet = joined(load=BUSY, models=BOTH)
    fleet.step(a_plan(0.25), 0.0)
    fleet.step(a_plan(0.5, model="other"), 2.0)
    assert waits(fleet, 2.0, 4.0) == pytest.approx([8.5, 8.0])
    fleet.step(a_plan(0.0), 4.0)
    assert waits(fleet, 6.0) == pytest.approx([7.0])


def test_what_was_expected_for_a_model_is_taken_back_when_the_node_drops_it():
    fleet = joined("a", "b", load=BUSY, models=BOTH)
    fleet.step(a_plan(0.25, 0.25), 0.0)
    fleet.step(a_plan(0.5, 0.5, model="other"), 0.0)
    fleet.step(PulseReceived(a_pulse("a", seq=2, load=BUSY, models=(READY,))), 4.0)
    assert waits(fleet, 4.0, 8.0) == pytest.approx([10.0, 7.0])
    assert waits(fleet, 4.0, 8.0, node="b") == pytest.approx([9.0, 8.0])


def test_a_model_that_comes_back_begins_without_expectations():
    fleet = joined(load=BUSY, models=BOTH)
    fleet.step(a_plan(0.5, model="other"), 0.0)
    for seq, models in ((2, (READY,)), (3, BOTH)):
        fleet.step(PulseReceived(a_pulse(seq=seq, load=BUSY, models=models)), 4.0)
    assert waits(fleet, 8.0) == pytest.approx([6.0])
    fleet.step(a_plan(0.5, model="other"), 8.0)
    assert waits(fleet, 10.0) == pytest.approx([5.0])


def test_what_flows_never_falls_below_nothing():
    """Whatever the order in which models come, are planned and go."""
    fleet, seq = joined("a", "b", load=BUSY, models=BOTH), 1
    for flow in (0.5, 0.3, 0.7):
        fleet.step(a_plan(flow, flow), float(seq))
        fleet.step(a_plan(flow, flow, model="other"), float(seq))
        for models in ((READY,), (OTHER,), BOTH):
            seq += 1
            fleet.step(PulseReceived(a_pulse("a", seq=seq, load=BUSY, models=models)), float(seq))
    assert waits(fleet, seq + 4.0) == pytest.approx([6.0])


@pytest.mark.parametrize("flows", [(), (0.5, 0.5, 0.5)])
def test_a_plan_of_the_wrong_length_is_ignored(flows):
    """Nodes went while it was made."""
    fleet = joined("a", "b", load=BUSY)
    fleet.step(a_plan(*flows), 0.0)
    assert fleet.view(MODEL, 0.0).plan is None
    assert waits(fleet, 4.0) == pytest.approx([6.0])


def test_a_plan_made_before_a_node_went_is_ignored_though_its_length_fits():
    fleet = joined("a", "b", load=BUSY)
    before, planned = fleet.view(MODEL, 0.0).nodes.roster, a_plan(0.5, 0.5)
    fleet.step(PulseReceived(a_pulse("a", seq=2, load=BUSY)), 0.0)
    assert fleet.view(MODEL, 0.0).nodes.roster == before
    fleet.step(PulseReceived(a_pulse("a", seq=3, models=())), 0.0)
    fleet.step(PulseReceived(a_pulse("a", seq=4)), 0.0)
    fleet.step(replace(planned, roster=before), 0.0)
    assert fleet.view(MODEL, 0.0).plan is None
    fleet.step(replace(planned, roster=fleet.view(MODEL, 0.0).nodes.roster), 0.0)
    assert fleet.view(MODEL, 0.0).plan is planned.plan


def test_a_plan_made_before_all_nodes_went_is_ignored_when_others_came():
    """The model was forgotten meanwhile: what it begins anew with is no roster of before."""
    fleet = joined("a", "b")
    planned = replace(a_plan(0.5, 0.5), roster=fleet.view(MODEL, 0.0).nodes.roster)
    for node in ("a", "b"):
        fleet.step(PulseReceived(a_pulse(node, seq=9, models=())), 0.1)
    assert fleet.models() == ()
    for node in ("c", "d"):
        fleet.step(PulseReceived(a_pulse(node)), 0.2)
        fleet.step(a_card(node), 0.2)
    fleet.step(planned, 0.3)
    assert len(fleet.view(MODEL, 0.3).nodes) == 2
    assert fleet.view(MODEL, 0.3).plan is None


def test_a_plan_for_a_model_that_nobody_lists_changes_nothing():
    fleet = joined(load=BUSY)
    fleet.step(a_plan(0.5, model="stranger"), 0.0)
    assert waits(fleet, 4.0) == pytest.approx([6.0])


def test_a_node_that_comes_waits_for_the_next_plan_and_leaves_the_last_one_be():
    fleet, planned = joined("a", "b", load=BUSY), a_plan(0.5, 0.5)
    fleet.step(planned, 0.0)
    fleet.step(PulseReceived(a_pulse("c", load=BUSY)), 0.0)
    fleet.step(a_card("c"), 0.0)
    assert fleet.view(MODEL, 0.0).plan is planned.plan
    fleet.step(late := a_plan(1.0, 1.0, made_at_s=0.1), 0.1)
    assert fleet.view(MODEL, 0.1).plan is late.plan
    assert waits(fleet, 4.1) == pytest.approx([10.0 - 4.1 + 0.1 * 0.5 + 4.0])
    assert waits(fleet, 4.0, node="c") == pytest.approx([6.0])


def test_a_plan_goes_on_without_the_node_that_left():
    """The last of the list takes its index, and takes along what was planned for it."""
    homes = Homes(np.array([0, 2]), {}, {}, 0.0)
    fleet = joined("a", "b", "c", load=BUSY)
    front = {"front": np.array([2, 0]), "front_s": np.array([1.0, 2.0]), "homes": homes}
    fleet.step(a_plan(0.1, 0.2, 0.3, edges=np.array([1.0, 3.0, 6.0]), **front), 0.0)
    fleet.step(PulseReceived(a_pulse("a", seq=2, load=BUSY, models=())), 0.0)
    view = fleet.view(MODEL, 0.0)
    assert [view.nodes.name(index) for index in range(2)] == ["c", "b"]
    assert view.plan is not None
    assert view.plan.homes is not None
    assert list(view.plan.edges) == [3.0, 5.0]
    assert list(view.plan.others_flow) == [0.3, 0.2]
    assert list(view.plan.homes.own) == [0]
    assert list(view.front) == [0]
    assert waits(fleet, 1.0, node="c") == pytest.approx([9.3])


def test_prompts_of_others_make_a_line_even_where_slots_are_free():
    fleet = joined(load=Load(64, prefill_s=3.0))
    fleet.step(a_plan(4.0, prefill_share=np.array([0.5])), 0.0)
    assert waits(fleet, 0.0, 1.0, 2.0) == pytest.approx([3.0, 4.0, 5.0])


def test_chance_is_known_with_the_service_that_the_plan_tells():
    fleet = joined(load=Load(1))
    fleet.step(a_plan(0.5), 0.0)
    assert waits(fleet, 1e4) == pytest.approx([4.0])  # rho / (1 - rho) services of 4 s


def typical(fleet: Fleet) -> tuple[float, float]:
    """(what a request of others is taken to take on the node, the share of its prompt)."""
    row = fleet.row_of("a")
    return float(fleet._table.service_s[row]), float(fleet._table.prefill_share[row])


def test_a_typical_request_is_that_of_all_models_planned_not_of_the_last():
    """Four slot-seconds a second of requests of 4 s, one of 0.5 s: one request a second, and two."""
    fleet, short = joined(models=BOTH), {"service_s": np.array([0.5]), "prefill_share": np.array([1.0])}
    for now_s in (1.0, 2.0, 3.0):
        fleet.step(a_plan(4.0, prefill_share=np.array([0.25])), now_s)
        fleet.step(a_plan(1.0, model="other", **short), now_s)
        assert typical(fleet) == pytest.approx((5.0 / 3.0, (4.0 * 0.25 + 1.0) / 5.0))
    fleet.step(a_plan(0.0), 4.0)
    assert typical(fleet) == pytest.approx((0.5, 1.0))


def test_a_model_that_is_listed_no_more_is_part_of_no_typical_request():
    fleet = joined(models=BOTH)
    fleet.step(a_plan(4.0), 1.0)
    fleet.step(a_plan(1.0, model="other", service_s=np.array([0.5])), 1.0)
    fleet.step(PulseReceived(a_pulse(seq=2, models=(READY,))), 2.0)
    assert typical(fleet) == pytest.approx((4.0, 0.0))


def test_where_others_send_nothing_a_typical_request_is_the_plans():
    fleet = joined(models=BOTH)
    fleet.step(a_plan(0.0, model="other", service_s=np.array([0.5])), 1.0)
    fleet.step(a_plan(0.0, prefill_share=np.array([0.25])), 1.0)
    assert typical(fleet) == (4.0, 0.25)


def test_a_forgotten_nodes_successor_in_the_row_expects_nothing():
    fleet = joined("a", "b", load=BUSY)
    fleet.step(a_plan(0.5, 0.5), 0.0)
    row = fleet.row_of("a")
    fleet.step(RttMeasured("b", 5.0), 500.0)
    fleet.step(Tick(), 500.0)
    fleet.step(PulseReceived(a_pulse("c", load=BUSY)), 500.0)
    fleet.step(a_card("c"), 500.0)
    assert fleet.row_of("c") == row
    assert waits(fleet, 504.0, node="c") == pytest.approx([6.0])
