"""What gateways tell each other, as JSON: `model.GatewayPulse`."""

import msgspec

from isochrone.model import GatewayPulse
from isochrone.wire.errors import WireError
from isochrone.wire.nodes import TEXT_MAX, check_node_name

GATEWAY_FLOWS_MAX = 1024
"""Models in one pulse."""

GATEWAY_BYTES_MAX = 256 * 1024
_FLOW_MAX = 1e9

_encoder = msgspec.json.Encoder()
_pulses = msgspec.json.Decoder(GatewayPulse)


def encode_gateway_pulse(pulse: GatewayPulse) -> bytes:
    """The pulse as JSON."""
    return _encoder.encode(pulse)


def decode_gateway_pulse(data: bytes) -> GatewayPulse:
    """The pulse in `data`. Raises WireError when it is not one, or can't be true."""
    if len(data) > GATEWAY_BYTES_MAX:
        raise WireError(f"pulse of a gateway of {len(data)} bytes, the most is {GATEWAY_BYTES_MAX}")
    try:
        pulse = _pulses.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise WireError(f"pulse of a gateway can't be decoded: {error}") from error
    check_node_name(pulse.gateway)
    if len(pulse.flows) > GATEWAY_FLOWS_MAX or len(pulse.region) > TEXT_MAX:
        raise WireError(f"pulse of {pulse.gateway}: too many models, or too long a region")
    if pulse.epoch < 0 or pulse.seq < 0:
        raise WireError(f"pulse of {pulse.gateway}: epoch or seq is below 0")
    for flow in pulse.flows:
        possible = 0 <= flow.requests_per_s <= _FLOW_MAX and 0 <= flow.work_per_s <= _FLOW_MAX
        if not possible or len(flow.model) > TEXT_MAX:  # false for NaN too
            raise WireError(f"pulse of {pulse.gateway}: a flow that is not possible")
    return pulse
