"""What is wrong with a problem, a setting or a solver is told in words, and the last good plan stays."""

import math
from dataclasses import fields, replace
from types import SimpleNamespace

import numpy as np
import pytest
from flow_problems import EXACT, a_problem, changed, failed, planned
from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone.routing.flow import (
    FlowFailed,
    FlowPlan,
    FlowSettings,
    NodeTable,
    PlanKeeper,
    cost_table_s,
    make_groups,
    program,
    solve,
)

ODD = [math.nan, math.inf, -math.inf, -1.0, 0.0, 1e-300, 1e300]


# -- problems ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "at", "value", "reason"),
    [
        ("demand_per_s", (0, 0), math.nan, "demand unknown or beyond bounds"),
        ("demand_per_s", (0, 0), -1.0, "demand unknown or beyond bounds"),
        ("demand_per_s", (0, 0), math.inf, "demand unknown or beyond bounds"),
        ("demand_per_s", (0, 0), 1e-7, "demand unknown or beyond bounds"),
        ("capacity_per_s", (1, 0), math.nan, "capacity unknown or beyond bounds"),
        ("capacity_per_s", (1, 0), math.inf, "capacity unknown or beyond bounds"),
        ("capacity_per_s", (1, 0), -2.0, "capacity unknown or beyond bounds"),
        ("nodes", (1,), math.nan, "group without nodes"),
        ("nodes", (1,), 0.0, "group without nodes"),
        ("slots", (1,), 0.0, "group with slots unknown"),
    ],
)
def test_what_is_not_known_is_left_out_and_counted(field, at, value, reason):
    problem = a_problem()
    plan = planned(replace(problem, **{field: changed(getattr(problem, field), at, value)}))
    assert plan.dropped == {reason: 1}
    if field == "demand_per_s":
        assert not plan.flow_per_s[at].any()
        assert plan.unmet_per_s[at] == 0.0
    elif field == "capacity_per_s":
        assert not plan.flow_per_s[:, at[1], at[0]].any()
    else:
        assert not plan.flow_per_s[..., at[0]].any()
        assert plan.saving_s_per_node[at] == plan.utilisation[at] == 0.0


def test_a_region_without_round_trips_is_unmet_and_counted():
    problem = a_problem()
    rtt_s = np.full((3, 5), 0.1)
    rtt_s[2] = np.nan
    plan = planned(replace(problem, cost_s=cost_table_s(rtt_s, np.arange(5), np.ones((5, 2)))))
    assert plan.dropped == {"cost unknown or beyond bounds": np.count_nonzero(problem.capacity_per_s)}
    assert plan.unmet_per_s[2] == pytest.approx(problem.demand_per_s[2])
    assert plan.unmet_per_s[:2].sum() == 0.0
    assert (plan.marginal_s[2] == plan.unmet_cost_s).all()


def test_costs_add_up_and_what_cannot_be_loaded_is_closed():
    cold_s = np.array([[0.0, 4.0], [math.inf, 0.0]])
    table = cost_table_s(np.array([[0.1, 0.2, 0.3]]), np.array([2, 0]), np.ones((2, 2)), cold_s)
    assert table == pytest.approx(np.array([[[1.3, math.inf], [5.3, 1.1]]]))


def test_not_served_is_dearer_than_any_way():
    problem = a_problem(load=0.2)
    plan = planned(replace(problem, cost_s=problem.cost_s + 10_000.0))
    assert plan.unmet_per_s.sum() == 0.0
    assert plan.unmet_cost_s > 20_000.0
    assert planned(problem).unmet_cost_s == FlowSettings().unmet_cost_s


@pytest.mark.parametrize("groups", [0, 3])
def test_where_nothing_can_be_served_all_is_unmet(groups):
    problem = a_problem(groups=3)
    problem = replace(
        problem,
        capacity_per_s=np.zeros((groups, 2)),
        cost_s=np.ones((3, 2, groups)),
        nodes=np.ones(groups),
        slots=np.ones(groups),
    )
    plan = planned(problem)
    assert plan.unmet_per_s == pytest.approx(problem.demand_per_s)
    assert plan.share.shape == (3, 2, groups)


