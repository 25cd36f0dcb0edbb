"""Drawing and ordering: fair, bounded, and only among the usable."""

from collections import Counter
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from routing_nouns import A_MODEL, MODEL, a_choice, a_node, a_view

from isochrone.model import ModelState, NodeView, PromptBlocks, Request, name_hash
from isochrone.routing.keys import affinity, prefix_key

FIVE = a_view(*(a_node(name) for name in "abcde"))
HUNDRED = a_view(*(a_node(f"n{at}", unavailable="is leaving" if at % 2 else None) for at in range(100)))


@pytest.mark.parametrize("view", [FIVE, HUNDRED], ids=["by looking at all", "by trying"])
def test_draws_are_distinct_usable_and_fair(view):
    luck, choice, seen = Random(1), a_choice(view), Counter()
    for _ in range(1000):
        drawn = choice.draw(2, luck)
        assert len(set(drawn)) == 2
        seen.update(drawn)
    assert set(seen) == {int(index) for index in choice.usable}
    mean = 2000 / len(choice.usable)
    assert sum((count - mean) ** 2 / mean for count in seen.values()) < 2 * len(choice.usable) + 20


def test_no_more_are_drawn_than_there_are():
    left = replace(FIVE, left_out=frozenset((0, 2)))
    assert sorted(a_choice(left).draw(9, Random(1))) == [1, 3, 4]
    assert sorted(a_choice(left).draw_weighted(9, np.ones(5), Random(1))) == [1, 3, 4]


def test_weighted_draws_go_by_weight_one_after_the_other():
    """Of weights 1, 2, 5: the first is drawn first with 1/8, and second with 2/8 * 1/6 + 5/8 * 1/3."""
    view, luck = a_view(*(a_node(name) for name in "abc")), Random(2)
    draws = [tuple(a_choice(view).draw_weighted(2, np.array([1.0, 2.0, 5.0]), luck)) for _ in range(4000)]
    assert sum(drawn[0] == 0 for drawn in draws) / 4000 == pytest.approx(1 / 8, abs=0.02)
    assert sum(drawn[1] == 0 for drawn in draws) / 4000 == pytest.approx(2 / 8 / 6 + 5 / 8 / 3, abs=0.03)


def test_without_any_weight_all_are_equal():
    drawn = {a_choice(FIVE).draw_weighted(1, np.zeros(5), Random(seed))[0] for seed in range(60)}
    assert drawn == set(range(5))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(1, 9), st.integers(0, 99))
def test_the_least_are_those_of_a_full_sort(costs, wanted, seed):
    choice = a_choice(a_view(*(a_node(f"n{at:02}") for at in range(len(costs)))), wanted=wanted)
    column = np.array(costs, dtype=float)
    best = sorted(costs)[:wanted]
    assert [costs[index] for index in choice.least(column, Random(seed))] == best
    in_order = choice.least(column)
    assert in_order == sorted(range(len(costs)), key=lambda index: (costs[index], index))[:wanted]


def test_between_equals_everyone_may_be_least():
    choice, luck = a_choice(HUNDRED), Random(3)
    first = Counter(choice.least(np.zeros(100), luck)[0] for _ in range(2000))
    assert set(first) == set(range(0, 100, 2))


def test_the_key_of_a_prompt_is_that_of_its_leading_blocks():
    def request(*blocks: int, name: str = "r") -> Request:
        return Request(name, "tiny", blocks=PromptBlocks(blocks))

    assert prefix_key(request(1, 2, 3), 2) == prefix_key(request(1, 2, 4), 2) == 2
    assert prefix_key(request(1, 2, 3), 9) == 3
    assert prefix_key(request(name="a"), 2) != prefix_key(request(name="b"), 2)


def test_hash_functions_are_even_and_independent():
    """Correlation of two hash functions over a thousand nodes: 0.1 is three standard deviations."""
    names = np.array([name_hash(f"n{at}") for at in range(1000)], dtype=np.uint64)
    one, other = affinity(names, 12345), affinity(names, 12345, function=1)
    assert 0.0 <= one.min() < 0.02
    assert 0.98 < one.max() <= 1.0
    assert one.mean() == pytest.approx(0.5, abs=0.03)
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.1
    assert abs(np.corrcoef(one, affinity(names, 12346))[0, 1]) < 0.1


def test_owners_of_most_are_those_that_hold_most_and_of_them_only_the_usable_are_ranked():
    block = [dict.fromkeys(range(1, 1 + held)) for held in (1, 3, 0, 3, 2)]
    nodes = [
        a_node(name, replace(A_MODEL, cached_prefix=held)) for name, held in zip("abcde", block, strict=True)
    ]
    nodes[1] = replace(nodes[1], unavailable="is leaving")
    choice = a_choice(
        replace(a_view(*nodes), left_out=frozenset((0,))), Request("r", MODEL, 400, PromptBlocks((1, 2, 3)))
    )
    assert sorted(choice.owners_of_most(8)) == [0, 1, 3, 4]
    assert choice.owners_of_most(1) == [1]
    assert choice.soonest(choice.owners_of_most(8)) == [3, 4]
    assert sorted(choice.owners) == [3, 4]


def shared(name: str) -> NodeView:
    """A node that has two other models at work, whose requests ours would slow."""
    return a_node(name, replace(A_MODEL, sharing_effect=1.0), models_at_work=2, running=6, slots=8)


def loading(name: str, ready_in_s: float) -> NodeView:
    return a_node(name, replace(A_MODEL, state=ModelState.ON_DISK, ready_in_s=ready_in_s))


def test_of_nodes_that_are_ready_the_one_that_is_not_shared_is_taken():
    choice = a_choice(a_view(shared("a"), a_node("b", rtt_ms=300.0)))
    assert choice.soonest((0, 1)) == [1, 0]


def test_sharing_is_no_reason_to_load():
    view = a_view(shared("a"), loading("b", 0.5))
    usual_ms = a_choice(a_view(a_node("a"), loading("b", 0.5)))
    assert usual_ms.soonest((0, 1)) == [0, 1]
    choice = a_choice(view)
    assert choice.look((1,))[0] < choice.look((0,))[0]
    assert choice.soonest((0, 1)) == [0, 1]
    assert choice.score_ms(1) - choice.score_ms(0) == pytest.approx(
        usual_ms.score_ms(1) - usual_ms.score_ms(0)
    )


def test_to_be_compared_again_does_not_make_a_load_later_still():
    choice = a_choice(a_view(shared("a"), loading("b", 0.5), a_node("c", rtt_ms=300.0)))
    choice.soonest((0, 1))
    once_ms = choice.score_ms(1)
    choice.soonest((0, 1))
    assert choice.score_ms(1) == once_ms
    choice.soonest((0, 1, 2))
    assert choice.score_ms(1) <= once_ms


def test_where_none_is_ready_nothing_is_added():
    choice = a_choice(a_view(loading("a", 2.0), loading("b", 1.0)))
    before_ms = choice.score_ms(0)
    assert choice.soonest((0, 1)) == [1, 0]
    assert choice.score_ms(0) == before_ms
