"""A node's load in the head of its answers: the ORCA `endpoint-load-metrics` header, JSON form.

Source: Open Request Cost Aggregation, as Envoy reads it: `JSON {...}` with `application_utilization`, and
free names under `named_metrics`. Any ORCA-speaking proxy can use the utilisation; we read our own names.
"""

from dataclasses import dataclass

import msgspec

from isochrone.model import Load
from isochrone.wire.errors import WireError
from isochrone.wire.nodes import check_load

ORCA_BYTES_MAX = 2048
_VALUE_MAX = 1e12
_PREFIX = b"JSON "
_FIELDS = ("slots", "running", "queued", "wait_s", "backlog_s", "inflow")
_OPTIONAL = ("kv_used", "prefill_s")


@dataclass(frozen=True, slots=True)
class _Named:
    """Our names under `named_metrics`; proxies may make floats of whole numbers."""

    slots: float
    running: float
    queued: float
    wait_s: float
    backlog_s: float
    inflow: float
    kv_used: float = 0.0
    prefill_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Report:
    named_metrics: _Named


_reports = msgspec.json.Decoder(_Report)


def encode_orca(load: Load) -> bytes:
    """The header's value."""
    utilisation = (load.running + load.queued) / load.slots
    report = {
        "application_utilization": round(utilisation, 4),
        "named_metrics": {name: round(float(getattr(load, name)), 4) for name in (*_FIELDS, *_OPTIONAL)},
    }
    return _PREFIX + msgspec.json.encode(report)


def decode_orca(value: bytes) -> Load:
    """The load in the header's value. Raises WireError when it is not ours or not possible."""
    if len(value) > ORCA_BYTES_MAX or not value.startswith(_PREFIX):
        raise WireError("endpoint-load-metrics is not in the JSON form, or too long")
    try:
        named = _reports.decode(memoryview(value)[len(_PREFIX) :]).named_metrics
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise WireError(
            f"endpoint-load-metrics lacks a possible value of one of {', '.join(_FIELDS)}: {error}"
        ) from error
    counts = named.slots, named.running, named.queued
    if not max(counts) <= _VALUE_MAX or not min(counts) >= 0:  # true for NaN too, which can't be made a count
        raise WireError(f"endpoint-load-metrics has an impossible count: {counts}")
    load = Load(
        int(named.slots),
        int(named.running),
        int(named.queued),
        named.wait_s,
        named.backlog_s,
        named.inflow,
        named.kv_used,
        named.prefill_s,
    )
    check_load(load, "head")
    return load