def test_where_nothing_is_asked_nothing_flows_and_prices_stand():
    problem = a_problem()
    plan = planned(replace(problem, demand_per_s=np.zeros((3, 2))))
    assert (plan.status, plan.rounds, plan.objective) == ("nothing is asked", 0, 0.0)
    assert not plan.flow_per_s.any()
    assert not plan.saving_s_per_node.any()
    reachable = (problem.capacity_per_s > 0).any(axis=0)
    assert (plan.marginal_s[:, reachable] < 10).all()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_number_anywhere_breaks_a_solve(data):
    problem = a_problem(data.draw(st.integers(0, 99)))
    for name in ("demand_per_s", "capacity_per_s", "cost_s", "nodes", "slots"):
        array = getattr(problem, name).copy()
        for _ in range(data.draw(st.integers(0, 3))):
            array.flat[data.draw(st.integers(0, array.size - 1))] = data.draw(st.sampled_from(ODD))
        problem = replace(problem, **{name: array})
    plan = planned(problem)
    for field in fields(plan):
        if field.name not in ("status", "dropped"):
            assert np.isfinite(getattr(plan, field.name)).all()
    assert (plan.utilisation <= 0.9 + 1e-5).all()


@pytest.mark.parametrize(
    ("given_fields", "told"),
    [
        ({"demand_per_s": np.ones(3)}, "demand_per_s must have the shape"),
        ({"capacity_per_s": np.ones((2, 5))}, r"capacity_per_s must have the shape \(5, 2\), not \(2, 5\)"),
        ({"cost_s": np.ones((3, 5, 2))}, r"cost_s must have the shape \(3, 2, 5\), not \(3, 5, 2\)"),
        ({"slots": np.ones(4)}, r"slots must have the shape \(5,\), not \(4,\)"),
    ],
)
def test_problems_of_another_shape_are_refused(given_fields, told):
    with pytest.raises(ValueError, match=told):
        replace(a_problem(), **given_fields)


@pytest.mark.parametrize("name", ["regions", "models", "groups"])
def test_a_problem_beyond_its_bounds_is_refused_in_words(name):
    size = {"regions": 3, "models": 2, "groups": 5}[name]
    reason = failed(a_problem(), replace(EXACT, **{f"{name}_max": size - 1})).reason
    assert reason == f"the plan would have {size} {name}, more than {name}_max = {size - 1}"


# -- the solver ----------------------------------------------------------------------------------------


def a_solver_that_says(monkeypatch, status, after=0):
    real, calls = program.linprog, []

    def said(*arguments, **options):
        calls.append(options)
        if len(calls) <= after:
            return real(*arguments, **options)
        return SimpleNamespace(status=status, x=None, message="So it\n is.")

    monkeypatch.setattr(program, "linprog", said)
    return calls


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (1, "the solver ran out of time: So it is."),
        (2, "the solver says that the program is infeasible: So it is."),
        (3, "the solver says that the program is unbounded: So it is."),
        (4, "the solver met numerical trouble: So it is."),
        (9, "the solver failed: So it is."),
    ],
)
def test_a_solver_that_fails_gives_a_reason_and_no_plan(monkeypatch, status, told):
    calls = a_solver_that_says(monkeypatch, status)
    assert failed(a_problem(), replace(EXACT, time_limit_s=2.5)).reason == told
    assert [call["options"]["time_limit"] for call in calls] == [2.5]


def test_a_failure_keeps_the_counts_of_what_was_left_out(monkeypatch):
    a_solver_that_says(monkeypatch, 4)
    problem = a_problem()
    problem = replace(problem, nodes=changed(problem.nodes, (0,), math.nan))
    assert failed(problem).dropped == {"group without nodes": 1}


def test_a_solver_that_fails_late_leaves_the_plan_of_the_round_before(monkeypatch):
    problem = a_problem(1, regions=6, models=3, groups=30, load=0.85)
    sparing = replace(EXACT, arcs_max=2)
    first = planned(problem, replace(sparing, rounds_max=1))
    a_solver_that_says(monkeypatch, 1, after=1)
    plan = planned(problem, sparing)
    assert plan.status == "the solver ran out of time: So it is."
    assert (plan.objective, plan.gap, plan.rounds) == (first.objective, first.gap, 1)


@pytest.mark.parametrize(
    ("asked_per_s", "factor", "told"),
    [
        (2.0, math.nan, "has values that are not numbers"),
        (2.0, 1.01, "sends more than is asked"),
        (30.0, 1.01, "uses more than there is"),
    ],
)
def test_answers_that_cannot_be_are_no_plan(monkeypatch, asked_per_s, factor, told):
    problem = a_problem(regions=1, models=1, groups=1)
    asked, capacity = np.array([[asked_per_s]]), np.array([[10.0]])
    problem = replace(problem, demand_per_s=asked, capacity_per_s=capacity)
    real = program.linprog

    def spoilt(*arguments, **options):
        found = real(*arguments, **options)
        found.x = found.x * factor
        return found

    monkeypatch.setattr(program, "linprog", spoilt)
    assert failed(problem).reason == f"the solver met numerical trouble: its answer {told}"


def test_the_real_solver_keeps_to_its_time():
    problem = a_problem(2, regions=40, models=10, groups=60)
    outcome = solve(problem, FlowSettings(time_limit_s=1e-6))
    assert isinstance(outcome, FlowFailed)
    assert outcome.reason.startswith("the solver ran out of time: ")


