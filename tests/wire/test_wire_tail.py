"""The end of a stream, kept and counted while it passes in pieces of any size."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone.wire.sse import DONE, split_done
from isochrone.wire.tail import Tail

lines = st.sampled_from(
    (b"data: {}", b"data:x", b"event: data:", b": data:", b"", b"id: 1", b"dat", b" data:")
)
streams = st.lists(st.tuples(lines, st.sampled_from((b"\n", b"\r\n"))), max_size=30)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[begin:end] for begin, end in pairwise(edges)]


@given(streams, st.lists(st.integers(0, 300), max_size=20))
@settings(max_examples=200)
def test_events_are_counted_however_the_stream_is_cut(stream, cuts):
    data, tail = b"".join(line + end for line, end in stream), Tail(1000)
    for piece in pieces(data, cuts):
        tail.feed(piece)
    assert tail.events == sum(line.startswith(b"data:") for line, _ in stream)
    assert tail.bytes == len(data)
    assert tail.whole
    assert tail.value == data


def test_events_are_counted_byte_by_byte():
    tail = Tail(1000)
    for byte in b"data: a\n\ndata: b\n\n" + DONE:
        tail.feed(bytes([byte]))
    assert tail.events == 3


@given(st.lists(st.binary(max_size=50), max_size=60))
def test_the_end_is_kept_and_memory_is_bounded(data):
    tail = Tail(40)
    for piece in data:
        tail.feed(piece)
        assert len(tail.value) <= 2 * 40
    stream = b"".join(data)
    assert stream.endswith(tail.value)
    assert len(tail.value) >= min(40, len(stream))
    assert tail.whole == (tail.value == stream)


def test_one_large_piece_is_cut_too():
    tail = Tail(100)
    tail.feed(b"x" * 10**6 + b"end")
    assert tail.value.endswith(b"end")
    assert len(tail.value) <= 200
    assert not tail.whole


@pytest.mark.parametrize(
    ("data", "now", "held"),
    [
        (b"data: x\n\n" + DONE, b"data: x\n\n", DONE),
        (DONE, b"", DONE),
        (b"data: x\n\n", b"data: x\n\n", b""),
        (DONE + b"data: x\n\n", DONE + b"data: x\n\n", b""),
        (b"", b"", b""),
    ],
)
def test_the_last_event_is_held_back(data, now, held):
    assert split_done(data) == (now, held)
