"""What became of a request on one node."""

from enum import StrEnum

from isochrone.model.fleeting import fleeting

_ROUNDED_S = 5e-3


class OutcomeKind(StrEnum):
    """How one attempt at one node ended."""

    ANSWERED = "answered"
    REFUSED = "refused"
    """The node said that it is full or leaving (503, 429)."""
    BALKED = "balked"
    """It would have waited there for longer than it had patience, and is placed anew."""
    FAILED = "failed"
    """Connection refused or lost, a broken reply, or a 5xx."""
    SILENT = "silent"
    """The node stopped pulsing and sent nothing; given up for another."""
    TIMED_OUT = "timed_out"
    """The deadline passed first."""
    CANCELLED = "cancelled"
    """The client went away."""


def ready_in_s(begins_in_s: float, line_s: float) -> float:
    """After how long a model would have been ready, where a prompt would have begun so late behind this line.

    What is left of rounding is nothing.
    """
    return begins_in_s - line_s if begins_in_s - line_s > _ROUNDED_S else 0.0


@fleeting(frozen=True, slots=True)
class Timings:
    """What the node measured of one answer, as told in the response's trailer. A claim, not a fact.

    Attributes:
        queue_ms: waited for a slot.
        load_ms: waited for the model.
        prefill_ms: from the engine's start to the first token.
        decode_ms: from the first to the last token.
        prompt_tokens: length of the prompt.
        cached_tokens: of these, found in the prefix cache.
        output_tokens: length of the answer.
        concurrency: mean number of busy slots meanwhile, this one counted.
    """

    queue_ms: float = 0.0
    load_ms: float = 0.0
    prefill_ms: float = 0.0
    decode_ms: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    concurrency: float = 1.0


@fleeting(frozen=True, slots=True)
class Outcome:
    """How one attempt of one request at one node ended, measured by the gateway.

    Attributes:
        request_id: the request.
        node: the node tried.
        kind: how it ended.
        status: HTTP status of the node's reply, or 0 when there was none.
        ttft_ms: dispatch to first byte of the answer's body, None when there was none or when the answer
            was not streamed (its first byte is then its last).
        total_ms: dispatch to the end.
        timings: what the node measured, when it said so.
        detail: what went wrong, in words.
        ready_in_s: of a balk, after how long the model would have been ready there, 0 when it is.
    """

    request_id: str
    node: str
    kind: OutcomeKind
    status: int = 0
    ttft_ms: float | None = None
    total_ms: float = 0.0
    timings: Timings | None = None
    detail: str = ""
    ready_in_s: float = 0.0
