"""A decision with what became of it, as one JSON event: the bus, the audit and `explain` all read this."""

from dataclasses import asdict, dataclass, fields
from typing import Any

import msgspec

from isochrone.model import Candidate, Decision, Estimate, Outcome, SloRoom, Timings

_MEASURED = tuple(field.name for field in fields(Timings))


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
        "patience_ms": None if decision.patience_ms is None else round(decision.patience_ms, 3),
        "slo": None if decision.slo is None else _slo_fields(decision.slo),
        "candidates": [_candidate_fields(candidate) for candidate in decision.candidates],
        "exclusions": [asdict(exclusion) for exclusion in decision.exclusions],
        "outcomes": [_outcome_fields(outcome) for outcome in record.outcomes],
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
    """All terms to the microsecond, spelled out: this runs for every candidate of every request."""
    return {
        "rtt_ms": round(estimate.rtt_ms, 3),
        "wait_ms": round(estimate.wait_ms, 3),
        "cold_ms": round(estimate.cold_ms, 3),
        "prefill_ms": round(estimate.prefill_ms, 3),
        "bias_ms": round(estimate.bias_ms, 3),
        "decode_ms": round(estimate.decode_ms, 3),
        "uncertainty_ms": round(estimate.uncertainty_ms, 3),
        "prompt_tokens": estimate.prompt_tokens,
        "cached_tokens": estimate.cached_tokens,
        "output_tokens": estimate.output_tokens,
        "score_ms": round(estimate.score_ms, 3),
        "congestion_ms": round(estimate.congestion_ms, 3),
        "sharing": estimate.sharing,
        "ttft_ms": round(estimate.ttft_ms, 3),
        "total_ms": round(estimate.total_ms, 3),
    }


def _outcome_fields(outcome: Outcome) -> dict[str, Any]:
    return {
        "request_id": outcome.request_id,
        "node": outcome.node,
        "kind": outcome.kind.value,
        "status": outcome.status,
        "ttft_ms": outcome.ttft_ms,
        "total_ms": outcome.total_ms,
        "timings": None if outcome.timings is None else {n: getattr(outcome.timings, n) for n in _MEASURED},
        "detail": outcome.detail,
    }
