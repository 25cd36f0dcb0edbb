"""What was measured of an answer: in trailers, in whole replies, in the last events of a stream."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone.model import Timings
from isochrone.wire import WireError
from isochrone.wire.timings import (
    EngineReport,
    decode_timings,
    encode_timings,
    report_from_body,
    report_from_tail,
)

LLAMA_CPP = (
    b'{"choices":[{"finish_reason":"length","index":0,"delta":{}}],"object":"chat.completion.chunk",'
    b'"usage":{"completion_tokens":4,"prompt_tokens":36,"total_tokens":40,'
    b'"prompt_tokens_details":{"cached_tokens":35}},'
    b'"timings":{"cache_n":35,"prompt_n":1,"prompt_ms":11.442,"predicted_n":4,"predicted_ms":33.211}}'
)
TOLD = EngineReport(36, 35, 4, 11.442, 33.211)
TOKEN = b'data: {"choices":[{"index":0,"delta":{"content":"data: x"}}]}\n\n'
DONE = b"data: [DONE]\n\n"

times = st.floats(0.0, 86_400_000.0)
counts = st.integers(0, 10**8)


@given(st.builds(Timings, times, times, times, times, counts, counts, counts, st.floats(0.01, 1e6)))
@settings(max_examples=60)
def test_timings_come_out_as_they_went_in(timings):
    assert decode_timings(encode_timings(timings)) == timings
    assert b"\n" not in encode_timings(timings)


@pytest.mark.parametrize("value", ["-1", "NaN", "1e999", "1e300", "1" + "0" * 400, '"x"', "null", "true"])
@pytest.mark.parametrize(
    "name",
    [*(f"{what}_ms" for what in ("queue", "load", "prefill", "decode")), "prompt_tokens", "concurrency"],
)
def test_no_impossible_timing_comes_in(name, value):
    with pytest.raises(WireError):
        decode_timings(f'{{"{name}":{value}}}'.encode())


@pytest.mark.parametrize("name", ["prompt_tokens", "cached_tokens", "output_tokens"])
@pytest.mark.parametrize("value", [-1, 10**9, 1.5])
def test_no_impossible_count_comes_in(name, value):
    with pytest.raises(WireError):
        decode_timings(msgspec.json.encode({name: value}))


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_junk_is_a_wire_error_and_an_empty_report(junk):
    with pytest.raises(WireError):
        decode_timings(junk)
    assert report_from_body(junk) == EngineReport()
    assert report_from_tail(junk) == EngineReport()
    assert report_from_tail(b"data: " + junk + b"\n\n") == EngineReport()


def test_too_much_is_too_much():
    with pytest.raises(WireError, match="the most is"):
        decode_timings(b" " * 2000)
    for junk in (b"[" * 100_000, b'{"usage":' * 100_000):
        assert report_from_body(junk) == EngineReport()


def test_a_whole_reply_of_llama_cpp():
    assert report_from_body(LLAMA_CPP) == TOLD


def test_a_stream_of_llama_cpp():
    assert report_from_tail(TOKEN * 3 + b"data: " + LLAMA_CPP + b"\n\n" + DONE) == TOLD


def test_a_stream_that_was_cut_off_at_its_front():
    stream = TOKEN * 3 + b"data: " + LLAMA_CPP + b"\n\n" + DONE
    for cut in range(len(TOKEN) * 3):
        assert report_from_tail(stream[cut:]) == TOLD


def test_usage_and_timings_may_stand_in_two_events():
    fields = msgspec.json.decode(LLAMA_CPP)
    first, second = (msgspec.json.encode({name: fields[name]}) for name in ("usage", "timings"))
    stream = TOKEN + b"data: " + first + b"\n\ndata: " + second[:-1] + b',"usage":null}\n\n' + DONE
    assert report_from_tail(stream) == TOLD


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_stream_may_end_its_lines_either_way(end):
    """Both are SSE; sse-starlette, which many engines in Python use, writes CR LF."""
    stream = TOKEN + b"data:" + LLAMA_CPP + b"\n\n" + DONE
    assert report_from_tail(stream.replace(b"\n", end)) == TOLD


def test_an_event_may_have_a_name_and_an_id():
    stream = b"event: completion\nid: 7\ndata: " + LLAMA_CPP + b"\n\n" + DONE
    assert report_from_tail(stream) == TOLD


def test_an_engine_without_timings_tells_its_usage():
    assert report_from_body(
        b'{"usage":{"prompt_tokens":9,"completion_tokens":2,"prompt_tokens_details":null}}'
    ) == EngineReport(prompt_tokens=9, output_tokens=2)


def test_an_engine_without_usage_tells_its_timings():
    timings = msgspec.json.encode({"timings": msgspec.json.decode(LLAMA_CPP)["timings"]})
    assert report_from_body(timings) == TOLD


@pytest.mark.parametrize("value", ["-1", "1.5", '"x"', "true", "null", "{}", "[]", "1e300", "1" + "0" * 400])
def test_what_is_no_count_is_not_told(value):
    assert report_from_body(b'{"usage":{"prompt_tokens":%b}}' % value.encode()) == EngineReport()


@pytest.mark.parametrize("value", ["-1", '"x"', "true", "null", "{}", "[]", "1e300", "1" + "0" * 400])
def test_what_is_no_time_is_not_told(value):
    assert report_from_body(b'{"timings":{"prompt_ms":%b}}' % value.encode()) == EngineReport()


@pytest.mark.parametrize("body", [b'{"usage":5}', b'{"usage":[1]}', b'{"timings":"x"}', b"[]", b"5", b"{}"])
def test_odd_shapes_tell_nothing(body):
    assert report_from_body(body) == EngineReport()
