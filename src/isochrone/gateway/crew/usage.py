"""What a request took of its key's tokens, once it has ended."""

from isochrone.model import Estimate, Outcome, OutcomeKind
from isochrone.wire.explain import Record

_BEGAN = (OutcomeKind.ANSWERED, OutcomeKind.CANCELLED, OutcomeKind.TIMED_OUT)


def tokens_taken(record: Record | None) -> int | None:
    """Tokens of prompts and answers: as nodes report, else as the time tells that nodes worked.

    Of a client that leaves before the end of its answer no node tells. It has taken what was expected, or
    more where the answer went on for longer. 0 when no node began; None when all that is known is what was
    expected before.
    """
    outcomes = () if record is None else record.outcomes
    told = [o.timings.prompt_tokens + o.timings.output_tokens for o in outcomes if o.timings is not None]
    if told:
        return sum(told)
    began = [o for o in outcomes if o.kind in _BEGAN or o.ttft_ms is not None]
    if record is None or not began:
        return 0
    estimates = {candidate.node: candidate.estimate for candidate in record.decision.candidates}
    seen = [o for o in began if o.ttft_ms is not None or not record.stream]  # else no token was ever sent
    return max((_by_time(o, estimates[o.node]) for o in seen if o.node in estimates), default=None)


def _by_time(outcome: Outcome, estimate: Estimate) -> int:
    """What a node with these speeds has made by the time it was left, at least what was expected."""
    first_ms = estimate.ttft_ms if outcome.ttft_ms is None else outcome.ttft_ms
    tpot_ms = estimate.decode_ms / max(estimate.output_tokens - 1, 1)
    later = max(outcome.total_ms - first_ms, 0.0) / tpot_ms if tpot_ms > 0 else 0.0
    return estimate.prompt_tokens + max(estimate.output_tokens, 1 + round(later))
