"""What gateways tell each other: what goes in comes out, and what is impossible does not come in."""

from contextlib import suppress
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone.fleet.teller import AGE_S_MAX, SERVICE_S_MAX, TOLD_AT_ONCE_MAX
from isochrone.model import EndedWork, GatewayPulse, LedgerNews, ModelFlow, SentWork
from isochrone.wire import WireError
from isochrone.wire.gateways import (
    GATEWAY_BYTES_MAX,
    GATEWAY_FLOWS_MAX,
    LEDGER_NEWS_MAX,
    decode_gateway_pulse,
    decode_ledger_news,
    encode_gateway_pulse,
    encode_ledger_news,
)
from isochrone.wire.nodes import TEXT_MAX
from isochrone.wire.subjects import GATEWAYS, LEDGER_OF, gateway_subject, ledger_subject

A_PULSE = GatewayPulse("g", 1, 1, "eu", (ModelFlow("m", 2.0, 3.0),))
HUGE = 10**400
"""JSON knows no bound on whole numbers, and this one fits in no float."""

counts = st.integers(0, 10**6)
words = st.text(st.characters(exclude_categories=("C", "Z")), max_size=20)
rates = st.floats(0.0, 1e9)
pulses = st.builds(
    GatewayPulse,
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", fullmatch=True),
    counts,
    counts,
    words,
    st.lists(st.builds(ModelFlow, words, rates, rates), max_size=4).map(tuple),
    st.booleans(),
)


@given(pulses)
@settings(max_examples=60)
def test_a_pulse_comes_out_as_it_went_in(pulse):
    assert decode_gateway_pulse(encode_gateway_pulse(pulse)) == pulse


@given(st.binary(max_size=300))
@settings(max_examples=100)
def test_junk_is_a_wire_error_and_nothing_else(junk):
    with pytest.raises(WireError):
        decode_gateway_pulse(junk)


@given(st.data())
@settings(max_examples=100)
def test_a_damaged_pulse_is_a_pulse_or_a_wire_error(data):
    message = encode_gateway_pulse(A_PULSE)
    at = data.draw(st.integers(0, len(message)))
    with suppress(WireError):
        decode_gateway_pulse(message[:at] + data.draw(st.binary(max_size=4)) + message[at + 2 :])


@pytest.mark.parametrize("value", ["-1", "-0.001", "1e10", "NaN", "1e999", str(HUGE), '"a"', "null"])
@pytest.mark.parametrize("name", ["requests_per_s", "work_per_s"])
def test_no_impossible_flow_comes_in(name, value):
    fields = msgspec.json.decode(encode_gateway_pulse(A_PULSE))
    fields["flows"][0][name] = "@@"
    with pytest.raises(WireError):
        decode_gateway_pulse(msgspec.json.encode(fields).replace(b'"@@"', value.encode()))


@pytest.mark.parametrize(
    "facts", [{"epoch": -1}, {"seq": -1}, {"region": "x" * (TEXT_MAX + 1)}, {"gateway": ""}]
)
def test_no_impossible_gateway_comes_in(facts):
    with pytest.raises(WireError):
        decode_gateway_pulse(encode_gateway_pulse(replace(A_PULSE, **facts)))


def test_models_and_their_names_are_bounded():
    flow = ModelFlow("m", 0.0, 0.0)
    most = replace(A_PULSE, flows=(flow,) * GATEWAY_FLOWS_MAX)
    assert decode_gateway_pulse(encode_gateway_pulse(most)) == most
    for flows in ((flow,) * (GATEWAY_FLOWS_MAX + 1), (replace(flow, model="m" * (TEXT_MAX + 1)),)):
        with pytest.raises(WireError):
            decode_gateway_pulse(encode_gateway_pulse(replace(A_PULSE, flows=flows)))
    with pytest.raises(WireError, match="bytes"):
        decode_gateway_pulse(encode_gateway_pulse(A_PULSE) + b" " * GATEWAY_BYTES_MAX)


