"""NodeCard and Pulse as JSON, checked value by value on the way in: nodes are not trusted."""

import hashlib
import re
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import TypeVar

import msgspec

from isochrone.model import Load, ModelPulse, NodeCard, Pulse
from isochrone.wire.errors import WireError

CARD_BYTES_MAX = 256 * 1024
PULSE_BYTES_MAX = 256 * 1024
IDLE_BYTES_MAX = 512
_ORDER_MAX = 2**62
MODELS_MAX = 1024
TEXT_MAX = 256
COUNT_MAX = 1_000_000
INFLOW_MAX = 1e6
SECONDS_MAX = 86_400.0
"""No honest node is further away than a day."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_URL = re.compile(r"https?://([A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\])(?::(\d{1,5}))?")

_encoder = msgspec.json.Encoder()
_cards = msgspec.json.Decoder(NodeCard)
_pulses = msgspec.json.Decoder(Pulse)
_loads = msgspec.json.Decoder(Load)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Idle:
    node: str
    load: Load


_idles = msgspec.json.Decoder(_Idle)


def check_node_name(name: str) -> str:
    """`name` when it can be a node's name (letters, digits, `_`, `-`; at most 64), else WireError."""
    if not _NAME.fullmatch(name):
        raise WireError(f"node name {name[:80]!r} is not 1 to 64 letters, digits, '_' or '-'")
    return name


def encode_card(card: NodeCard) -> bytes:
    """The card as JSON; the same card gives the same bytes."""
    return _encoder.encode(card)


def card_digest(card: NodeCard) -> str:
    """Sixteen hex digits that change when the card does."""
    return bytes_digest(encode_card(card))


def bytes_digest(data: bytes) -> str:
    """The digest of a card as it came: a reader need not know every field that its writer knew."""
    return hashlib.sha256(data).hexdigest()[:16]


def decode_card(data: bytes) -> NodeCard:
    """The card in `data`. Raises WireError."""
    card = _decode(_cards, data, CARD_BYTES_MAX, "card")
    check_node_name(card.node)
    if not _may_be_called(card.url):
        raise WireError(f"card of {card.node}: url {card.url[:80]!r} is not http(s)://host:port of a host")
    texts = (card.operator, card.region, card.engine, card.hardware, *card.failure_domains)
    texts += tuple(model.name for model in card.models)
    if any(len(text) > TEXT_MAX or not text.isprintable() for text in texts):
        raise WireError(f"card of {card.node}: a text of over {TEXT_MAX} characters, or not printable")
    if len(card.models) > MODELS_MAX:
        raise WireError(f"card of {card.node}: {len(card.models)} models, the most is {MODELS_MAX}")
    sizes = [card.queue_max, card.memory_bytes]
    sizes += [size for model in card.models for size in (model.size_bytes, model.context_tokens)]
    if not 1 <= card.slots <= COUNT_MAX or min(sizes) < 0:
        raise WireError(f"card of {card.node}: slots not within 1 and {COUNT_MAX}, or a negative size")
    return card


def _may_be_called(url: str) -> bool:
    """Whether a gateway may call `url`: a plain origin, and no address that can only be somebody's trick."""
    match = _URL.fullmatch(url)
    if match is None or int(match[2] or 1) not in range(1, 65536):
        return False
    try:
        address = ip_address(match[1].strip("[]"))
    except ValueError:
        return True  # a name
    return not (address.is_unspecified or address.is_link_local or address.is_multicast)


def encode_pulse(pulse: Pulse) -> bytes:
    """The pulse as JSON."""
    return _encoder.encode(pulse)


def decode_pulse(data: bytes) -> Pulse:
    """The pulse in `data`, every number finite and within bounds. Raises WireError."""
    pulse = _decode(_pulses, data, PULSE_BYTES_MAX, "pulse")
    check_node_name(pulse.node)
    check_load(pulse.load, pulse.node)
    if not (0 <= pulse.epoch <= _ORDER_MAX and 0 <= pulse.seq <= _ORDER_MAX):
        raise WireError(
            f"{pulse.node}: epoch {pulse.epoch} or seq {pulse.seq} is not within 0 and {_ORDER_MAX}"
        )
    if len(pulse.models) > MODELS_MAX:
        raise WireError(f"pulse of {pulse.node}: {len(pulse.models)} models, the most is {MODELS_MAX}")
    for model in pulse.models:
        if len(model.name) > TEXT_MAX or not model.name.isprintable():
            raise WireError(f"pulse of {pulse.node}: a model's name is too long or not printable")
        _check_model(model, pulse.node)
    return pulse


