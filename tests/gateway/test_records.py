"""The last decisions: bounded, found by id or as the last, whole when they end."""

from hypothesis import given
from hypothesis import strategies as st

from isochrone.gateway.records import LAST, Records
from isochrone.model import Decision, Outcome, OutcomeKind
from isochrone.wire.explain import Record


def a_record(request_id: str) -> Record:
    return Record("gw", 1_700_000_000_000, True, Decision(request_id, "m", "soonest", (), (), 1.0))


def an_outcome(request_id: str, node: str = "a") -> Outcome:
    return Outcome(request_id, node, OutcomeKind.FAILED)


def ids(records: list[Record]) -> list[str]:
    return [record.decision.request_id for record in records]


def test_outcomes_are_kept_in_order_beside_their_decision():
    records = Records(10)
    for request_id in "xy":
        records.begin(a_record(request_id))
    for node in "ab":
        records.add(an_outcome("x", node))
    whole = records.end("x")
    assert [outcome.node for outcome in whole.outcomes] == ["a", "b"]
    assert records.find("x") == whole
    assert records.find("y").outcomes == ()


def test_the_last_is_the_last_that_ended():
    records = Records(10)
    assert records.find(LAST) is None
    for request_id in "xyz":
        records.begin(a_record(request_id))
    assert records.find(LAST) is None
    records.end("y")
    records.end("x")
    assert records.find(LAST).decision.request_id == "x"
    records.end("never begun")
    assert records.find(LAST).decision.request_id == "x"


def test_of_those_that_ended_the_oldest_is_dropped():
    records = Records(2)
    for request_id in "xyz":
        records.begin(a_record(request_id))
    for request_id in "yzx":
        assert records.end(request_id) is not None
    assert records.find("y") is None
    records.add(an_outcome("y"))
    assert records.end("y") is None
    assert ids(records.newest(10)) == ["x", "z"]


def test_what_is_under_way_is_kept_however_long_it_takes():
    records = Records(1)
    records.begin(a_record("long"))
    for request_id in "xyz":
        records.begin(a_record(request_id))
        records.end(request_id)
    records.add(an_outcome("long"))
    assert records.find(LAST).decision.request_id == "z"
    assert len(records.end("long").outcomes) == 1


def test_newest_first_and_no_more_than_asked_for():
    records = Records(10)
    for request_id in "xyz":
        records.begin(a_record(request_id))
    records.add(an_outcome("x"))
    assert [ids(records.newest(count)) for count in (0, 2, 9)] == [[], ["z", "y"], ["z", "y", "x"]]


@given(st.integers(0, 5), st.lists(st.tuples(st.sampled_from("bae"), st.integers(0, 9))))
def test_whatever_happens_memory_is_bounded(most, happenings):
    records = Records(most)
    for what, number in happenings:
        if what == "b":
            records.begin(a_record(str(number)))
        elif what == "a":
            records.add(an_outcome(str(number)))
        else:
            records.end(str(number))
        under_way = {str(number) for number in range(10)} & set(records._open)
        assert len(records.newest(100)) <= most + len(under_way)