def test_each_gateway_has_a_subject_among_those_subscribed_to():
    assert gateway_subject("g") == GATEWAYS.replace("*", "g")


# -- news of ledgers -------------------------------------------------------------------------------------

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", fullmatch=True)
seconds = st.floats(0.0, 3600.0)
news = st.builds(
    LedgerNews,
    names,
    counts,
    counts,
    words,
    st.lists(st.builds(SentWork, words, names, words, seconds, seconds, st.floats(0, 10)), max_size=4).map(
        tuple
    ),
    st.lists(st.builds(EndedWork, words, names), max_size=4).map(tuple),
)
A_WORK = SentWork("r", "a", "m", 2.0, 1.0, 0.5)
SOME_NEWS = LedgerNews("g", 1, 1, "eu", (A_WORK,), (EndedWork("q", "a"),))


@given(news)
@settings(max_examples=60)
def test_news_come_out_as_they_went_in(told):
    assert decode_ledger_news(encode_ledger_news(told)) == told


@given(st.binary(max_size=300))
@settings(max_examples=100)
def test_junk_is_no_news_but_a_wire_error(junk):
    with pytest.raises(WireError):
        decode_ledger_news(junk)


@given(st.data())
@settings(max_examples=100)
def test_damaged_news_are_news_or_a_wire_error(data):
    message = encode_ledger_news(SOME_NEWS)
    at = data.draw(st.integers(0, len(message)))
    with suppress(WireError):
        decode_ledger_news(message[:at] + data.draw(st.binary(max_size=4)) + message[at + 2 :])


@pytest.mark.parametrize("value", [-0.001, 1e9, float("nan"), float("inf"), HUGE, "a", None])
@pytest.mark.parametrize("name", ["service_s", "prefill_s", "age_s"])
def test_no_impossible_dispatch_comes_in(name, value):
    fields = msgspec.to_builtins(SOME_NEWS)
    fields["sent"][0][name] = str(value) if value is HUGE else value
    with pytest.raises(WireError):
        decode_ledger_news(msgspec.msgpack.encode(fields))


LONG = "x" * (TEXT_MAX + 1)


@pytest.mark.parametrize(
    "facts",
    [
        {"epoch": -1},
        {"seq": -1},
        {"epoch": 2**63},
        {"seq": 2**63},
        {"region": LONG},
        {"gateway": ""},
        {"sent": (A_WORK,) * (LEDGER_NEWS_MAX + 1)},
        {"ended": (EndedWork("q", "a"),) * (LEDGER_NEWS_MAX + 1)},
        {"sent": (replace(A_WORK, request=LONG),)},
        {"sent": (replace(A_WORK, node=LONG),)},
        {"sent": (replace(A_WORK, model=LONG),)},
        {"ended": (EndedWork(LONG, "a"),)},
        {"ended": (EndedWork("q", LONG),)},
    ],
    ids=str,
)
def test_no_impossible_news_come_in(facts):
    with pytest.raises(WireError):
        decode_ledger_news(encode_ledger_news(replace(SOME_NEWS, **facts)))


def test_who_tells_never_tells_what_is_not_taken():
    assert 2 * TOLD_AT_ONCE_MAX <= LEDGER_NEWS_MAX
    longest = SentWork("r", "a", "m", SERVICE_S_MAX, SERVICE_S_MAX, AGE_S_MAX)
    told = replace(SOME_NEWS, sent=(longest,) * TOLD_AT_ONCE_MAX)
    assert decode_ledger_news(encode_ledger_news(told)) == told


def test_a_message_of_news_is_bounded():
    with pytest.raises(WireError, match="bytes"):
        decode_ledger_news(encode_ledger_news(SOME_NEWS) + b" " * GATEWAY_BYTES_MAX)


def test_who_is_told_and_who_tells_stand_in_the_subject():
    assert ledger_subject("g", "h") == LEDGER_OF.format("g").replace("*", "h")
