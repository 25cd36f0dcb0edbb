"""The nouns: frozen, and the few sums that they work out."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

import isochrone.model as nouns
from isochrone.model import Candidate, Decision, Estimate, PromptBlocks

NOUNS = [n for n in vars(nouns).values() if isinstance(n, type) and dataclasses.is_dataclass(n)]


def an_estimate(**terms) -> Estimate:
    zero = dict.fromkeys((field.name for field in dataclasses.fields(Estimate)), 0)
    return Estimate(**{**zero, **terms})


@pytest.mark.parametrize("noun", NOUNS, ids=lambda noun: noun.__name__)
def test_nouns_are_frozen_slotted_and_tell_their_fields(noun):
    assert noun.__dataclass_params__.frozen
    assert "__slots__" in vars(noun)
    told = noun.__doc__ or ""
    if "Attributes:" in told:
        assert all(f"{field.name}:" in told for field in dataclasses.fields(noun))


def test_the_door_names_all_nouns():
    assert {noun.__name__ for noun in NOUNS} <= set(nouns.__all__)


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
