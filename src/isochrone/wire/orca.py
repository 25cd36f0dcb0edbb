"""A node's load in the head of its answers: the ORCA `endpoint-load-metrics` header, JSON form.

Source: Open Request Cost Aggregation, as Envoy reads it: `JSON {...}` with `application_utilization`, and
free names under `named_metrics`. Any ORCA-speaking proxy can use the utilisation; we read our own names.
"""

from typing import Any

import msgspec

from isochrone.model import Load
from isochrone.wire.errors import WireError
from isochrone.wire.nodes import decode_load

ORCA_BYTES_MAX = 2048
_VALUE_MAX = 1e12
_PREFIX = b"JSON "
_FIELDS = ("slots", "running", "queued", "wait_s", "backlog_s", "inflow")
_OPTIONAL = ("kv_used", "prefill_s")
_COUNTS = ("slots", "running", "queued")


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
        report: Any = msgspec.json.decode(value[len(_PREFIX) :])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise WireError(f"endpoint-load-metrics can't be decoded: {error}") from error
    named = report.get("named_metrics") if isinstance(report, dict) else None
    told = (*_FIELDS, *(name for name in _OPTIONAL if isinstance(named, dict) and name in named))
    if not isinstance(named, dict) or not all(_possible(named.get(name)) for name in told):
        raise WireError(f"endpoint-load-metrics lacks a possible value of one of {', '.join(_FIELDS)}")
    fields = {name: int(named[name]) if name in _COUNTS else named[name] for name in told}
    return decode_load(msgspec.json.encode(fields))


def _possible(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= _VALUE_MAX
