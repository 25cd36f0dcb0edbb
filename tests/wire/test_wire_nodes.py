"""Cards, pulses and loads: what goes in comes out, and what is impossible does not come in."""

from contextlib import suppress
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone.model import Load, ModelCard, ModelPulse, ModelState, NodeCard, Pulse
from isochrone.wire import WireError
from isochrone.wire import nodes as wire
from isochrone.wire.orca import ORCA_BYTES_MAX, decode_orca, encode_orca

HUGE = 10**400
"""JSON knows no bound on whole numbers, and this one fits in no float."""

counts = st.integers(0, 10**6)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", fullmatch=True)
words = st.text(st.characters(exclude_categories=("C", "Z")), max_size=20)


def numbers(most: float) -> st.SearchStrategy[float]:
    return st.floats(0.0, most)


loads = st.builds(
    Load,
    slots=st.integers(1, 10**6),
    running=counts,
    queued=counts,
    wait_s=numbers(86_400),
    backlog_s=numbers(86_400),
    inflow=numbers(1e6),
    kv_used=numbers(1),
    prefill_s=numbers(86_400),
)
model_pulses = st.builds(
    ModelPulse,
    words,
    st.sampled_from(ModelState),
    numbers(86_400),
    numbers(86_400_000),
    numbers(1e6),
    numbers(1e6),
)
pulses = st.builds(
    Pulse,
    names,
    counts,
    counts,
    words,
    loads,
    st.lists(model_pulses, max_size=4).map(tuple),
    counts,
    st.booleans(),
)
cards = st.builds(
    NodeCard,
    names,
    st.sampled_from(("http://10.0.0.1:8000", "https://[::1]:1", "https://node.example")),
    *(words, words, words, st.integers(1, 1000), counts, counts),
    st.lists(st.builds(ModelCard, words, counts, st.none() | words, counts), max_size=4).map(tuple),
    st.lists(words, max_size=3).map(tuple),
    words,
)

A_PULSE = Pulse("a", 1, 1, "d", Load(2), (ModelPulse("m", ModelState.READY),))
A_CARD = NodeCard("a", "http://h:1", models=(ModelCard("m"),))
LIMIT = settings(max_examples=60)


@given(cards)
@LIMIT
def test_a_card_comes_out_as_it_went_in(card):
    assert wire.decode_card(wire.encode_card(card)) == card
    assert wire.card_digest(card) == wire.card_digest(replace(card))
    assert wire.card_digest(card) != wire.card_digest(replace(card, slots=card.slots + 1))
    assert len(wire.card_digest(card)) == 16


@given(pulses)
@LIMIT
def test_a_pulse_comes_out_as_it_went_in(pulse):
    assert wire.decode_pulse(wire.encode_pulse(pulse)) == pulse


@given(loads)
@LIMIT
def test_a_load_comes_out_rounded(load):
    for got in (wire.decode_load(wire.encode_load(load)), decode_orca(encode_orca(load))):
        assert (got.slots, got.running, got.queued) == (load.slots, load.running, load.queued)
        assert (got.wait_s, got.backlog_s, got.inflow, got.kv_used, got.prefill_s) == pytest.approx(
            (load.wait_s, load.backlog_s, load.inflow, load.kv_used, load.prefill_s), abs=1e-4
        )


def test_a_node_that_does_not_tell_of_prompts_ahead_has_none():
    """The field is younger than the others: older nodes do not know it."""
    named = '{"slots":4.0,"running":1.0,"queued":0.0,"wait_s":0.5,"backlog_s":2.0,"inflow":0.25}'
    told = decode_orca(f'JSON {{"named_metrics":{named}}}'.encode())
    assert told == wire.decode_load(named.replace(".0,", ",").encode()) == Load(4, 1, 0, 0.5, 2.0, 0.25)
    assert told.prefill_s == 0.0


def test_trailers_and_headers_stay_small():
    load = Load(10**6, 10**6, 10**6, 12345.678901234, 12345.678901234, 12345.678901234)
    assert len(wire.encode_load(load)) < 200
    assert len(encode_orca(load)) < 300
    assert b"\n" not in wire.encode_load(load) + encode_orca(load)


def test_the_orca_header_reads_as_envoy_reads_it():
    head, _, report = encode_orca(Load(4, 2, 1, 0.5, 1.0, 0.25)).partition(b" ")
    fields = msgspec.json.decode(report)
    assert head == b"JSON"
    assert fields["application_utilization"] == 0.75
    assert fields["named_metrics"]["wait_s"] == 0.5
    assert all(isinstance(value, float) for value in fields["named_metrics"].values())


