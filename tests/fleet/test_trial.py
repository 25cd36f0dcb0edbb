"""A stranger gets a few requests at once until its first answer; no crowd, and no request without a node."""

import numpy as np
import pytest
from fleet_nouns import MODEL, a_card, a_dispatch, a_plan, a_pulse, a_request, an_outcome, seen
from hypothesis import given
from hypothesis import strategies as st

from isochrone.fleet import Fleet, FleetSettings, PulseReceived
from isochrone.fleet.trial import caution, cautions
from isochrone.model import Load, OutcomeKind

PRICE_MS = FleetSettings().trial_share * 2000.0
"""Of the first request too many, where all hold a slot for two seconds."""


def a_fleet(*names: str, **settings) -> Fleet:
    """Nodes with eight slots each."""
    fleet = Fleet(FleetSettings(**settings))
    for name in names:
        fleet.step(PulseReceived(a_pulse(name, load=Load(slots=8))), 0.0)
        fleet.step(a_card(name, slots=8), 0.0)
    return fleet


def caution_ms(fleet: Fleet, node: str = "a") -> float:
    """How much less certain a next request would be there: as told of one node and in columns."""
    roll = fleet.view(MODEL, 1.0).nodes
    index = roll.index_of(node)
    assert index is not None
    told_ms = roll.numbers(index, a_request().blocks).error_ms
    assert told_ms == roll.columns.error_ms[index] == seen(fleet, 1.0, node).models[MODEL].error_ms
    return told_ms


def send(fleet: Fleet, *numbers: int, node: str = "a") -> None:
    for number in numbers:
        fleet.step(a_dispatch(a_request(number), node, service_s=2.0), 1.0)


def end(fleet: Fleet, number: int, kind: OutcomeKind = OutcomeKind.ANSWERED, node: str = "a") -> None:
    """Without a first token: the answer came whole."""
    fleet.step(an_outcome(a_request(number), node, kind=kind), 1.0)


def test_two_requests_are_free_and_each_further_one_doubles_the_price():
    fleet, told_ms = a_fleet("a", "b"), []
    for number in range(5):
        told_ms.append(caution_ms(fleet))
        send(fleet, number)
    assert told_ms == pytest.approx([0.0, 0.0, PRICE_MS, 3 * PRICE_MS, 7 * PRICE_MS])
    assert caution_ms(fleet, "b") == 0.0


def test_the_room_is_as_asked_for():
    fleet = a_fleet("a", trial_requests=5, trial_share=0.5)
    send(fleet, *range(5))
    assert caution_ms(fleet) == pytest.approx(0.5 * 2000.0)


def test_the_first_answer_ends_the_trial():
    fleet = a_fleet("a")
    send(fleet, *range(4))
    assert caution_ms(fleet) > 0.0
    end(fleet, 0)
    send(fleet, *range(10, 30))
    assert caution_ms(fleet) == 0.0


@pytest.mark.parametrize("kind", [OutcomeKind.REFUSED, OutcomeKind.FAILED, OutcomeKind.CANCELLED])
def test_what_ends_without_an_answer_makes_room_and_ends_no_trial(kind):
    fleet = a_fleet("a")
    send(fleet, 1, 2)
    assert caution_ms(fleet) > 0.0
    end(fleet, 1, kind)
    assert caution_ms(fleet) == 0.0
    send(fleet, 3)
    assert caution_ms(fleet) > 0.0


def test_an_uncertain_stranger_is_on_trial_besides():
    fleet = a_fleet("a", "b")
    send(fleet, 1, node="b")
    fleet.step(an_outcome(a_request(1), "b", ttft_ms=40.0 + 2000.0), 1.0)
    send(fleet, 2, 3)
    assert caution_ms(fleet) == pytest.approx(40.0 + PRICE_MS)


def test_where_most_nodes_must_load_the_model_each_further_request_adds_no_more_than_the_one_before():
    fleet = a_fleet("a", "b", "c")
    send(fleet, *range(6))
    assert caution_ms(fleet) == pytest.approx(31 * PRICE_MS)
    fleet.step(a_plan(0.0, 0.0, 0.0, ready_share=1 / 3), 1.0)
    assert caution_ms(fleet) == pytest.approx(5 * PRICE_MS)
    fleet.step(a_plan(0.0, 0.0, 0.0, ready_share=2 / 3), 1.0)
    assert caution_ms(fleet) == pytest.approx(31 * PRICE_MS)


@given(st.integers(-10, 10**9), st.booleans())
def test_caution_is_bounded_while_nodes_have_the_model_and_grows_with_the_crowd(crowd, scarce):
    at_one, at_next = caution(crowd, scarce=scarce), caution(crowd + 1, scarce=scarce)
    assert 0.0 <= at_one <= at_next
    assert scarce or at_next < 2.0**12
    assert (at_one > 0.0) == (crowd > 0)
    assert cautions(np.array([crowd, crowd + 1.0]), scarce=scarce).tolist() == [at_one, at_next]
