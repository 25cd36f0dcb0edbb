"""The plan is the optimum, keeps to what there is, and its prices are true."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from flow_problems import EXACT, a_problem, changed, planned, with_more_nodes
from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone.routing.flow import FlowProblem, FlowSettings, cost_table_s
from isochrone.routing.flow.queueing import segment_slopes, segment_widths, waiting_requests

QUARTERS = replace(EXACT, headroom=0.25, bends=(0.25, 0.5), pooled_nodes=1.0)
SEEDS = range(12)


def queueing_cost(work: float, nodes: int) -> float:
    """Of `nodes` nodes of one slot each, with `QUARTERS`: M/M/1 queues, straight between the bends."""
    ends = [0.0, 0.25, 0.5, 0.75]
    return nodes * float(np.interp(work / nodes, ends, [end**2 / (1 - end) for end in ends]))


def splits(demand: int, ways: int):
    """All ways to give whole requests to `ways` groups, or to leave them."""
    return [part for part in itertools.product(range(demand + 1), repeat=ways) if sum(part) <= demand]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_no_whole_number_plan_is_better(data):
    """With unit work and whole bounds the optimum is whole (a network matrix), so all plans can be tried."""
    groups, demand = 2, np.array([[data.draw(st.integers(0, 3)) for _ in range(2)] for _ in range(2)], float)
    sizes = [data.draw(st.sampled_from((0, 4, 8))) for _ in range(groups)]
    cost = np.array(data.draw(st.lists(st.integers(0, 60), min_size=8, max_size=8)), float).reshape(2, 2, 2)
    cost[cost > 50] = np.inf
    problem = FlowProblem(
        demand_per_s=demand,
        capacity_per_s=np.repeat(np.array(sizes, float)[:, None], 2, axis=1),
        cost_s=cost / 10,
        nodes=np.array(sizes, float),
        slots=np.ones(groups),
    )
    plan = planned(problem, QUARTERS)
    pairs = [(r, m) for r in range(2) for m in range(2)]
    best = np.inf
    for chosen in itertools.product(*(splits(int(demand[pair]), groups) for pair in pairs)):
        work = np.sum(chosen, axis=0)
        if any(work > np.array(sizes) * 0.75):
            continue
        ways = sum(
            flow * problem.cost_s[pair][group]
            for pair, flows in zip(pairs, chosen, strict=True)
            for group, flow in enumerate(flows)
            if flow
        )
        queues = sum(queueing_cost(w, size) for w, size in zip(work, sizes, strict=True) if size)
        unmet = plan.unmet_cost_s * (demand.sum() - np.sum(chosen))
        best = min(best, ways + queues + unmet)
    assert plan.objective == pytest.approx(best, rel=1e-7, abs=1e-7)
    assert plan.gap <= 1e-6 * max(1.0, best)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.05, 2.0), st.integers(1, 5))
def test_flow_and_unmet_make_up_demand_and_no_group_is_beyond_its_ceiling(seed, load, arcs_max):
    problem = a_problem(seed, regions=4, models=3, groups=6, load=load)
    plan = planned(problem, replace(EXACT, arcs_max=arcs_max))
    assert (plan.flow_per_s >= 0).all()
    assert (plan.unmet_per_s >= 0).all()
    assert plan.flow_per_s.sum(axis=2) + plan.unmet_per_s == pytest.approx(problem.demand_per_s, rel=1e-5)
    used = np.divide(plan.flow_per_s.sum(axis=0), problem.capacity_per_s.T,
                     out=np.zeros(plan.flow_per_s.shape[1:]), where=problem.capacity_per_s.T > 0)  # fmt: skip
    assert used.sum(axis=0) == pytest.approx(plan.utilisation)
    assert (plan.utilisation <= 0.9 + 1e-6).all()
    assert not plan.flow_per_s[:, problem.capacity_per_s.T == 0].any()
    total = plan.share.sum(axis=2)
    assert np.all(np.isclose(total, 1.0) | (total == 0.0))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("load", [0.4, 0.75, 1.3])
def test_the_objective_is_what_flows_queue_and_miss(seed, load):
    problem = a_problem(seed, load=load)
    plan = planned(problem)
    open_ways = plan.flow_per_s > 0
    ways = float(plan.flow_per_s[open_ways] @ problem.cost_s[open_ways])
    slopes, widths = segment_slopes(problem.nodes, problem.slots, EXACT), segment_widths(EXACT)
    below = np.concatenate(([0.0], np.cumsum(widths)[:-1]))
    filled = np.clip(plan.utilisation[:, None] - below, 0.0, widths)
    queues = float((filled * slopes).sum(axis=1) @ problem.nodes)
    missed = float(plan.unmet_per_s.sum()) * plan.unmet_cost_s
    assert plan.objective == pytest.approx(ways + queues + missed, rel=1e-5)
    assert plan.status == "optimal"


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("load", [0.6, 0.85, 1.2])
def test_one_more_node_saves_what_the_plan_says(seed, load):
    problem = a_problem(seed, load=load)
    plan = planned(problem)
    for group in range(len(problem.nodes)):
        if problem.nodes[group] < EXACT.pooled_nodes:
            continue  # a small group's queues would be pooled better by it, which the dual does not see
        saved = (plan.objective - planned(with_more_nodes(problem, group, 1e-3)).objective) / 1e-3
        assert saved == pytest.approx(plan.saving_s_per_node[group], rel=2e-3, abs=1e-3)
        whole = plan.objective - planned(with_more_nodes(problem, group, 1.0)).objective
        assert whole <= plan.saving_s_per_node[group] * (1 + 1e-6) + 1e-4


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("load", [0.6, 0.85, 1.2])
def test_one_more_request_costs_what_the_plan_says(seed, load):
    problem = a_problem(seed, load=load)
    plan = planned(problem)
    for pair in itertools.product(range(3), range(2)):
        more = changed(problem.demand_per_s, pair, problem.demand_per_s[pair] + 1e-3)
        cost = (planned(replace(problem, demand_per_s=more)).objective - plan.objective) / 1e-3
        assert cost == pytest.approx(plan.marginal_s[pair], rel=2e-3, abs=1e-3)


def test_a_pair_without_demand_has_a_marginal_cost_too():
    problem = a_problem(3)
    none = replace(problem, demand_per_s=changed(problem.demand_per_s, (1, 1), 0.0))
    few = replace(problem, demand_per_s=changed(problem.demand_per_s, (1, 1), 1e-3))
    plan = planned(none)
    assert (planned(few).objective - plan.objective) / 1e-3 == pytest.approx(plan.marginal_s[1, 1], rel=1e-3)
    assert not plan.share[1, 1].any()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("load", [0.3, 0.8, 3.0])
def test_capacity_has_a_price_where_it_is_used_up_and_only_there(seed, load):
    problem = a_problem(seed, load=load)
    plan = planned(problem)
    slack = plan.utilisation < 0.9 - 1e-6
    assert plan.price_s[slack] == pytest.approx(np.zeros(slack.sum()), abs=1e-6)
    short = plan.utilisation < 0.6 - 1e-6
    assert plan.saving_s_per_node[short] == pytest.approx(np.zeros(short.sum()), abs=1e-6)
    assert (plan.saving_s_per_node >= 0).all()
    for model in np.flatnonzero(plan.unmet_per_s.any(axis=0)):
        assert (plan.price_s[problem.capacity_per_s[:, model] > 0] > 0).all()
    assert np.allclose(plan.marginal_s[plan.unmet_per_s > 0], plan.unmet_cost_s)
    assert (plan.marginal_s <= plan.unmet_cost_s).all()


def test_requests_flow_only_where_nothing_is_cheaper_at_the_plans_prices():
    problem = a_problem(5)
    plan = planned(problem)
    with np.errstate(divide="ignore"):
        work_s = problem.nodes / problem.capacity_per_s.T
    values = problem.cost_s + np.where(np.isfinite(work_s), work_s * plan.work_price_s, np.inf)
    used = plan.flow_per_s > 0
    assert values[used] == pytest.approx(np.broadcast_to(plan.marginal_s[..., None], used.shape)[used])


def test_load_spreads_before_the_nearest_group_is_full():
    """The nearer of two alike is better by 20 ms; by itself it could serve everything."""
    problem = FlowProblem(
        demand_per_s=np.array([[8.5]]),
        capacity_per_s=np.full((2, 1), 10.0),
        cost_s=cost_table_s(np.array([[0.01, 0.03]]), np.arange(2), np.ones((2, 1))),
        nodes=np.full(2, 10.0),
        slots=np.ones(2),
    )
    plan = planned(problem)
    assert plan.share[0, 0] == pytest.approx([6 / 8.5, 2.5 / 8.5])
    quiet = planned(replace(problem, demand_per_s=np.array([[5.0]])))
    assert list(quiet.share[0, 0]) == [1.0, 0.0]


def test_the_slow_path_is_left_to_those_who_cannot_take_another():
    """The sum is least, not each one's own: region 0 gives way, since region 1 has only the near group."""
    problem = FlowProblem(
        demand_per_s=np.array([[6.0], [9.0]]),
        capacity_per_s=np.full((2, 1), 10.0),
        cost_s=np.array([[[0.1, 0.2]], [[0.1, np.inf]]]),
        nodes=np.full(2, 10.0),
        slots=np.full(2, 4.0),
    )
    plan = planned(problem)
    assert plan.flow_per_s[:, 0] == pytest.approx(np.array([[0.0, 6.0], [9.0, 0.0]]))
    assert plan.unmet_per_s.sum() == 0.0


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("load", [0.8, 1.1])
def test_few_arcs_at_first_lead_to_the_optimum_of_all(seed, load):
    problem = a_problem(seed, regions=6, models=3, groups=30, load=load)
    everything = planned(problem, replace(EXACT, arcs_max=30))
    few = planned(problem, replace(EXACT, arcs_max=2))
    assert few.objective == pytest.approx(everything.objective, rel=1e-7)
    assert few.unmet_per_s.sum() == pytest.approx(everything.unmet_per_s.sum(), abs=1e-5)
    assert (everything.rounds, few.rounds > 1, few.arcs < everything.arcs) == (1, True, True)


