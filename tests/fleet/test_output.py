"""Lengths of answers: learned over the client's limit."""

import pytest

from isochrone.fleet.output import OutputLength


def learned(pairs):
    length = OutputLength()
    for _ in range(40):
        for limit, tokens in pairs:
            length.learn(limit, tokens)
    return length


def test_clients_that_use_their_limit_up():
    length = learned([(16, 16), (64, 64)])
    assert length.expect(40) == pytest.approx(40, rel=0.02)
    assert length.expect(120) == pytest.approx(120, rel=0.1)
    assert length.expect(100_000) == pytest.approx(4 * 40, rel=0.05), (
        "far beyond all seen, a limit says little"
    )


def test_clients_whose_limit_means_nothing():
    length = learned([(256, 30), (4096, 30)])
    assert length.expect(1000) == pytest.approx(30, rel=0.1)
    assert length.expect(10) == 10


def test_answers_without_a_limit_are_learned_apart():
    length = learned([(16, 16), (None, 90)])
    assert length.expect(None) == pytest.approx(90, rel=0.05)
    assert length.expect(16) == pytest.approx(16, rel=0.05)


def test_never_below_one_token():
    assert learned([(16, 0), (None, 0)]).expect(1) == 1
