"""What a gateway believes of the fleet at the instant of one decision: the input of routing."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from isochrone.model.node import ModelState


@dataclass(frozen=True, slots=True)
class ModelView:
    """One model on one node, as believed.

    Attributes:
        state: how far it is from answering.
        ready_in_s: seconds until ready, counted down since the node said so.
        prefill_base_ms: time to first token of an empty prompt on an idle slot.
        prefill_ms_per_token: more time for each prompt token that is not cached.
        tpot_ms: time per output token at the node's present concurrency.
        cached_prefix: hashes of prompt blocks believed to be in the node's prefix cache.
        cached_tokens_base: prompt tokens found in the cache whatever the prompt (the chat template).
        cached_tokens_per_byte: more of them for each leading byte of the prompt in `cached_prefix`.
        bias_ms: what first tokens lately took beyond round trip, wait and prefill (negative: less).
        error_ms: lately usual absolute error of the predicted first token.
        observations: how many answers of ours stand behind these numbers.
    """

    state: ModelState
    ready_in_s: float = 0.0
    prefill_base_ms: float = 0.0
    prefill_ms_per_token: float = 0.0
    tpot_ms: float = 0.0
    cached_prefix: Mapping[int, None] = field(default_factory=dict)
    cached_tokens_base: float = 0.0
    cached_tokens_per_byte: float = 0.25
    bias_ms: float = 0.0
    error_ms: float = 0.0
    observations: int = 0


@dataclass(frozen=True, slots=True)
class NodeView:
    """One node, as believed.

    Attributes:
        node: its name.
        url: where it is reached.
        region: its place, "" when unknown.
        rtt_ms: round-trip time from this gateway: measured, or the region table's until measured.
        rtt_measured: whether it was measured.
        age_s: seconds since its load was last heard.
        slots: requests it works on at once.
        free_slots: slots free when last heard.
        wait_s: seconds to a free slot for a request that arrives now: as last heard, drained since, with our
            own dispatches that it could not yet report and the flow of other gateways.
        own_in_flight: our requests on it now.
        models: what it can serve, by name.
        unavailable: why it may not be chosen now, in words, or None.
        failure_domains: what it may fail together with.
    """

    node: str
    url: str
    region: str = ""
    rtt_ms: float = 0.0
    rtt_measured: bool = False
    age_s: float = 0.0
    slots: int = 1
    free_slots: int = 1
    wait_s: float = 0.0
    own_in_flight: int = 0
    models: Mapping[str, ModelView] = field(default_factory=dict)
    unavailable: str | None = None
    failure_domains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FleetView:
    """All nodes that could serve one model, at one instant, and what is known of that model everywhere.

    Attributes:
        now_s: the gateway's monotonic clock.
        model: the model's name.
        nodes: every node that lists the model, in order of name.
        prompt_tokens_base: prompt tokens of an empty prompt (the chat template).
        prompt_tokens_per_byte: more tokens for each byte of prompt text.
        output_tokens_mean: how long answers without a limit lately were.
        output_tokens_base: how long answers under a limit of 0 would be, by the line learned.
        output_tokens_per_limit: more of them for each token of the client's limit.
        output_tokens_most: the longest answer that is expected, whatever the limit.
        turn: dispatches of this model so far, retries included (round-robin counts on it).
    """

    now_s: float
    model: str
    nodes: tuple[NodeView, ...]
    prompt_tokens_base: float = 0.0
    prompt_tokens_per_byte: float = 0.25
    output_tokens_mean: float = 128.0
    output_tokens_base: float = 0.0
    output_tokens_per_limit: float = 0.5
    output_tokens_most: float = float("inf")
    turn: int = 0