# -- the keeper ----------------------------------------------------------------------------------------


def some_groups(regions=(0, 0, 1, 1)):
    nodes = len(regions)
    return make_groups(
        NodeTable(np.array(regions), np.ones((nodes, 1)), np.ones((nodes, 1), bool), np.ones(nodes))
    )


def a_plan(prices) -> FlowPlan:
    return replace(planned(a_problem()), work_price_s=np.array(prices))


def test_the_keeper_keeps_the_last_good_plan_and_says_its_age():
    plan, groups, broken = a_plan([1.0, 2.0]), some_groups(), FlowFailed("the solver failed")
    kept = PlanKeeper().after(plan, groups, 10.0).after(broken, some_groups((0,)), 12.0)
    kept = kept.after(broken, some_groups((0,)), 14.0)
    assert kept.plan is plan
    assert kept.groups is groups
    assert (kept.failed, kept.failures, kept.age_s(14.5)) == (broken, 2, 4.5)
    assert kept.age_s(9.0) == 0.0
    later = a_plan([3.0, 4.0])
    healed = kept.after(later, groups, 16.0)
    assert (healed.plan is later, healed.failed, healed.failures, healed.age_s(16.0)) == (True, None, 0, 0.0)


def test_before_the_first_plan_there_is_none():
    keeper = PlanKeeper().after(FlowFailed("no"), some_groups(), 1.0)
    assert (keeper.plan, keeper.groups, keeper.age_s(1.0), keeper.failures) == (None, None, math.inf, 1)
    assert keeper.hint_s(some_groups()) is None


def test_prices_are_carried_over_to_other_groups_of_the_same_nodes():
    keeper = PlanKeeper().after(a_plan([1.0, 4.0]), some_groups((0, 0, 1, 1)), 0.0)
    assert keeper.hint_s(some_groups((0, 0, 1, 1))).tolist() == [1.0, 4.0]
    assert keeper.hint_s(some_groups((0, 1, 1, 1))).tolist() == [1.0, 3.0]
    assert keeper.hint_s(some_groups((0, 0, 1, 2))).tolist() == [1.0, 4.0, 4.0]
    assert keeper.hint_s(some_groups((0, -1, 1, -1))).tolist() == [1.0, 4.0]
    assert keeper.hint_s(some_groups((0, 0, 1))) is None


# -- settings ------------------------------------------------------------------------------------------


def test_the_defaults_of_settings():
    assert FlowSettings() == FlowSettings(
        headroom=0.1, bends=(0.6, 0.8, 0.85, 0.9, 0.95), pooled_nodes=4.0, service_scv=1.0,
        unmet_cost_s=3600.0, arcs_max=24, rounds_max=8, gap_part=1e-4, time_limit_s=5.0,
        regions_max=64, models_max=64, groups_max=400,
    )  # fmt: skip
    assert FlowSettings().ends == pytest.approx((0.6, 0.8, 0.85, 0.9))
    assert FlowSettings(headroom=0.03).ends == pytest.approx((0.6, 0.8, 0.85, 0.9, 0.95, 0.97))
    assert FlowSettings(headroom=0.5).ends == pytest.approx((0.5,))


@pytest.mark.parametrize(
    ("given_fields", "told"),
    [
        ({"headroom": 0.0}, "headroom must be from 0.01 to 0.9, not 0"),
        ({"headroom": math.nan}, "headroom must be from 0.01 to 0.9, not nan"),
        ({"bends": (0.5, 1.0)}, "bends must be from 0.01 to 0.99, not 1"),
        ({"bends": (0.5, 0.5)}, "bends must rise, not 0.5, 0.5"),
        ({"pooled_nodes": 0.5}, "pooled_nodes must be at least 1, not 0.5"),
        ({"service_scv": -1.0}, "service_scv must be from 0 to 100, not -1"),
        ({"unmet_cost_s": 0.0}, "unmet_cost_s must be from 1 to 1e"),
        ({"gap_part": 2.0}, "gap_part must be from 0 to 1, not 2"),
        ({"time_limit_s": 0.0}, "time_limit_s must be above 0 and finite, not 0"),
        ({"time_limit_s": math.inf}, "time_limit_s must be above 0 and finite, not inf"),
        ({"arcs_max": 0}, "arcs_max must be at least 1, not 0"),
        ({"rounds_max": 0}, "rounds_max must be at least 1, not 0"),
        ({"groups_max": 0}, "groups_max must be at least 1, not 0"),
    ],
)
def test_settings_that_cannot_be_are_told_by_name(given_fields, told):
    with pytest.raises(ValueError, match=told):
        FlowSettings(**given_fields)
