"""What a node measures of its own models."""

from random import Random

import pytest

from isochrone.model import PromptBlocks, Request, Timings
from isochrone.nodes.inference.speeds import Speeds


def a_request(prompt_bytes: int, *blocks: int, limit: int | None = None) -> Request:
    return Request("r", "m", prompt_bytes, PromptBlocks(blocks), output_tokens_max=limit)


def timings(tokens: int, cached: int = 0, concurrency: float = 1.0) -> Timings:
    return Timings(
        prefill_ms=40 + 2 * (tokens - cached),
        decode_ms=19 * (5 + 5 * concurrency),
        prompt_tokens=tokens,
        cached_tokens=cached,
        output_tokens=20,
        concurrency=concurrency,
    )


def a_veteran() -> Speeds:
    speeds, luck = Speeds(), Random(2)
    for at in range(300):
        prompt_bytes = luck.randint(100, 4000)
        tokens = 8 + round(0.3 * prompt_bytes)
        speeds.learn(a_request(prompt_bytes), timings(tokens, concurrency=1 + at % 4))
    return speeds


def test_a_beginner_has_possible_numbers():
    speeds = Speeds()
    assert not speeds.measured
    assert 0 < speeds.prefill_s(a_request(1000)) < 60
    assert speeds.output_tokens(a_request(1)) > 1
    assert 0 < speeds.load_s(1) < speeds.load_s(10**9)
    assert speeds.fetch_s(10**9) > 0


def test_a_veteran_knows_its_speeds():
    speeds = a_veteran()
    assert speeds.measured
    assert speeds.prefill_s(a_request(2000)) == pytest.approx((40 + 2 * 608) / 1e3, rel=0.03)
    assert speeds.decode.at(1) == pytest.approx(10.0, rel=0.02)
    assert speeds.decode.at(4) == pytest.approx(25.0, rel=0.02)


def test_a_cached_prefix_shortens_the_prefill():
    speeds = a_veteran()
    blocks = tuple(range(16))
    speeds.learn(a_request(1024, *blocks), timings(315))
    cold_s = speeds.prefill_s(a_request(1024, *range(100, 116)))
    for _ in range(40):
        speeds.learn(a_request(1024, *blocks), timings(315, cached=300))
    assert speeds.prefill_s(a_request(1024, *blocks)) < 0.4 * cold_s


def test_the_last_token_is_always_computed():
    speeds = a_veteran()
    speeds.prefix.tokens.add(0, 1e6)
    assert speeds.prefill_s(a_request(100, 1)) > 0


@pytest.mark.parametrize(("limit", "tokens"), [(None, 20), (5, 5), (500, 128), (1, 1)])
def test_answers_are_as_long_as_lately_and_no_longer_than_a_limit_never_seen(limit, tokens):
    assert a_veteran().output_tokens(a_request(1, limit=limit)) == pytest.approx(tokens, rel=0.01)


def test_load_times_are_learned():
    speeds = Speeds()
    speeds.load.add(3.0)
    assert speeds.load_s(10**12) == 3.0


def test_answers_without_numbers_teach_nothing():
    speeds = Speeds()
    speeds.learn(a_request(100), Timings())
    assert not speeds.measured
    assert (speeds.decode.count, speeds.tokens.count) == (0, 0)


def test_an_answer_whose_prompt_was_not_counted_teaches_no_prefill():
    speeds = a_veteran()
    before_s = speeds.prefill_s(a_request(2000))
    for _ in range(40):
        speeds.learn(a_request(2000), Timings(prefill_ms=1256.0, output_tokens=20, decode_ms=190.0))
    assert speeds.prefill_s(a_request(2000)) == pytest.approx(before_s, rel=0.1)
