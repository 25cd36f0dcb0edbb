"""What gateways tell each other: `model.GatewayPulse` as JSON, `model.LedgerNews` as MessagePack."""

import msgspec

from isochrone.model import GatewayPulse, LedgerNews
from isochrone.wire.errors import WireError
from isochrone.wire.nodes import TEXT_MAX, check_node_name

GATEWAY_FLOWS_MAX = 1024
"""Models in one pulse."""

GATEWAY_BYTES_MAX = 256 * 1024

LEDGER_NEWS_MAX = 512
"""Dispatches and ends in one message; who tells has sent it long before it gathers as many."""

_FLOW_MAX = 1e9
_WORK_S_MAX = 3600.0
_ORDER_MAX = 2**62
_AGE_S_MAX = 10.0

_encoder = msgspec.json.Encoder()
_pulses = msgspec.json.Decoder(GatewayPulse)
_packer = msgspec.msgpack.Encoder()
_news = msgspec.msgpack.Decoder(LedgerNews)


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


def encode_ledger_news(news: LedgerNews) -> bytes:
    """The news as MessagePack, which is shorter than JSON: there is much of it."""
    return _packer.encode(news)


def decode_ledger_news(data: bytes) -> LedgerNews:
    """The news in `data`. Raises WireError when it is none, or can't be true."""
    if len(data) > GATEWAY_BYTES_MAX:
        raise WireError(f"news of a ledger of {len(data)} bytes, the most is {GATEWAY_BYTES_MAX}")
    try:
        news = _news.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise WireError(f"news of a ledger can't be decoded: {error}") from error
    check_node_name(news.gateway)
    if len(news.sent) + len(news.ended) > LEDGER_NEWS_MAX or len(news.region) > TEXT_MAX:
        raise WireError(f"news of {news.gateway}: too much of it, or too long a region")
    if not (0 <= news.epoch <= _ORDER_MAX and 0 <= news.seq <= _ORDER_MAX):
        raise WireError(f"news of {news.gateway}: epoch or seq is not within 0 and {_ORDER_MAX}")
    for work in news.sent:
        possible = (
            0 <= work.prefill_s <= _WORK_S_MAX
            and 0 <= work.service_s <= _WORK_S_MAX
            and 0 <= work.age_s <= _AGE_S_MAX
        )
        texts = len(work.request), len(work.node), len(work.model)
        if not possible or max(texts) > TEXT_MAX:  # false for NaN too
            raise WireError(f"news of {news.gateway}: a dispatch that is not possible")
    if any(max(len(ended.request), len(ended.node)) > TEXT_MAX for ended in news.ended):
        raise WireError(f"news of {news.gateway}: an end with too long a name")
    return news