@given(st.binary(max_size=300))
@settings(max_examples=200)
def test_junk_is_a_wire_error_and_nothing_else(junk):
    for decode in (wire.decode_card, wire.decode_pulse, wire.decode_load, decode_orca):
        for data in (junk, b"JSON " + junk):
            with pytest.raises(WireError):
                decode(data)


@given(
    st.data(), st.sampled_from((wire.encode_pulse(A_PULSE), wire.encode_card(A_CARD), encode_orca(Load(2))))
)
@settings(max_examples=200)
def test_a_damaged_message_is_a_message_or_a_wire_error(data, message):
    at = data.draw(st.integers(0, len(message)))
    damaged = message[:at] + data.draw(st.binary(max_size=4)) + message[at + data.draw(st.integers(0, 4)) :]
    for decode in (wire.decode_card, wire.decode_pulse, wire.decode_load, decode_orca):
        with suppress(WireError):
            decode(damaged)


@pytest.mark.parametrize(
    "data", [b"[" * 100_000, b'{"a":' * 50_000, b"JSON " + b"[" * 1000, b"null", b"[]", b"7"]
)
@pytest.mark.parametrize(
    "decode", [wire.decode_card, wire.decode_pulse, wire.decode_load, wire.decode_idle, decode_orca]
)
def test_deep_or_plain_nonsense_is_a_wire_error(decode, data):
    with pytest.raises(WireError):
        decode(data)


def with_field(message: bytes, path: list[str | int], value: object) -> bytes:
    fields = place = msgspec.json.decode(message)
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = "@@"
    text = "NaN" if value is None else value if isinstance(value, str) else str(value)
    return msgspec.json.encode(fields).replace(b'"@@"', text.encode())


IMPOSSIBLE = (-1, HUGE, 10**30, None, "1e999", "-0.5", '"many"', "true", "[1]")


@pytest.mark.parametrize("value", IMPOSSIBLE, ids=lambda value: str(value)[:8])
@pytest.mark.parametrize("name", ["slots", "running", "queued", "wait_s", "backlog_s", "inflow", "prefill_s"])
def test_no_impossible_load_comes_in(name, value):
    with pytest.raises(WireError):
        wire.decode_pulse(with_field(wire.encode_pulse(A_PULSE), ["load", name], value))
    with pytest.raises(WireError):
        wire.decode_load(with_field(wire.encode_load(Load(2)), [name], value))
    with pytest.raises(WireError):
        decode_orca(b"JSON " + with_field(encode_orca(Load(2))[5:], ["named_metrics", name], value))


@pytest.mark.parametrize("value", IMPOSSIBLE, ids=lambda value: str(value)[:8])
@pytest.mark.parametrize("name", ["ready_in_s", "prefill_base_ms", "prefill_ms_per_token", "tpot_ms"])
def test_no_impossible_speed_comes_in(name, value):
    with pytest.raises(WireError):
        wire.decode_pulse(with_field(wire.encode_pulse(A_PULSE), ["models", 0, name], value))


@pytest.mark.parametrize("value", [*IMPOSSIBLE, 1.01], ids=lambda value: str(value)[:8])
def test_no_impossible_share_of_the_cache_comes_in(value):
    with pytest.raises(WireError):
        wire.decode_load(with_field(wire.encode_load(Load(2)), ["kv_used"], value))


@given(names, loads)
@LIMIT
def test_an_announcement_comes_out_as_it_went_in(name, load):
    node, told = wire.decode_idle(wire.encode_idle(name, load))
    assert (node, told) == (name, wire.decode_load(wire.encode_load(load)))


@pytest.mark.parametrize("name", ["slots", "wait_s", "backlog_s", "inflow", "kv_used", "prefill_s"])
def test_no_impossible_load_is_announced(name):
    with pytest.raises(WireError):
        wire.decode_idle(with_field(wire.encode_idle("a", Load(2)), ["load", name], -1))


def test_a_node_without_slots_is_no_node():
    with pytest.raises(WireError, match="slots = 0"):
        wire.decode_load(b'{"slots":0}')


@pytest.mark.parametrize("slots", [-1, 0, wire.COUNT_MAX + 1])
def test_the_slots_of_a_card_are_bounded_on_both_sides(slots):
    with pytest.raises(WireError, match="slots not within 1 and 1000000"):
        wire.decode_card(wire.encode_card(replace(A_CARD, slots=slots)))


def test_a_backlog_may_be_a_day_for_each_slot_and_no_more():
    load = Load(3, backlog_s=3 * wire.SECONDS_MAX)
    assert wire.decode_load(wire.encode_load(load)) == load
    with pytest.raises(WireError, match="backlog_s"):
        wire.decode_load(wire.encode_load(replace(load, backlog_s=3 * wire.SECONDS_MAX + 1)))


