"""Headers between hops: what may pass, and whose token it is. And the names on the bus."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.wire import subjects
from isochrone.wire.http_headers import bearer_token, end_to_end

HOP_BY_HOP = (
    "connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer "
    "transfer-encoding upgrade content-length date server"
)


@pytest.mark.parametrize("name", HOP_BY_HOP.split())
def test_what_is_between_two_hops_stays_there(name):
    headers = ((name.encode(), b"x"), (b"content-type", b"text/plain"))
    assert end_to_end(headers) == ((b"content-type", b"text/plain"),)


def test_what_connection_names_stays_there_too():
    headers = ((b"x-a", b"1"), (b"x-b", b"2"), (b"x-c", b"3"), (b"connection", b"close, X-A ,x-b"))
    assert end_to_end(headers) == ((b"x-c", b"3"),)


def test_the_rest_passes_in_order_repeated_names_as_well():
    headers = ((b"set-cookie", b"a"), (b"x-request-id", b"7"), (b"set-cookie", b"b"))
    assert end_to_end(headers) == headers
    assert end_to_end(headers, without=(b"set-cookie",)) == ((b"x-request-id", b"7"),)


names = st.sampled_from([*(name.encode() for name in HOP_BY_HOP.split()), b"x-a", b"x-b"])


@given(st.lists(st.tuples(names, st.sampled_from((b"x-a", b"close", b"", b"x-b, ,")))).map(tuple))
def test_passing_twice_is_passing_once(headers):
    passed = end_to_end(headers)
    assert end_to_end(passed) == passed
    assert set(passed) <= set(headers)


@pytest.mark.parametrize(
    ("header", "token"),
    [
        (b"Bearer abc", "abc"),
        (b"bearer abc", "abc"),
        (b"BEARER  abc ", "abc"),
        (b"Bearer", ""),
        (b"Bearer ", ""),
        (b"Basic abc", ""),
        (b"abc", ""),
        (b"", ""),
        (None, ""),
        (b"Bearer \xff", "\xff"),
    ],
)
def test_the_token_of_a_bearer(header, token):
    assert bearer_token(header) == token


def test_subjects_match_their_wildcards():
    for subject, wildcard in (
        (subjects.pulse_subject("a"), subjects.PULSES),
        (subjects.decision_subject("a"), subjects.DECISIONS),
    ):
        assert wildcard.removesuffix("*") + "a" == subject


def test_headers_are_in_lower_case():
    told = [value for name, value in vars(subjects).items() if name.startswith(("HEADER_", "TRAILER_"))]
    assert all(value == value.lower() and isinstance(value, bytes) for value in told)
    assert len(set(told)) == len(told) >= 7
