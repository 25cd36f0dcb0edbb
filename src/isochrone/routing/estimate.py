"""The time model: when would this node answer this request?

    ttft  = rtt + wait + cold + max(0, prefill_base + prefill_per_token * (prompt - cached) + bias)
    total = ttft + tpot * (output - 1)
    score = ttft + beta * tpot * (output - 1) + price * (prompt - cached) + mixing + meeting
            + kappa * uncertainty

A node close by may be far in time: this function is where that is seen. Its terms are told in
`docs/architecture.md`; the learning of each number is in `isochrone.fleet`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from isochrone.model import Estimate, FleetView, Floats, Meeting, Numbers, Objective, Request, SloRoom

PRIOR_PREFILL_BASE_MS = 50.0
PRIOR_PREFILL_MS_PER_TOKEN = 5.0
PRIOR_TPOT_MS = 25.0
"""Speeds of a node of which nothing is known: a small model on one CPU thread."""


@dataclass(frozen=True, slots=True)
class EstimateWeights:
    """What a client cares for, beside the first token.

    Attributes:
        beta_stream: weight of a later token when the first one counts, as for a client that reads along:
            reading is slower than decoding.
        beta_whole: weight of a later token when the last one counts, as for a client that waits for it all.
        line: of `beta_whole`, the share that is taken away for each share of the slots that is busy. Where
            one waits others do: a long answer had better leave the fast nodes, where all go, to short ones.
        congestion: weight of what a request takes from those who come after it.
        meeting: weight of others that choose the same node unheard.
        mixing: weight of what requests for other models lose to one whose model is not at work on the node.
        kappa: weight of uncertainty: how much sooner an uncertain node must look to be preferred.
        uncertainty_ms_per_s: growth of uncertainty with the age of the node's state.
        slo_margin: so many times its uncertainty a node's first token must come before an SLO's limit.
    """

    beta_stream: float = 0.1
    beta_whole: float = 1.0
    line: float = 1.0
    congestion: float = 0.5
    meeting: float = 1.0
    mixing: float = 1.0
    kappa: float = 0.25
    uncertainty_ms_per_s: float = 20.0
    slo_margin: float = 1.0


DEFAULT_WEIGHTS = EstimateWeights()


Score = tuple[float, float]
"""Of a request on a node: milliseconds, and prompt tokens believed cached."""


@dataclass(slots=True)
class Terms:
    """What a score needs of the request and of the view, whatever the node; made for each, and so not frozen.

    Attributes:
        prompt_tokens: its length, estimated.
        later_tokens: expected tokens of the answer after the first.
        beta: weight of a later token.
        price_ms: of a prompt token that must be computed.
        stream: the client reads along.
        objective: what the client wants of the answer.
        weights: the others.
    """

    prompt_tokens: float
    later_tokens: float
    beta: float
    price_ms: float
    stream: bool
    objective: Objective
    weights: EstimateWeights

    @classmethod
    def of(cls, view: FleetView, request: Request, weights: EstimateWeights) -> "Terms":
        """The terms of one request."""
        price_ms = view.plan.token_price_ms if view.plan is not None else 0.0
        beta = weights.beta_stream
        if request.wants_completion:
            busy = view.plan.busy if view.plan is not None else 0.0
            beta = weights.beta_whole * (1.0 - weights.line * busy)
        return cls(
            view.prompt_tokens_base + view.prompt_tokens_per_byte * request.prompt_bytes,
            _output_tokens(view, request) - 1,
            beta,
            weights.congestion * price_ms,
            request.stream,
            request.objective,
            weights,
        )

    def score(self, node: Numbers) -> Score:
        """(the estimate's score in milliseconds, prompt tokens believed cached): all that a choice needs."""
        return self.scores((node,))[0]

    def scores(self, nodes: Iterable[Numbers]) -> list[Score]:
        """`score` of several: with the terms looked up once that takes less."""
        prompt_tokens, later_tokens, price_ms = self.prompt_tokens, self.later_tokens, self.price_ms
        beta, kappa, mixing = self.beta, self.weights.kappa, self.weights.mixing
        uncertainty_ms_per_s = self.weights.uncertainty_ms_per_s
        scores = list[Score]()
        for node in nodes:
            (_, rtt_ms, wait_s, age_s, ready_in_s, base_ms, ms_per_token, tpot_ms, bias_ms, error_ms,
             held_bytes, cached_base, cached_per_byte, _, slower, slowed) = node  # fmt: skip
            if base_ms <= 0 and ms_per_token <= 0:
                base_ms, ms_per_token = PRIOR_PREFILL_BASE_MS, PRIOR_PREFILL_MS_PER_TOKEN
            cached_tokens = cached_base + cached_per_byte * held_bytes
            if cached_tokens:  # the last token is always computed anew
                cached_tokens = max(0.0, min(cached_tokens, prompt_tokens - 1))
            uncached_tokens = prompt_tokens - cached_tokens
            prefill_ms = base_ms + ms_per_token * uncached_tokens
            decode_ms = later_tokens * (tpot_ms or PRIOR_TPOT_MS)
            uncertainty_ms = error_ms + uncertainty_ms_per_s * age_s
            begun_ms = prefill_ms + bias_ms
            ttft_ms = rtt_ms + (wait_s + ready_in_s) * 1e3 + (begun_ms if begun_ms > 0.0 else 0.0)
            later_ms = beta * decode_ms + price_ms * uncached_tokens
            if slowed:
                later_ms += mixing * slowed * (prefill_ms + decode_ms) / slower
            scores.append((ttft_ms + later_ms + kappa * uncertainty_ms, cached_tokens))
        return scores

    def meet(
        self, meeting: Meeting, indices: Iterable[int], nodes: Iterable[Numbers], scores: Iterable[Score]
    ) -> list[Score]:
        """The scores with what it costs to meet others there; nodes that came after the plan have none."""
        dearer, planned, weight = list[Score](), len(meeting.behind), self.weights.meeting
        for index, node, (score_ms, cached_tokens) in zip(indices, nodes, scores, strict=True):
            if index < planned:
                base_ms, ms_per_token = _prefill_speed(node)
                prefill_ms = base_ms + ms_per_token * (self.prompt_tokens - cached_tokens)
                met_ms = meeting.before_ms.item(index) + meeting.behind.item(index) * prefill_ms
                dearer.append((score_ms + weight * met_ms, cached_tokens))
            else:
                dearer.append((score_ms, cached_tokens))
        return dearer

    def sharing_ms(self, node: Numbers, cached_tokens: float) -> float:
        """What of the node's score is due to who shares it: more or less than usual, and the others' loss."""
        if node.slower == 1.0 and not node.slowed:
            return 0.0
        base_ms, ms_per_token = _prefill_speed(node)
        prefill_ms = base_ms + ms_per_token * (self.prompt_tokens - cached_tokens)
        decode_ms = self.later_tokens * (node.tpot_ms or PRIOR_TPOT_MS)
        longer_ms = (1.0 - 1.0 / node.slower) * (prefill_ms + self.beta * decode_ms)
        return longer_ms + self.weights.mixing * node.slowed * (prefill_ms + decode_ms) / node.slower

    def estimate(self, node: Numbers, score: Score) -> Estimate:
        """The score with all its terms."""
        score_ms, cached_tokens = score
        base_ms, ms_per_token = _prefill_speed(node)
        uncached_tokens = self.prompt_tokens - cached_tokens
        prefill_ms = base_ms + ms_per_token * uncached_tokens
        uncertainty_ms = self.uncertainty_ms(node)
        decode_ms = self.later_tokens * (node.tpot_ms or PRIOR_TPOT_MS)
        begun_ms = node.rtt_ms + (node.wait_s + node.ready_in_s) * 1e3 + max(0.0, prefill_ms + node.bias_ms)
        own_ms = begun_ms + self.beta * decode_ms + self.weights.kappa * uncertainty_ms
        return Estimate(
            rtt_ms=node.rtt_ms,
            wait_ms=node.wait_s * 1e3,
            cold_ms=node.ready_in_s * 1e3,
            prefill_ms=prefill_ms,
            bias_ms=node.bias_ms,
            decode_ms=decode_ms,
            congestion_ms=max(0.0, score_ms - own_ms),
            sharing=node.sharing,
            uncertainty_ms=uncertainty_ms,
            prompt_tokens=round(self.prompt_tokens),
            cached_tokens=int(cached_tokens),
            output_tokens=round(self.later_tokens + 1),
            score_ms=score_ms,
        )

    def uncertainty_ms(self, node: Numbers) -> float:
        """The usual error of a prediction for this node, grown with the age of its state."""
        return node.error_ms + self.weights.uncertainty_ms_per_s * node.age_s

    def slo_room(self, estimate: Estimate, *, heeded: bool = False) -> SloRoom:
        """How a node with this estimate stands to the SLO.

        Of an answer that is not streamed the client sees the first token with the last. An answer of one
        token has no later ones: it keeps any limit for them.
        """
        ttft_ms, tpot_ms = self.objective.ttft_ms, self.objective.tpot_ms
        seen_ms = estimate.ttft_ms if self.stream else estimate.total_ms
        seen_ms += self.weights.slo_margin * estimate.uncertainty_ms
        later_ms = estimate.decode_ms / self.later_tokens if self.later_tokens > 0 else 0.0
        return SloRoom(
            ttft_ms=ttft_ms,
            tpot_ms=tpot_ms,
            ttft_room_ms=None if ttft_ms is None else ttft_ms - seen_ms,
            tpot_room_ms=None if tpot_ms is None else tpot_ms - later_ms,
            heeded=heeded,
        )


def estimate(view: FleetView, request: Request, node: Numbers, weights: EstimateWeights) -> Estimate:
    """When a node with these numbers would answer `request`, term by term."""
    terms = Terms.of(view, request, weights)
    return terms.estimate(node, terms.score(node))


class ServiceColumns:
    """What one request would take on each node of a view, nothing cached: `estimate` for all nodes at once.

    Arrays of shape (nodes,), each worked out when first asked for.
    """

    def __init__(self, view: FleetView, request: Request, weights: EstimateWeights) -> None:
        self._columns, self._weights = view.nodes.columns, weights
        self._terms = Terms.of(view, request, weights)

    @cached_property
    def prefill_ms(self) -> Floats:
        """Prompt processing to the first token."""
        base_ms, ms_per_token = self._columns.prefill_base_ms, self._columns.prefill_ms_per_token
        unknown = (base_ms <= 0) & (ms_per_token <= 0)
        if unknown.any():
            base_ms = np.where(unknown, PRIOR_PREFILL_BASE_MS, base_ms)
            ms_per_token = np.where(unknown, PRIOR_PREFILL_MS_PER_TOKEN, ms_per_token)
        return base_ms + ms_per_token * self._terms.prompt_tokens

    @cached_property
    def prefill_ms_per_token(self) -> Floats:
        """The same for each token of the prompt."""
        return self.prefill_ms / max(1.0, self._terms.prompt_tokens)

    @cached_property
    def decode_ms(self) -> Floats:
        """The tokens after the first."""
        tpot_ms = self._columns.tpot_ms
        return self._terms.later_tokens * np.where(tpot_ms > 0, tpot_ms, PRIOR_TPOT_MS)

    @cached_property
    def service_s(self) -> Floats:
        """Time on a slot, prefill and decode."""
        return (self.prefill_ms + self.decode_ms) / 1e3

    @cached_property
    def capacity_per_s(self) -> Floats:
        """Such requests that the node finishes a second with all slots in use."""
        return self._columns.slots / np.maximum(self.service_s, 1e-6)

    @cached_property
    def ttft_ms(self) -> Floats:
        """Time to first token as estimated, bias included."""
        columns = self._columns
        begun_ms = columns.rtt_ms + (columns.wait_s + columns.ready_in_s) * 1e3
        return np.asarray(begun_ms + np.maximum(0.0, self.prefill_ms + columns.bias_ms))

    @cached_property
    def score_ms(self) -> Floats:
        """The estimate's score."""
        columns, weights = self._columns, self._weights
        uncertainty_ms = columns.error_ms + weights.uncertainty_ms_per_s * columns.age_s
        congestion_ms = self._terms.price_ms * self._terms.prompt_tokens
        return (
            self.ttft_ms + self._terms.beta * self.decode_ms + congestion_ms + weights.kappa * uncertainty_ms
        )


def _prefill_speed(model: Numbers) -> tuple[float, float]:
    """(base, per token) in milliseconds; the prior only when nothing at all is known."""
    if model.prefill_base_ms > 0 or model.prefill_ms_per_token > 0:
        return model.prefill_base_ms, model.prefill_ms_per_token
    return PRIOR_PREFILL_BASE_MS, PRIOR_PREFILL_MS_PER_TOKEN


def typical(view: FleetView, request: Request) -> Request:
    """`request` with a prompt as long as prompts lately were, of nobody in particular: as plans are for."""
    prompt_bytes = round(view.prompt_bytes_mean or request.prompt_bytes)
    return replace(request, prompt_bytes=prompt_bytes, client="")


def expected_tokens(view: FleetView, request: Request) -> int:
    """Tokens of the prompt and of the answer, as far as is known in advance: what a limit counts then."""
    prompt_tokens = view.prompt_tokens_base + view.prompt_tokens_per_byte * request.prompt_bytes
    return max(1, round(prompt_tokens + _output_tokens(view, request)))


def _output_tokens(view: FleetView, request: Request) -> float:
    limit, share = request.output_tokens_max, view.output_share.get(request.client, 1.0)
    if limit is None:
        return max(1.0, view.output_tokens_mean * share)
    expected = view.output_tokens_base + view.output_tokens_per_limit * limit
    return max(1.0, min(min(expected, view.output_tokens_most) * share, limit))
