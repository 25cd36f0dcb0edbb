"""A decision and its outcomes as one event."""

import msgspec

from isochrone.model import Candidate, Decision, Estimate, Exclusion, Outcome, OutcomeKind, Timings
from isochrone.wire.explain import Record, encode_record, record_fields

ESTIMATE = Estimate(10.0, 20.0, 0.0, 30.12345, 5.0, 400.0, 7.0, 100, 20, 41, 92.0)
OUTCOMES = (
    Outcome("r", "a", OutcomeKind.FAILED, 502, detail="reset"),
    Outcome("r", "b", OutcomeKind.ANSWERED, 200, 61.0, 500.0, Timings(prefill_ms=30.0, prompt_tokens=100)),
)
DECISION = Decision(
    "r",
    "m",
    "soonest",
    (Candidate("a", ESTIMATE), Candidate("b", ESTIMATE)),
    (Exclusion("c", "is leaving"),),
    5.0,
)
RECORD = Record("gw", 1_700_000_000_000, True, DECISION, OUTCOMES)


def test_a_record_tells_who_decided_what_and_why():
    fields = record_fields(RECORD)
    assert (fields["id"], fields["gateway"], fields["model"]) == ("r", "gw", "m")
    assert (fields["policy"], fields["stream"], fields["decided_unix_ms"]) == (
        "soonest",
        True,
        1_700_000_000_000,
    )
    assert fields["chosen"] == "a"
    assert fields["exclusions"] == [{"node": "c", "why": "is leaving"}]


def test_every_candidate_is_told_term_by_term_with_its_sums():
    first, second = record_fields(RECORD)["candidates"]
    assert (first["node"], second["node"]) == ("a", "b")
    assert (first["rtt_ms"], first["wait_ms"], first["prefill_ms"]) == (10.0, 20.0, 30.123)
    assert (first["ttft_ms"], first["total_ms"]) == (65.123, 465.123)
    assert first["ttft_ms"] == round(ESTIMATE.ttft_ms, 3)


def test_every_attempt_is_told_in_order():
    first, second = record_fields(RECORD)["outcomes"]
    assert (first["node"], first["kind"], first["detail"], first["timings"]) == ("a", "failed", "reset", None)
    assert (second["kind"], second["ttft_ms"], second["timings"]["prefill_ms"]) == ("answered", 61.0, 30.0)


def test_nothing_chosen_is_null():
    fields = record_fields(Record("gw", 1, False, Decision("r", "m", "p", (), (), 0.0)))
    assert fields["chosen"] is None
    assert fields["candidates"] == fields["outcomes"] == fields["exclusions"] == []


def test_the_event_is_the_record_as_json():
    assert msgspec.json.decode(encode_record(RECORD)) == record_fields(RECORD)