def test_a_hint_saves_rounds_and_changes_nothing_else():
    problem = a_problem(1, regions=6, models=3, groups=30, load=0.85)
    sparing = replace(EXACT, arcs_max=3)
    cold = planned(problem, sparing)
    warm = planned(problem, sparing, cold.work_price_s)
    assert warm.rounds < cold.rounds
    assert warm.objective == pytest.approx(cold.objective, rel=1e-7)
    for odd in (np.ones(3), np.full(30, np.nan), np.full(30, -1.0), np.full(30, np.inf)):
        assert planned(problem, sparing, odd).objective == pytest.approx(cold.objective, rel=1e-7)


def test_a_plan_cut_short_is_whole_and_says_what_it_may_lack():
    problem = a_problem(1, regions=6, models=3, groups=30, load=0.85)
    best = planned(problem)
    cut = planned(problem, replace(EXACT, arcs_max=2, rounds_max=1))
    assert (cut.status, cut.rounds) == ("rounds ran out", 1)
    assert 0 < cut.objective - best.objective <= cut.gap
    assert cut.flow_per_s.sum(axis=2) + cut.unmet_per_s == pytest.approx(problem.demand_per_s, rel=1e-5)


def test_the_same_problem_gives_the_same_plan():
    one, other = planned(a_problem(7)), planned(a_problem(7))
    assert np.array_equal(one.flow_per_s, other.flow_per_s)
    assert np.array_equal(one.work_price_s, other.work_price_s)