def encode_idle(node: str, load: Load) -> bytes:
    """What the node called `node` publishes when it has room again."""
    return _encoder.encode(_Idle(node, _rounded(load)))


def decode_idle(data: bytes) -> tuple[str, Load]:
    """The name of the node that has room again, and its load. Raises WireError."""
    said = _decode(_idles, data, IDLE_BYTES_MAX, "announcement")
    check_load(said.load, "announcement")
    return check_node_name(said.node), said.load


def encode_load(load: Load) -> bytes:
    """The load as one line of JSON, for a trailer."""
    return _encoder.encode(_rounded(load))


def decode_load(data: bytes) -> Load:
    """The load in `data`. Raises WireError."""
    load = _decode(_loads, data, 1024, "load")
    check_load(load, "trailer")
    return load


def _rounded(load: Load) -> Load:
    return replace(
        load,
        wait_s=round(load.wait_s, 4),
        backlog_s=round(load.backlog_s, 4),
        inflow=round(load.inflow, 4),
        kv_used=round(load.kv_used, 4),
        prefill_s=round(load.prefill_s, 4),
    )


def _decode(decoder: "msgspec.json.Decoder[_T]", data: bytes, bytes_max: int, what: str) -> _T:
    if len(data) > bytes_max:
        raise WireError(f"{what} of {len(data)} bytes, the most is {bytes_max}")
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise WireError(f"{what} can't be decoded: {error}") from error


def check_load(load: Load, whose: str) -> None:
    """Raises WireError, with the number at fault, unless every number of `load` is possible."""
    slots = load.slots
    if (  # one expression: this runs for each pulse and each answer
        1 <= slots <= COUNT_MAX
        and 0 <= load.running <= COUNT_MAX
        and 0 <= load.queued <= COUNT_MAX
        and 0 <= load.wait_s <= SECONDS_MAX
        and 0 <= load.backlog_s <= SECONDS_MAX * slots
        and 0 <= load.inflow <= INFLOW_MAX
        and 0 <= load.kv_used <= 1.0
        and 0 <= load.prefill_s <= SECONDS_MAX
    ):
        return
    if not 1 <= slots <= COUNT_MAX:
        raise WireError(f"load of {whose}: slots = {slots}")
    _refuse_bounds(
        f"load of {whose}",
        ("running", load.running, COUNT_MAX),
        ("queued", load.queued, COUNT_MAX),
        ("wait_s", load.wait_s, SECONDS_MAX),
        ("backlog_s", load.backlog_s, SECONDS_MAX * slots),
        ("inflow", load.inflow, INFLOW_MAX),
        ("kv_used", load.kv_used, 1.0),
        ("prefill_s", load.prefill_s, SECONDS_MAX),
    )


def _check_model(model: ModelPulse, whose: str) -> None:
    if (
        0 <= model.ready_in_s <= SECONDS_MAX
        and 0 <= model.prefill_base_ms <= SECONDS_MAX * 1e3
        and 0 <= model.prefill_ms_per_token <= 1e6
        and 0 <= model.tpot_ms <= 1e6
    ):
        return
    _refuse_bounds(
        f"{whose}/{model.name[:64]}",
        ("ready_in_s", model.ready_in_s, SECONDS_MAX),
        ("prefill_base_ms", model.prefill_base_ms, SECONDS_MAX * 1e3),
        ("prefill_ms_per_token", model.prefill_ms_per_token, 1e6),
        ("tpot_ms", model.tpot_ms, 1e6),
    )


def _refuse_bounds(whose: str, *bounds: tuple[str, float, float]) -> None:
    for name, found, most in bounds:
        if not 0 <= found <= most:  # false for NaN too
            raise WireError(f"{whose}: {name} = {found} is not within 0 and {most}")
