"""What gateways tell each other: what goes in comes out, and what is impossible does not come in."""

from contextlib import suppress
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone.model import GatewayPulse, ModelFlow
from isochrone.wire import WireError
from isochrone.wire.gateways import (
    GATEWAY_BYTES_MAX,
    GATEWAY_FLOWS_MAX,
    decode_gateway_pulse,
    encode_gateway_pulse,
)
from isochrone.wire.nodes import TEXT_MAX
from isochrone.wire.subjects import GATEWAYS, gateway_subject

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
