"""The fewer nodes, the more often each speaks; never more often than all together may."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.fleet.cadence import pulse_interval_s

USUAL = {"pulse_s": 1.0, "pulse_s_min": 0.2, "pulses_per_s": 50.0}


@pytest.mark.parametrize(
    ("nodes", "interval_s"),
    [(0, 1.0), (1, 0.2), (3, 0.2), (10, 0.2), (11, 0.22), (40, 0.8), (50, 1.0), (51, 1.0), (10_000, 1.0)],
)
def test_few_nodes_speak_often_and_many_once_a_second(nodes: int, interval_s: float) -> None:
    assert pulse_interval_s(nodes, **USUAL) == pytest.approx(interval_s)


def test_a_network_may_keep_to_one_interval() -> None:
    assert pulse_interval_s(3, **{**USUAL, "pulses_per_s": 0.0}) == 1.0
    assert pulse_interval_s(3, **{**USUAL, "pulse_s_min": 5.0}) == 1.0


positive = st.floats(1e-3, 1e3)


@given(st.integers(0, 10**9), positive, positive, positive)
def test_no_node_is_slower_than_it_was_and_all_together_keep_to_the_budget(
    nodes: int, pulse_s: float, pulse_s_min: float, pulses_per_s: float
) -> None:
    interval_s = pulse_interval_s(nodes, pulse_s=pulse_s, pulse_s_min=pulse_s_min, pulses_per_s=pulses_per_s)
    assert min(pulse_s, pulse_s_min) <= interval_s <= pulse_s
    if interval_s < pulse_s:
        assert nodes / interval_s <= pulses_per_s * (1 + 1e-9)
