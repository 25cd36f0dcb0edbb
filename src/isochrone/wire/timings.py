"""What a node measured of one answer: read from an engine's reply, carried back in a trailer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from isochrone.model import Timings
from isochrone.wire.errors import WireError

TIMINGS_BYTES_MAX = 1024
MS_MAX = 86_400_000.0
TOKENS_MAX = 100_000_000
_LAST_EVENTS = 4

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Timings)


def encode_timings(timings: Timings) -> bytes:
    """One line of JSON."""
    return _encoder.encode(timings)


def decode_timings(data: bytes) -> Timings:
    """The timings in `data`, every number finite and within bounds. Raises WireError."""
    if len(data) > TIMINGS_BYTES_MAX:
        raise WireError(f"timings of {len(data)} bytes, the most is {TIMINGS_BYTES_MAX}")
    try:
        timings = _decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise WireError(f"timings can't be decoded: {error}") from error
    if not (  # comparisons are false for NaN too
        0 <= timings.queue_ms <= MS_MAX
        and 0 <= timings.load_ms <= MS_MAX
        and 0 <= timings.prefill_ms <= MS_MAX
        and 0 <= timings.decode_ms <= MS_MAX
    ):
        raise WireError(f"timings hold an impossible time: {timings}")
    if not (
        0 <= timings.prompt_tokens <= TOKENS_MAX
        and 0 <= timings.cached_tokens <= TOKENS_MAX
        and 0 <= timings.output_tokens <= TOKENS_MAX
        and 0 < timings.concurrency <= 1e6
    ):
        raise WireError(f"timings hold an impossible count: {timings}")
    return timings


@dataclass(frozen=True, slots=True)
class EngineReport:
    """What an engine's own reply says of the work, None where it does not say.

    Attributes:
        prompt_tokens: whole prompt.
        cached_tokens: of these, found in the prefix cache.
        output_tokens: length of the answer.
        prefill_ms: prompt processing, in the engine.
        decode_ms: the tokens after, in the engine.
    """

    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    prefill_ms: float | None = None
    decode_ms: float | None = None


def report_from_body(body: bytes) -> EngineReport:
    """The report in a whole JSON reply; an empty report when it can't be read."""
    return _report(_json(body))


def report_from_tail(tail: bytes) -> EngineReport:
    """The report in the last events of an SSE stream; `tail` is its last few KiB.

    Usage (`usage`) and llama.cpp's `timings` stand in one of the last events before `[DONE]`.
    """
    merged: dict[str, Any] = {}
    lines = [line for line in tail.splitlines() if line.startswith(b"data:")]
    for line in lines[-_LAST_EVENTS:]:
        fields = _json(line[5:])
        merged.update({k: fields[k] for k in ("usage", "timings") if fields.get(k)})
    return _report(merged)


def _json(data: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return {}
    return value if isinstance(value, dict) else {}


def _report(fields: Mapping[str, Any]) -> EngineReport:
    usage, timings = _dict(fields.get("usage")), _dict(fields.get("timings"))
    cached = _count(_dict(usage.get("prompt_tokens_details")).get("cached_tokens"))
    prompt = _count(usage.get("prompt_tokens"))
    cache_n, prompt_n = _count(timings.get("cache_n")), _count(timings.get("prompt_n"))
    if prompt is None and cache_n is not None and prompt_n is not None:
        prompt = cache_n + prompt_n
    output = _count(usage.get("completion_tokens"))
    return EngineReport(
        prompt_tokens=prompt,
        cached_tokens=cached if cached is not None else cache_n,
        output_tokens=output if output is not None else _count(timings.get("predicted_n")),
        prefill_ms=_time(timings.get("prompt_ms")),
        decode_ms=_time(timings.get("predicted_ms")),
    )


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: object) -> int | None:
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value <= TOKENS_MAX else None


def _time(value: object) -> float | None:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    return float(value) if 0 <= value <= MS_MAX else None
