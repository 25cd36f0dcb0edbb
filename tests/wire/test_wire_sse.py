"""`[DONE]` is held back whole, however the stream was cut, and nothing else is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.wire.sse import DONE, HELD_BYTES_MAX, split_done, split_events

fragments = st.integers(0, len(DONE)).flatmap(
    lambda begin: st.integers(begin, len(DONE)).map(lambda end: DONE[begin:end])
)
streams = st.lists(st.binary(max_size=4) | fragments | st.just(b'data: {"a":1}\n\n'), max_size=8).map(
    b"".join
)


@st.composite
def cut(draw, whole: st.SearchStrategy[bytes]) -> list[bytes]:
    """A stream in pieces, some of them empty, down to single bytes."""
    data = draw(whole)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=len(data))))
    return [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def relayed(pieces: list[bytes]) -> tuple[bytes, bytes]:
    """What a relay has sent on after all pieces, and what it still holds."""
    sent = held = b""
    for piece in pieces:
        data, held = split_done(held + piece)
        sent += data
    return sent, held


def longest_beginning_at_the_end(data: bytes) -> bytes:
    return max((DONE[:size] for size in range(len(DONE) + 1) if data.endswith(DONE[:size])), key=len)


@given(cut(streams.map(lambda body: body + DONE)))
def test_the_last_done_is_always_held_at_the_end(pieces):
    body = b"".join(pieces)[: -len(DONE)]
    assert relayed(pieces) == (body, DONE)


@given(cut(streams))
def test_no_byte_is_lost_doubled_or_held_for_nothing(pieces):
    """Held at any instant: as much of the end as may yet become `[DONE]`, and not a byte more."""
    for count in range(len(pieces) + 1):
        so_far = b"".join(pieces[:count])
        sent, held = relayed(pieces[:count])
        assert sent + held == so_far
        assert held == longest_beginning_at_the_end(so_far)


@pytest.mark.parametrize("size", range(1, len(DONE) + 1))
def test_in_pieces_of_any_one_size(size):
    stream = b'data: {"d":"data: [DONE]"}\n\n' + DONE + b"data: [DONE" + DONE
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    assert relayed(pieces) == (stream[: -len(DONE)], DONE)


@pytest.mark.parametrize(
    ("data", "sent", "held"),
    [
        (b"", b"", b""),
        (DONE, b"", DONE),
        (DONE + DONE, DONE, DONE),
        (b"data: 1\n\n", b"data: 1\n\n", b""),
        (b"data: 1\n\ndata: [D", b"data: 1\n\n", b"data: [D"),
        (b"x" + DONE[:-1], b"x", DONE[:-1]),
        (DONE + b"d", DONE, b"d"),
        (b"data: [DONE]x", b"data: [DONE]x", b""),
    ],
)
def test_what_goes_on_and_what_waits(data, sent, held):
    assert split_done(data) == (sent, held)


# Whole events only


@pytest.mark.parametrize(
    ("data", "now", "held"),
    [
        (b"", b"", b""),
        (b"data: 1\n\n", b"data: 1\n\n", b""),
        (b"data: 1\r\n\r\n", b"data: 1\r\n\r\n", b""),
        (b"data: 1\n\ndata: ", b"data: 1\n\n", b"data: "),
        (b"data: 1\r\n\r\ndata: ", b"data: 1\r\n\r\n", b"data: "),
        (b"data: 1\n", b"", b"data: 1\n"),
        (b"data: 1\n\ndata: [DONE]\n\n", b"data: 1\n\n", DONE),
        (b"data: 1\r\n\r\ndata: [DONE]\r\n\r\n", b"data: 1\r\n\r\n", b"data: [DONE]\r\n\r\n"),
        (b"event: x\ndata: [DONE]\n\n", b"", b"event: x\ndata: [DONE]\n\n"),
        (b"data: 1\n\nevent: x\ndata: [DONE]\n\n", b"data: 1\n\n", b"event: x\ndata: [DONE]\n\n"),
    ],
)
def test_what_is_no_whole_event_waits(data, now, held):
    assert split_events(data) == (now, held)


def test_an_event_without_an_end_is_passed_on_at_last():
    endless = b"data: " + b"x" * HELD_BYTES_MAX
    assert split_events(endless) == (endless, b"")
    assert split_events(endless[:HELD_BYTES_MAX]) == (b"", endless[:HELD_BYTES_MAX])
