"""A decision with what became of it, as one JSON event: the bus, the audit and `explain` all read this."""

from dataclasses import asdict, dataclass, fields
from typing import Any

import msgspec

from isochrone.model import Candidate, Decision, Estimate, Outcome, SloRoom

_TERMS = tuple(field.name for field in fields(Estimate))


@dataclass(frozen=True, slots=True)
class Record:
    """One request from decision to end.

    Attributes:
        gateway: who decided.
        decided_unix_ms: when, for people.
        stream: whether the answer was streamed.
        decision: what was decided and why.
        outcomes: what became of each attempt, in order; empty while the first is under way.
    """

    gateway: str
    decided_unix_ms: int
    stream: bool
    decision: Decision
    outcomes: tuple[Outcome, ...] = ()


def record_fields(record: Record) -> dict[str, Any]:
    """The record as plain JSON values, with the sums a reader wants to see spelled out."""
    decision = record.decision
    return {
        "id": decision.request_id,
        "gateway": record.gateway,
        "decided_unix_ms": record.decided_unix_ms,
        "model": decision.model,
        "policy": decision.policy,
        "stream": record.stream,
        "chosen": decision.chosen.node if decision.chosen else None,
        "origin": decision.origin,
        "slo": None if decision.slo is None else _slo_fields(decision.slo),
        "candidates": [_candidate_fields(candidate) for candidate in decision.candidates],
        "exclusions": [asdict(exclusion) for exclusion in decision.exclusions],
        "outcomes": [asdict(outcome) for outcome in record.outcomes],
    }


def encode_record(record: Record) -> bytes:
    """The record as JSON."""
    return msgspec.json.encode(record_fields(record))


def _candidate_fields(candidate: Candidate) -> dict[str, Any]:
    return {"node": candidate.node, **_estimate_fields(candidate.estimate)}


def _slo_fields(slo: SloRoom) -> dict[str, Any]:
    rounded = {k: None if v is None else round(v, 3) for k, v in asdict(slo).items()}
    return {**rounded, "met": slo.met}


def _estimate_fields(estimate: Estimate) -> dict[str, Any]:
    terms = ((name, getattr(estimate, name)) for name in _TERMS)  # `asdict` takes five times as long
    rounded = {name: round(value, 3) if isinstance(value, float) else value for name, value in terms}
    return {**rounded, "ttft_ms": round(estimate.ttft_ms, 3), "total_ms": round(estimate.total_ms, 3)}
