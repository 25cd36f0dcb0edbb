"""The front: a short list that stays in order as our own requests go there."""

import numpy as np
import pytest
from fleet_nouns import MODEL, a_dispatch, a_plan, a_pulse, a_request, joined
from hypothesis import given
from hypothesis import strategies as st

from isochrone.fleet import PulseReceived
from isochrone.fleet.front import Front


def a_front(scores_s: dict[int, float]) -> Front:
    """Of nodes at these indices, in no order."""
    front, front_s = np.array([*scores_s], np.intp), np.array([*scores_s.values()])
    return Front(a_plan(front=front, front_s=front_s).plan)


def test_the_best_come_first():
    front = a_front({3: 0.5, 7: 0.25, 1: 2.0, 9: 1.0})
    assert front.first(3) == (7, 3, 9)
    assert front.first(4) == (7, 3, 9, 1)


def test_equals_stand_by_their_index():
    assert a_front({5: 1.0, 2: 1.0, 9: 1.0}).first(3) == (2, 5, 9)


def test_no_more_are_told_than_there_are():
    front = a_front({3: 0.5, 7: 0.25})
    assert front.first(9) == (7, 3)
    assert front.first(0) == ()
    assert a_front({}).first(4) == ()


def test_who_got_a_request_stands_further_back():
    front = a_front({3: 0.5, 7: 0.25, 9: 1.0})
    front.worsen(7, 0.5)
    assert front.first(3) == (3, 7, 9)
    front.worsen(7, 0.5)
    assert front.first(3) == (3, 9, 7)
    front.worsen(3, 10.0)
    assert front.first(3) == (9, 7, 3)


def test_who_is_not_listed_changes_nothing():
    front = a_front({3: 0.5, 7: 0.25})
    front.worsen(4, 9.0)
    front.worsen(-1, 9.0)
    assert front.first(9) == (7, 3)
    a_front({}).worsen(0, 1.0)


@given(
    st.lists(st.floats(0.0, 9.0), max_size=12),
    st.lists(st.tuples(st.integers(0, 15), st.floats(0.0, 3.0)), max_size=40),
)
def test_it_is_as_if_sorted_anew_and_never_longer(scores_s, dispatches):
    known = dict(enumerate(scores_s))
    front = a_front(known)
    for index, by_s in dispatches:
        front.worsen(index, by_s)
        if index in known:
            known[index] += by_s
        assert front.first(99) == tuple(sorted(known, key=lambda at: (known[at], at)))


# -- in the fleet ------------------------------------------------------------------------------------


def test_without_a_plan_there_is_no_front():
    assert joined("a", "b").view(MODEL, 0.0).front == ()


def test_a_dispatch_puts_its_node_further_back_by_what_it_takes():
    fleet = joined("a", "b")
    fleet.step(a_plan(0.0, 0.0, front=np.array([1, 0]), front_s=np.array([1.0, 0.75])), 0.0)
    assert fleet.view(MODEL, 0.0).front == (0, 1)
    fleet.step(a_dispatch(a_request(1), "a", service_s=0.125), 0.0)
    assert fleet.view(MODEL, 0.0).front == (0, 1)
    fleet.step(a_dispatch(a_request(2), "a", service_s=0.25), 0.0)
    assert fleet.view(MODEL, 0.0).front == (1, 0)
    fleet.step(a_dispatch(a_request(3), "b", service_s=3.0), 0.0)
    assert fleet.view(MODEL, 0.0).front == (0, 1)


@pytest.mark.parametrize("node", ["b", "stranger"])
def test_a_dispatch_elsewhere_leaves_the_front_as_it_is(node):
    fleet = joined("a", "b", "c")
    fleet.step(a_plan(0.0, 0.0, 0.0, front=np.array([0, 2]), front_s=np.array([1.0, 1.5])), 0.0)
    fleet.step(a_dispatch(a_request(), node, service_s=9.0), 0.0)
    assert fleet.view(MODEL, 0.0).front == (0, 2)


def test_the_view_tells_only_the_first_few():
    nodes = [f"n{at:02}" for at in range(40)]
    fleet = joined(*nodes)
    fleet.step(a_plan(*[0.0] * 40, front=np.arange(40), front_s=np.linspace(1.0, 2.0, 40)), 0.0)
    told = fleet.view(MODEL, 0.0).front
    assert 0 < len(told) < 40
    assert told == tuple(range(len(told)))


def test_the_front_goes_on_without_a_node_that_left():
    """The last of the list has taken its index."""
    fleet = joined("a", "b")
    fleet.step(a_plan(0.0, 0.0, front=np.array([0, 1]), front_s=np.array([1.0, 1.5])), 0.0)
    fleet.step(PulseReceived(a_pulse("a", seq=2, models=())), 1.0)
    view = fleet.view(MODEL, 1.0)
    assert [view.nodes.name(index) for index in view.front] == ["b"]
    fleet.step(a_dispatch(a_request(), "b"), 1.0)


def test_the_best_of_each_kind_come_before_the_second_of_any():
    scores_s, kinds = {3: 0.5, 7: 0.25, 1: 2.0, 9: 1.0, 4: 3.0}, [0, 0, 1, 0, 2]
    front, front_s = np.array([*scores_s], np.intp), np.array([*scores_s.values()])
    plan = a_plan(*[0.0] * 10, front=front, front_s=front_s, front_kinds=np.array(kinds, np.intp)).plan
    told = Front(plan)
    assert told.first(3) == (7, 1, 4)
    assert told.first(5) == (7, 1, 4, 3, 9)
    told.worsen(7, 0.5)
    assert told.first(4) == (3, 1, 4, 7)
    assert plan.without(7, 9).front_kinds.tolist() == [0, 1, 0, 2]
