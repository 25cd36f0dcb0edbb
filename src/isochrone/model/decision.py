"""A decision that explains itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, overload

from isochrone.model.fleeting import fleeting


@fleeting(frozen=True, slots=True)
class Estimate:
    """When one node would answer one request, term by term; all in milliseconds unless named otherwise.

    Attributes:
        rtt_ms: round trip to the node and back on a warm connection.
        wait_ms: until a slot is free.
        cold_ms: until the model is ready: 0 when it is.
        prefill_ms: prompt processing to the first token, cached prefix taken off.
        bias_ms: what first tokens on this node lately took beyond all other terms.
        decode_ms: the tokens after the first.
        uncertainty_ms: usual error of the prediction, grown with the age of the node's state.
        prompt_tokens: prompt length in tokens, estimated.
        cached_tokens: of these, believed to be in the node's prefix cache.
        output_tokens: expected length of the answer.
        score_ms: what `soonest` compares: first token, weighed decode, congestion and uncertainty.
        congestion_ms: what it takes from others: its prompt from those who come after, its model's share of
            the node from those of other models there; and what those take whom it may meet.
        sharing: models at work on the node with it, its own counted; prefill and decode are as long as then.
    """

    rtt_ms: float
    wait_ms: float
    cold_ms: float
    prefill_ms: float
    bias_ms: float
    decode_ms: float
    uncertainty_ms: float
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    score_ms: float
    congestion_ms: float = 0.0
    sharing: float = 1.0

    @property
    def ttft_ms(self) -> float:
        """Predicted time to first token. What was learned corrects the prefill, never more than all of it."""
        return self.rtt_ms + self.wait_ms + self.cold_ms + max(0.0, self.prefill_ms + self.bias_ms)

    @property
    def total_ms(self) -> float:
        """Predicted time to the last token."""
        return self.ttft_ms + self.decode_ms

    @property
    def service_s(self) -> float:
        """Predicted time the request holds a slot, in seconds."""
        return (self.prefill_ms + self.decode_ms) / 1e3


@fleeting(frozen=True, slots=True)
class Candidate:
    """A node that could have been chosen, and when it would have answered."""

    node: str
    estimate: Estimate


class Candidates(Sequence[Candidate]):
    """Candidates, best first, each told when first looked at: most decisions are asked for their choice only.

    Equal to a tuple of the same candidates, and pickled as one.
    """

    __slots__ = ("_tell", "_told")

    def __init__(self, count: int, tell: Callable[[int], Candidate]) -> None:
        """`tell` makes the candidate at a place, 0 to `count` - 1, from values that change no more."""
        self._tell = tell
        self._told: list[Candidate | None] = [None] * count

    def __len__(self) -> int:
        return len(self._told)

    @overload
    def __getitem__(self, at: int) -> Candidate: ...

    @overload
    def __getitem__(self, at: slice) -> tuple[Candidate, ...]: ...

    def __getitem__(self, at: int | slice) -> Candidate | tuple[Candidate, ...]:
        if isinstance(at, slice):
            return tuple(self)[at]
        told = self._told[at]
        if told is None:
            told = self._told[at] = self._tell(at % len(self._told))
        return told

    def __eq__(self, other: object) -> bool:
        return tuple(self) == tuple(other) if isinstance(other, tuple | Candidates) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, (tuple(self),)


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A node that could not be chosen, and why, in words for a person."""

    node: str
    why: str


class Origin(StrEnum):
    """Where a policy found its choice."""

    OWN = "own"
    """Among the best of the nodes that are this gateway's by the plan."""
    GATHERED = "gathered"
    """One of the few to which prompts with this beginning go, from every gateway."""
    PREFIX = "prefix"
    """It holds the beginning of the prompt."""
    DRAWN = "drawn"
    """By lot, by the plan's weights over all nodes."""
    SPARE = "spare"
    """By lot, for a request that has time to spare."""
    ALL = "all"
    """All nodes were compared."""


@fleeting(frozen=True, slots=True)
class SloRoom:
    """How the choice stands to the client's SLO, by prediction.

    In milliseconds; None where there is no limit.

    Attributes:
        ttft_ms: the limit for the first token seen; of an answer that is not streamed, for the whole.
        tpot_ms: the limit for each later token.
        ttft_room_ms: that limit less the prediction and a margin for its error; below 0 when it misses.
        tpot_room_ms: the limit less the prediction; below 0 when it misses.
        heeded: the policy looked for a node that keeps it: when this one misses, every candidate does.
    """

    ttft_ms: float | None
    tpot_ms: float | None
    ttft_room_ms: float | None
    tpot_room_ms: float | None
    heeded: bool = False

    @property
    def met(self) -> bool:
        """Whether no limit is missed."""
        return self.leaves(0.0)

    def leaves(self, share: float) -> bool:
        """Whether at least this share of each limit is left."""
        return (self.ttft_ms is None or (self.ttft_room_ms or 0.0) >= share * self.ttft_ms) and (
            self.tpot_ms is None or (self.tpot_room_ms or 0.0) >= share * self.tpot_ms
        )


@fleeting(frozen=True, slots=True)
class Decision:
    """Which node gets a request, and why.

    Attributes:
        request_id: the request's id, and this decision's.
        model: what was asked for.
        policy: name of the policy that decided.
        candidates: every candidate, best first: the first is the choice, the others are the runners-up in
            the order in which they are tried. Empty when nothing can serve the request. Their estimates
            may be worked out only when looked at, by what was believed when it was decided.
        exclusions: every other node that lists the model.
        at_s: when, on the gateway's monotonic clock.
        slo: how the choice stands to the request's SLO; None without an SLO or without a choice.
        origin: where the policy found the choice; None when it does not tell.
        patience_ms: how long the request is to wait at the choice; where its prompt would begin later, the
            node says so and it is placed anew. None: however long.
    """

    request_id: str
    model: str
    policy: str
    candidates: Sequence[Candidate]
    exclusions: tuple[Exclusion, ...]
    at_s: float
    slo: SloRoom | None = None
    origin: Origin | None = None
    patience_ms: float | None = None

    @property
    def unmet(self) -> SloRoom | None:
        """By how much the choice is predicted to miss the SLO, or None when it does not."""
        return None if self.slo is None or self.slo.met else self.slo

    @property
    def chosen(self) -> Candidate | None:
        """The candidate that was chosen, or None when there was none."""
        return self.candidates[0] if self.candidates else None
