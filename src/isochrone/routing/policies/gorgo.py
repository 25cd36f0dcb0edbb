"""GORGO: the least sum of network latency, prefill of what is not cached, and the work ahead.

    cost_ms = rtt_weight * rtt + prefill * (1 - hit + queued + running_weight * running)

Reads: RTT, cached prefixes, queued and running as last heard, learned prefill speed; with `own`, own requests
in flight. Source: "GORGO: Maximizing KV-cache reuse while minimizing network latency in cross-region LLM load
balancing", arXiv 2602.11688, 2026, and its published code, where a running request costs half a queued one.
The source adds up the prompt tokens that wait; as pulses tell no tokens, each waiting prompt counts as long
as this.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from isochrone.routing.choice import Choice
from isochrone.routing.luck import Luck
from isochrone.routing.parameters import within


@dataclass(frozen=True, slots=True)
class Parameters:
    """Weights, against the milliseconds of a prefill.

    Attributes:
        rtt_weight: of the round trip. The source: 1.
        queued_weight: of each queued request, in prefills. The source: 1.
        running_weight: of each running request, in prefills. The source: 0.5.
        prefill_ms_per_token: one speed for all nodes, as in the source (0.094 for its hardware); 0 for the
            speed learned of each.
        own: count our own requests sent since the report as queued.
    """

    rtt_weight: float = 1.0
    queued_weight: float = 1.0
    running_weight: float = 0.5
    prefill_ms_per_token: float = 0.0
    own: bool = False

    def __post_init__(self) -> None:
        for name in ("rtt_weight", "queued_weight", "running_weight", "prefill_ms_per_token"):
            within(name, getattr(self, name), 0)


def rank(choice: Choice, luck: Luck, parameters: Parameters) -> Sequence[int]:
    """Least cost first, ties by lot."""
    columns, view = choice.columns, choice.view
    queued = columns.queued + columns.own_unseen if parameters.own else columns.queued
    prompts = 1.0 - choice.hit_share()
    prompts += parameters.queued_weight * queued + parameters.running_weight * columns.running
    if parameters.prefill_ms_per_token:
        prompt_tokens = view.prompt_tokens_base + view.prompt_tokens_per_byte * choice.request.prompt_bytes
        work_ms = prompts * (parameters.prefill_ms_per_token * prompt_tokens)
    else:
        work_ms = prompts * choice.service.prefill_ms
    return choice.least(parameters.rtt_weight * columns.rtt_ms + work_ms, luck)
