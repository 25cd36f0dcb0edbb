"""Like nodes together, in bounds, with nothing lost."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone.routing.flow import FlowSettings, Groups, NodeTable, make_groups
from isochrone.routing.flow.groups import SPEED_BIN


def a_table(region, speed, ready=None, kind=None, slots=4.0) -> NodeTable:
    """Two models; the second takes twice as long everywhere."""
    speed = np.array(speed, dtype=float)
    return NodeTable(
        region=np.array(region),
        capacity_per_s=speed[:, None] * np.array([2.0, 1.0]),
        ready=np.ones((len(speed), 2), bool) if ready is None else np.array(ready, bool),
        slots=np.full(len(speed), slots),
        kind=None if kind is None else np.array(kind),
    )


def a_fleet(nodes: int, seed: int, models: int = 3, regions: int = 5) -> NodeTable:
    """With all that can be wrong in it."""
    luck = np.random.default_rng(seed)
    capacity = luck.choice([0.5, 1.0, 4.0], (nodes, 1)) * luck.lognormal(0, 0.1, (nodes, models))
    capacity[luck.random(capacity.shape) < 0.3] = 0.0
    capacity[luck.random(capacity.shape) < 0.02] = np.nan
    return NodeTable(
        region=luck.integers(-1, regions, nodes),
        capacity_per_s=capacity,
        ready=luck.random((nodes, models)) < 0.5,
        slots=luck.choice([1.0, 4.0, np.nan], nodes, p=[0.5, 0.45, 0.05]),
        kind=luck.integers(0, 2, nodes),
    )


def together(groups: Groups) -> list[list[int]]:
    return [np.flatnonzero(groups.node_group == group).tolist() for group in range(len(groups.nodes))]


def test_nodes_of_about_the_same_speed_fall_together():
    assert together(make_groups(a_table([0] * 6, [1.0, 1.04, 0.97, 2.0, 2.05, 1.96]))) == [
        [0, 1, 2],
        [3, 4, 5],
    ]
    assert together(make_groups(a_table([0] * 4, [0.95, 1.0, 1.0, 1.05]))) == [[0, 1, 2, 3]]
    luck = np.random.default_rng(0)
    noisy = np.repeat([0.3, 1.0, 2.0, 4.5], 50) * luck.uniform(0.9, 1.1, 200)
    assert [len(nodes) for nodes in together(make_groups(a_table([0] * 200, noisy)))] == [50] * 4


def test_kinds_that_overlap_in_speed_do_not_tear_each_other_apart():
    table = a_table([0] * 6, [0.9, 1.0, 1.1, 1.05, 1.15, 1.25], kind=[7, 7, 7, 8, 8, 8])
    assert together(make_groups(table)) == [[0, 1, 2], [3, 4, 5]]


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=40))
def test_no_two_nodes_of_a_group_differ_by_more_than_a_bin(speeds):
    for nodes in together(make_groups(a_table([0] * len(speeds), speeds))):
        chosen = [speeds[node] for node in nodes]
        assert max(chosen) <= min(chosen) * SPEED_BIN * (1 + 1e-9)


def test_region_kind_models_and_what_is_ready_keep_nodes_apart():
    assert together(make_groups(a_table([1, 0, 1, 0], [1.0] * 4))) == [[1, 3], [0, 2]]
    assert together(make_groups(a_table([0] * 4, [1.0] * 4, kind=[3, 3, 9, 9]))) == [[0, 1], [2, 3]]
    ready = [[1, 1], [1, 0], [1, 1], [1, 0]]
    assert sorted(together(make_groups(a_table([0] * 4, [1.0] * 4, ready)))) == [[0, 2], [1, 3]]
    table = a_table([0] * 4, [1.0] * 4)
    table.capacity_per_s[2:, 1] = 0.0
    assert sorted(together(make_groups(table))) == [[0, 1], [2, 3]]


def test_a_group_sums_its_nodes():
    groups = make_groups(replace(a_table([2, 2, 5], [1.0, 1.1, 1.0]), slots=np.array([2.0, 4.0, 1.0])))
    assert groups.region.tolist() == [2, 5]
    assert groups.nodes.tolist() == [2.0, 1.0]
    assert groups.slots.tolist() == [3.0, 1.0]
    assert groups.capacity_per_s == pytest.approx(np.array([[4.2, 2.1], [2.0, 1.0]]))
    assert groups.ready_part.tolist() == [[1.0, 1.0], [1.0, 1.0]]
    assert (groups.merged, groups.dropped) == (0, {})


def test_a_model_that_is_ready_but_cannot_be_served_is_not_ready():
    table = a_table([0], [1.0])
    table.capacity_per_s[0, 0] = 0.0
    assert make_groups(table).ready_part.tolist() == [[0.0, 1.0]]


def test_what_is_not_known_is_left_out_and_counted():
    table = a_table([0, -1, 0, 0, 0], [1.0] * 5)
    table.capacity_per_s[2] = [np.nan, 1.0]
    table.capacity_per_s[3] = [np.inf, -1.0]
    table.slots[4] = np.nan
    groups = make_groups(table)
    assert groups.node_group.tolist() == [1, -1, 0, -1, -1] or groups.node_group.tolist() == [
        0,
        -1,
        1,
        -1,
        -1,
    ]
    assert groups.dropped == {
        "capacity unknown or beyond bounds": 3,
        "node without a region": 1,
        "node with slots unknown": 1,
        "node that serves nothing": 1,
    }
    assert np.isfinite(groups.capacity_per_s).all()


def test_without_nodes_there_are_no_groups():
    for table in (a_table([], []), a_table([-1], [1.0])):
        groups = make_groups(table)
        assert (len(groups.nodes), groups.capacity_per_s.shape) == (0, (0, 2))


def test_the_smallest_merge_first_with_others_like_them():
    """Speeds apart: 3, 2, 1 and 1 nodes; three groups may stay."""
    speeds = [1.0] * 3 + [2.0] * 2 + [4.0, 8.0]
    groups = make_groups(a_table([0] * 7, speeds), groups_max=3)
    assert together(groups) == [[0, 1, 2], [3, 4], [5, 6]]
    assert groups.merged == 1


def test_speed_is_given_up_before_readiness_and_readiness_before_models():
    table = a_table([0] * 6, [1.0, 4.0] * 3, [[1, 1], [1, 1], [1, 0], [1, 0], [1, 1], [1, 1]])
    table.capacity_per_s[4:, 1] = 0.0
    assert sorted(together(make_groups(table, 3))) == [[0, 1], [2, 3], [4, 5]]
    two = make_groups(table, 2)
    assert sorted(together(two)) == [[0, 1, 2, 3], [4, 5]]
    both = two.node_group[0]
    assert two.ready_part[both].tolist() == [1.0, 0.5]
    assert together(make_groups(table, 1)) == [[0, 1, 2, 3, 4, 5]]


def test_regions_never_merge():
    with pytest.raises(ValueError, match="3 regions cannot be put into groups_max = 2 groups"):
        make_groups(a_table([0, 1, 2], [1.0] * 3), 2)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 300), st.integers(0, 999), st.integers(5, 60))
def test_every_known_node_is_in_one_group_of_its_region_whatever_the_bound(nodes, seed, groups_max):
    table = a_fleet(nodes, seed)
    free, groups = make_groups(table, 10_000), make_groups(table, groups_max)
    assert len(groups.nodes) == min(len(free.nodes), len(groups.nodes)) <= groups_max
    assert groups.merged == len(free.nodes) - len(groups.nodes)
    known = groups.node_group >= 0
    assert np.array_equal(known, free.node_group >= 0)
    assert np.array_equal(groups.region[groups.node_group[known]], table.region[known])
    assert np.array_equal(np.bincount(groups.node_group[known], minlength=len(groups.nodes)), groups.nodes)
    assert (np.diff(groups.region) >= 0).all()
    whole = np.nan_to_num(table.capacity_per_s[known]).sum(axis=0)
    assert groups.capacity_per_s.sum(axis=0) == pytest.approx(whole)
    assert ((groups.ready_part >= 0) & (groups.ready_part <= 1 + 1e-9)).all()


def test_more_models_than_bits_of_a_word_are_told_apart():
    table = NodeTable(
        region=np.zeros(3, int),
        capacity_per_s=np.ones((3, 130)),
        ready=np.ones((3, 130), bool),
        slots=np.ones(3),
    )
    table.ready[1, 129] = False
    assert sorted(together(make_groups(table))) == [[0, 2], [1]]


def test_a_large_fleet_comes_down_to_what_a_plan_can_bear():
    groups = make_groups(a_fleet(20_000, 1, models=12, regions=54))
    assert len(groups.nodes) == FlowSettings().groups_max
    assert groups.merged > 0


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"ready": np.ones((2, 3), bool)}, r"ready must have the shape \(2, 2\), not \(2, 3\)"),
        ({"slots": np.ones(3)}, r"slots must have the shape \(2,\), not \(3,\)"),
        ({"capacity_per_s": np.ones((3, 2))}, r"capacity_per_s must have the shape \(2, 2\), not \(3, 2\)"),
        ({"kind": np.ones(1, int)}, r"kind must have the shape \(2,\), not \(1,\)"),
    ],
)
def test_tables_of_another_shape_are_refused(fields, told):
    with pytest.raises(ValueError, match=told):
        replace(a_table([0, 0], [1.0, 1.0]), **fields)
