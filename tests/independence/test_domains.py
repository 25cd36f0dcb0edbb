"""Whom to try next after a failure: someone who does not share the cause."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.independence import first_independent

DOMAINS = {"a": {"rack:1", "power:1"}, "b": {"rack:2", "power:1"}, "c": {"rack:3", "power:2"}, "d": set()}


@pytest.mark.parametrize(
    ("candidates", "failed", "next_one"),
    [
        ("abc", "", "a"),
        ("abc", "a", "c"),
        ("bac", "a", "c"),
        ("ab", "a", "b"),
        ("abd", "a", "d"),
        ("cab", "a", "c"),
        ("abc", "ac", "b"),
        ("a", "a", None),
        ("", "", None),
        ("", "a", None),
    ],
)
def test_the_next_shares_no_domain_if_any_can(candidates, failed, next_one):
    assert first_independent(candidates, failed, DOMAINS.__getitem__) == next_one


domains = st.dictionaries(st.sampled_from("abcdef"), st.sets(st.integers(0, 4), max_size=3), min_size=1)


@given(domains, st.data())
def test_never_one_that_failed_and_never_none_while_one_is_left(declared, data):
    candidates = data.draw(st.permutations(sorted(declared)))
    failed = data.draw(st.sets(st.sampled_from(candidates)))
    chosen = first_independent(candidates, failed, declared.__getitem__)
    left = [node for node in candidates if node not in failed]
    suspect = {domain for node in failed for domain in declared[node]}
    free = [node for node in left if not declared[node] & suspect]
    assert chosen == (free or left or [None])[0]
