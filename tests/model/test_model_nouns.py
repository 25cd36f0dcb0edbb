"""The nouns: frozen, and the few sums that they work out."""

import dataclasses
import inspect
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

import isochrone.model as nouns
from isochrone.model import (
    Candidate,
    Candidates,
    Decision,
    Estimate,
    FleetView,
    Objective,
    PromptBlocks,
    SloRoom,
)

NOUNS = [n for n in vars(nouns).values() if isinstance(n, type) and dataclasses.is_dataclass(n)]


def an_estimate(**terms) -> Estimate:
    zero = dict.fromkeys((field.name for field in dataclasses.fields(Estimate)), 0)
    return Estimate(**{**zero, **terms})


@pytest.mark.parametrize("noun", NOUNS, ids=lambda noun: noun.__name__)
def test_nouns_are_frozen_slotted_and_tell_their_fields(noun):
    """But for the view, which is no value but a window; a `fleeting` noun is frozen for the type checker."""
    declared = inspect.getsource(noun).split("class ")[0]
    assert "frozen=True" in declared or noun is FleetView
    assert noun.__dataclass_params__.frozen or "@fleeting" in declared or noun is FleetView
    assert "__slots__" in vars(noun)
    told = noun.__doc__ or ""
    if "Attributes:" in told:
        assert all(f"{field.name}:" in told for field in dataclasses.fields(noun))


def test_the_door_names_all_nouns():
    assert {noun.__name__ for noun in NOUNS} <= set(nouns.__all__)


def test_candidates_are_told_when_looked_at_and_once():
    asked = []

    def tell(at: int) -> Candidate:
        asked.append(at)
        return Candidate("abc"[at], an_estimate(rtt_ms=at))

    candidates = Candidates(3, tell)
    assert (len(candidates), bool(candidates), asked) == (3, True, [])
    assert candidates[0] is candidates[0]
    assert candidates[-1].node == "c"
    assert asked == [0, 2]
    assert [candidate.node for candidate in candidates[1:]] == ["b", "c"]
    assert asked == [0, 2, 1]
    with pytest.raises(IndexError):
        candidates[3]
    assert not Candidates(0, tell)


def test_candidates_stand_for_a_tuple_of_them():
    told = tuple(Candidate(node, an_estimate(rtt_ms=at)) for at, node in enumerate("ab"))
    candidates = Candidates(2, told.__getitem__)
    assert candidates == told
    assert told == candidates
    assert candidates != told[:1]
    assert candidates != list(told)
    assert hash(candidates) == hash(told)
    decision = Decision("r", "m", "p", Candidates(2, lambda at: told[at]), (), 0.0)
    assert pickle.loads(pickle.dumps(decision)) == decision == Decision("r", "m", "p", told, (), 0.0)
    assert repr(decision) == repr(Decision("r", "m", "p", told, (), 0.0))


def test_an_estimate_adds_up_its_terms():
    estimate = an_estimate(rtt_ms=10, wait_ms=200, cold_ms=3000, prefill_ms=40, bias_ms=-5, decode_ms=500)
    assert estimate.ttft_ms == 10 + 200 + 3000 + 40 - 5
    assert estimate.total_ms == estimate.ttft_ms + 500
    assert estimate.service_s == pytest.approx(0.54)


def test_what_was_learned_takes_off_no_more_than_the_prefill():
    estimate = an_estimate(rtt_ms=10, wait_ms=20, cold_ms=30, prefill_ms=40, bias_ms=-100, decode_ms=500)
    assert estimate.ttft_ms == 60
    assert estimate.total_ms == 560


def test_the_first_candidate_is_the_chosen_one():
    first, second = Candidate("b", an_estimate()), Candidate("a", an_estimate())
    assert Decision("r", "m", "p", (first, second), (), 0.0).chosen is first
    assert Decision("r", "m", "p", (), (), 0.0).chosen is None


@given(st.lists(st.integers(0, 9), unique=True), st.sets(st.integers(0, 9)), st.integers(1, 99))
def test_a_prefix_ends_at_the_first_unknown_block(hashes, known, block_bytes):
    blocks = PromptBlocks(tuple(hashes), block_bytes)
    prefix = blocks.prefix_bytes(known) // block_bytes
    assert set(hashes[:prefix]) <= known
    assert prefix == len(hashes) or hashes[prefix] not in known


def test_an_objective_has_less_left_the_longer_the_client_has_waited():
    told = Objective(ttft_ms=500.0, tpot_ms=20.0, completion=True)
    assert told.after(120.0) == Objective(ttft_ms=380.0, tpot_ms=20.0, completion=True)
    assert told.after(600.0).ttft_ms == -100.0
    assert Objective(tpot_ms=20.0).after(600.0) == Objective(tpot_ms=20.0)


def test_a_limit_that_has_passed_is_kept_by_nobody():
    passed = SloRoom(-100.0, None, -300.0, None)
    assert not passed.met
    assert not passed.leaves(0.5)