def test_plans_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        planned(a_problem()).share[0, 0, 0] = 1.0


# -- queueing ------------------------------------------------------------------------------------------


def test_one_server_waits_as_a_queue_of_its_own_does():
    rho = np.array([0.0, 0.3, 0.6, 0.9])
    assert waiting_requests(rho, np.array(1.0)) == pytest.approx(rho**2 / (1 - rho))
    assert waiting_requests(rho, np.array(1.0), service_scv=0.0) == pytest.approx(rho**2 / (1 - rho) / 2)


@pytest.mark.parametrize(("servers", "rho", "erlang_c"), [(2, 0.8, 2.844), (8, 0.9, 6.314)])
def test_many_servers_wait_about_as_erlang_says(servers, rho, erlang_c):
    """Exact: probability of waiting (Erlang C) times rho / (1 - rho)."""
    offered = servers * rho
    terms = np.cumprod([1.0, *(offered / k for k in range(1, servers + 1))])
    last = terms[-1] / (1 - rho)
    exact = last / (terms[:-1].sum() + last) * rho / (1 - rho)
    assert exact == pytest.approx(erlang_c, abs=0.01)
    assert waiting_requests(np.array(rho), np.array(float(servers))) == pytest.approx(exact, rel=0.05)


@given(st.floats(1, 1e4), st.floats(1, 64), st.floats(0.01, 0.6), st.floats(1, 16))
def test_slopes_rise_so_that_segments_fill_in_order(nodes, slots, headroom, pooled):
    chosen = FlowSettings(headroom=headroom, pooled_nodes=pooled)
    slopes = segment_slopes(np.array([nodes]), np.array([slots]), chosen)
    assert (np.diff(slopes[0]) > 0).all()
    assert (slopes >= 0).all()
    assert segment_widths(chosen).sum() == pytest.approx(1 - headroom)


def test_groups_of_any_size_queue_alike_and_small_ones_pool_less():
    slopes = segment_slopes(np.array([2.0, 4.0, 400.0]), np.full(3, 2.0), FlowSettings())
    assert slopes[1] == pytest.approx(slopes[2])
    assert (slopes[0] > slopes[1]).all()
