"""A plan goes on when nodes leave: what is behind each index stays that node's."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from isochrone.model import Homes, Plan


def a_plan(weights: list[float], own: list[int]) -> Plan:
    nodes = len(weights)
    return Plan(
        made_at_s=0.0,
        refresh_s=0.2,
        edges=np.cumsum(weights),
        draws=2.0,
        others_flow=np.array(weights),
        service_s=np.array(weights) + 1.0,
        prefill_share=np.zeros(nodes),
        token_price_ms=0.0,
        level_s=1.0,
        homes=Homes(np.array(own, np.intp), {}, {}, 0.0),
        front=np.array(own[::-1], np.intp),
        front_s=np.array(own[::-1], float),
        gathering=np.array([own, own[::-1]], np.intp),
    )


@given(
    st.lists(st.integers(0, 8).map(float), min_size=1, max_size=6),
    st.integers(0, 3),
    st.lists(st.integers(0, 20), max_size=9),
    st.randoms(use_true_random=False),
)
def test_whoever_leaves_the_others_keep_what_was_planned_for_them(weights, newcomers, leaving, luck):
    """Against a list of nodes with their weights, the last of which takes the place of the one that left."""
    own = sorted(luck.sample(range(len(weights)), luck.randrange(len(weights) + 1)))
    plan = a_plan(weights, own)
    nodes = [(weight, at in own, float(at)) for at, weight in enumerate(weights)]
    nodes += [(0.0, False, 0.0)] * newcomers
    for choice in leaving:
        if not nodes:
            break
        gone, last = choice % len(nodes), len(nodes) - 1
        plan = plan.without(gone, last)
        nodes[gone] = nodes[last]
        nodes.pop()
    planned = len(plan.edges)
    assert planned <= len(nodes)
    assert all(node == (0.0, False, 0.0) for node in nodes[planned:])
    told = [weight for weight, _, _ in nodes[:planned]]
    assert list(np.diff(plan.edges, prepend=0.0)) == told == list(plan.others_flow)
    assert plan.homes is not None
    assert [{*shelf.tolist()} - {-1} for shelf in plan.gathering] == [{*plan.homes.own.tolist()}] * 2
    ours = {index for index, (_, mine, _) in enumerate(nodes) if mine}
    assert set(plan.homes.own.tolist()) == set(plan.front.tolist()) == ours
    assert [nodes[index][2] for index in plan.front.tolist()] == list(plan.front_s)
