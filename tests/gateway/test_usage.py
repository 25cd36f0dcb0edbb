"""What a request is held to have taken of its key's tokens."""

import pytest

from isochrone.gateway.crew import tokens_taken
from isochrone.model import Candidate, Decision, Estimate, Outcome, OutcomeKind, Timings
from isochrone.wire.explain import Record

TPOT_MS, TTFT_MS = 10.0, 100.0
EXPECTED = Estimate(5.0, 0.0, 0.0, 95.0, 0.0, 19 * TPOT_MS, 0.0, 30, 0, 20, 0.0)
"""A prompt of 30 tokens, 20 tokens of answer."""


def a_record(*outcomes: Outcome, stream: bool = True) -> Record:
    decision = Decision("req-1", "m", "soonest", (Candidate("a", EXPECTED),), (), 1.0)
    return Record("gw", 0, stream, decision, outcomes)


def an_outcome(kind: OutcomeKind, node: str = "a", **more) -> Outcome:
    return Outcome("req-1", node, kind, **more)


TOLD = an_outcome(OutcomeKind.ANSWERED, timings=Timings(prompt_tokens=40, output_tokens=2))
GONE = OutcomeKind.CANCELLED


@pytest.mark.parametrize(
    ("record", "tokens"),
    [
        (None, 0),
        (a_record(), 0),
        (a_record(an_outcome(OutcomeKind.REFUSED), an_outcome(OutcomeKind.FAILED)), 0),
        (a_record(TOLD), 42),
        (a_record(an_outcome(OutcomeKind.FAILED, "b"), TOLD), 42),
        (a_record(an_outcome(GONE)), None),
        (a_record(an_outcome(OutcomeKind.ANSWERED, "unheard-of", ttft_ms=1.0)), None),
    ],
)
def test_tokens_are_those_that_nodes_report(record, tokens):
    assert tokens_taken(record) == tokens


@pytest.mark.parametrize(
    ("outcome", "stream", "tokens"),
    [
        (an_outcome(GONE, ttft_ms=80.0, total_ms=81.0), True, 50),
        (an_outcome(GONE, ttft_ms=80.0, total_ms=80.0 + 500 * TPOT_MS), True, 531),
        (an_outcome(OutcomeKind.FAILED, ttft_ms=80.0, total_ms=80.0 + 500 * TPOT_MS), True, 531),
        (an_outcome(GONE, total_ms=TTFT_MS + 500 * TPOT_MS), False, 531),
        (an_outcome(GONE, total_ms=TTFT_MS / 2), False, 50),
        (an_outcome(GONE, total_ms=60_000.0), True, None),
    ],
)
def test_who_leaves_early_has_taken_what_was_expected_or_as_much_as_there_was_time_for(
    outcome, stream, tokens
):
    assert tokens_taken(a_record(outcome, stream=stream)) == tokens