@pytest.mark.parametrize("name", ["queue_max", "memory_bytes"])
def test_no_negative_size_comes_in(name):
    with pytest.raises(WireError, match="negative size"):
        wire.decode_card(wire.encode_card(replace(A_CARD, **{name: -1})))


@pytest.mark.parametrize("name", ["size_bytes", "context_tokens"])
def test_no_negative_size_of_a_model_comes_in(name):
    with pytest.raises(WireError, match="negative size"):
        wire.decode_card(wire.encode_card(replace(A_CARD, models=(ModelCard("m", **{name: -1}),))))


@pytest.mark.parametrize("name", ["", "-a", "_a", "a b", "a.b", "a*", "a>", "a\n", "ä", "a" * 65, "../a"])
def test_a_name_that_could_be_something_else_is_refused(name):
    for decode, message in (
        (wire.decode_card, wire.encode_card(replace(A_CARD, node=name))),
        (wire.decode_pulse, wire.encode_pulse(replace(A_PULSE, node=name))),
        (wire.decode_idle, wire.encode_idle(name, Load(2))),
    ):
        with pytest.raises(WireError, match="node name"):
            decode(message)


@pytest.mark.parametrize(
    "url",
    [
        *("", "h:1", "ftp://h", "http://", "http://u:p@h", "http://h/?q", "http://h\r\nx: y", "http://h\n"),
        *("http://h #", "file:///etc/passwd", "http://h/ä", "http://h:0", "http://h:65536", "http://h:x"),
    ],
)
def test_a_url_is_plain_http(url):
    with pytest.raises(WireError, match="url"):
        wire.decode_card(wire.encode_card(replace(A_CARD, url=url)))


def test_messages_are_bounded():
    long = ModelPulse("m", ModelState.READY)
    with pytest.raises(WireError, match="the most is"):
        wire.decode_pulse(b" " * (wire.PULSE_BYTES_MAX + 1))
    with pytest.raises(WireError, match="the most is"):
        wire.decode_card(b" " * (wire.CARD_BYTES_MAX + 1))
    with pytest.raises(WireError, match="the most is"):
        wire.decode_load(b" " * 2000)
    with pytest.raises(WireError, match="the most is"):
        wire.decode_idle(b" " * (wire.IDLE_BYTES_MAX + 1))
    with pytest.raises(WireError, match="too long"):
        decode_orca(b"JSON " + b" " * ORCA_BYTES_MAX)
    with pytest.raises(WireError, match="the most is"):
        wire.decode_pulse(wire.encode_pulse(replace(A_PULSE, models=(long,) * 1025)))
    with pytest.raises(WireError, match="1025 models"):
        wire.decode_card(wire.encode_card(replace(A_CARD, models=(ModelCard("m"),) * 1025)))


@pytest.mark.parametrize(
    "value", [b"", b"TEXT x=1", b"JSON", b"json {}", b"JSON {}", b'JSON {"named_metrics":{}}']
)
def test_a_header_that_is_not_ours_is_a_wire_error(value):
    with pytest.raises(WireError):
        decode_orca(value)


def test_an_older_or_newer_peer_may_know_fewer_or_more_fields():
    got = wire.decode_pulse(b'{"node":"a","epoch":1,"seq":1,"card_digest":"","load":{"slots":1},"new":[1]}')
    assert got == Pulse("a", 1, 1, "", Load(1))
    assert wire.decode_card(b'{"node":"a","url":"http://h:1"}').hardware == ""


@pytest.mark.parametrize("text", ["x" * 257, "two\nlines"])
@pytest.mark.parametrize("field", ["operator", "region", "engine", "hardware"])
def test_no_endless_or_unprintable_text_comes_in(field, text):
    with pytest.raises(WireError, match="text"):
        wire.decode_card(wire.encode_card(replace(A_CARD, **{field: text})))


def test_a_full_page_of_models_fits():
    pulse = replace(A_PULSE, models=tuple(ModelPulse(f"model-{at}", ModelState.READY) for at in range(300)))
    assert wire.decode_pulse(wire.encode_pulse(pulse)) == pulse


@pytest.mark.parametrize("field", ["epoch", "seq"])
@pytest.mark.parametrize("value", [-1, 2**63])
def test_the_order_of_pulses_is_told_in_numbers_that_columns_can_hold(field, value):
    with pytest.raises(WireError, match=field):
        wire.decode_pulse(wire.encode_pulse(replace(Pulse("a", 1, 1, "", Load(1)), **{field: value})))
