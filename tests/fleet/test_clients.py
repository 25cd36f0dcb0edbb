"""Lengths of answers to single clients: believed as far as they are seen, and no more are kept than asked."""

from dataclasses import replace

import pytest
from fleet_nouns import MODEL, a_dispatch, a_request, an_outcome, joined
from hypothesis import given
from hypothesis import strategies as st

from isochrone.fleet import FleetSettings
from isochrone.fleet.clients import ClientShares
from isochrone.model import Timings

CLIENTS = st.sampled_from(("a", "b", "c"))
ANSWERS = st.lists(st.tuples(CLIENTS, st.integers(1, 100_000), st.floats(1.0, 5000.0)), max_size=60)


def fed(*answers: tuple[str, float], clients_max: int = 100, rounds: int = 30) -> ClientShares:
    """Who learned of answers so many times as long as expected, again and again."""
    shares = ClientShares(clients_max)
    for _ in range(rounds):
        for client, ratio in answers:
            shares.learn(client, 100.0 * ratio, 100.0)
    return shares


def test_long_and_short_answers_are_told_apart():
    shares = fed(("short", 0.5), ("long", 1.5), rounds=60)
    assert shares.believed["short"] == pytest.approx(0.5, abs=0.05)
    assert shares.believed["long"] == pytest.approx(1.5, abs=0.05)


def test_where_clients_are_alike_a_client_counts_for_little():
    """Each one's answers spread as much as everybody's: what is expected of all says the most."""
    noise = [(name, ratio) for ratio in (0.2, 1.8, 1.8, 0.2) for name in ("a", "b")]
    alike, apart = fed(*noise), fed(("a", 0.2), ("b", 1.8))
    assert alike.samples_to_half > 20 * apart.samples_to_half


def test_one_answer_moves_a_belief_less_than_the_next_ones_do_together():
    once, often = fed(("a", 3.0), rounds=1), fed(("a", 3.0), rounds=30)
    assert 1.0 < once.believed["a"] < 2.0 < often.believed["a"] <= 3.0


def test_what_a_client_was_long_ago_is_forgotten():
    shares = fed(("a", 4.0), ("b", 0.5))
    for _ in range(400):
        shares.learn("a", 50.0, 100.0)
    assert shares.believed["a"] == pytest.approx(0.5, abs=0.1)


def test_the_client_not_heard_of_for_longest_gives_way():
    shares = ClientShares(2)
    for client in ("a", "b", "a", "c"):
        shares.learn(client, 200.0, 100.0)
    assert set(shares.believed) == {"a", "c"}


def test_clients_without_a_name_are_not_learned():
    assert not fed(("", 3.0)).believed


def test_a_memory_of_no_clients_learns_nothing():
    assert not fed(("a", 3.0), clients_max=0).believed


@given(ANSWERS)
def test_a_factor_lies_between_1_and_the_ratio_of_the_clients_own_answers(answers):
    shares = ClientShares(10)
    own: dict[str, list[float]] = {}
    for client, tokens, expected in answers:
        shares.learn(client, tokens, expected)
        own.setdefault(client, []).append(min(tokens / expected, 32.0))
    assert set(shares.believed) == set(own)
    for client, ratios in own.items():
        factor = shares.believed[client]
        assert min(1.0, *ratios) * (1 - 1e-9) <= factor <= max(1.0, *ratios) * (1 + 1e-9)


@given(ANSWERS, st.integers(0, 3))
def test_no_more_clients_are_kept_than_asked_and_each_has_a_belief(answers, most):
    shares = ClientShares(most)
    for client, tokens, expected in answers:
        shares.learn(client, tokens, expected)
        assert len(shares) == len(shares.believed) <= most


@given(ANSWERS)
def test_the_weight_of_what_all_show_stays_within_its_bounds(answers):
    shares = ClientShares(10)
    for client, tokens, expected in answers:
        shares.learn(client, tokens, expected)
    assert 1.0 <= shares.samples_to_half <= 1000.0


# -- in the fleet ------------------------------------------------------------------------------------


def answered(fleet, number: int, client: str, tokens: int, limit: int | None = None) -> None:
    request = a_request(number, client=client, output_tokens_max=limit)
    fleet.step(a_dispatch(request), 0.0)
    fleet.step(an_outcome(request, timings=Timings(prompt_tokens=100, output_tokens=tokens)), 0.0)


def test_a_view_tells_how_long_answers_to_each_client_are():
    fleet = joined()
    for number in range(60):
        answered(fleet, number, *(("brief", 20) if number % 2 else ("wordy", 180)))
    share = fleet.view(MODEL, 0.0).output_share
    assert share["brief"] < 0.5
    assert share["wordy"] > 1.4
    assert not fleet.view("other", 0.0).output_share


def test_with_no_clients_remembered_a_view_tells_none():
    fleet = joined(settings=FleetSettings(clients_max=0))
    answered(fleet, 1, "wordy", 900)
    assert not fleet.view(MODEL, 0.0).output_share


def test_ten_thousand_clients_are_remembered_for_each_model():
    assert FleetSettings().clients_max == 10_000


def test_what_a_plan_is_made_from_tells_no_client():
    """It is read in another thread, while answers are learned."""
    fleet = joined()
    answered(fleet, 1, "wordy", 900)
    view = fleet.view(MODEL, 0.0)
    assert view.output_share
    assert not view.snapshot().output_share


def test_a_request_does_not_show_its_client():
    request = a_request(client="0123456789abcdef")
    assert "0123456789abcdef" not in repr(request)
    assert request != replace(request, client="")
