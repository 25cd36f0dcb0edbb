"""The nouns of a simulated world: what there is, before anything happens."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from isochrone.model import PromptBlocks

REFERENCE_B0 = "reference-b0"
"""No run: what each request would take alone in the world, with the bounds B2 and B3 among the counters."""

REFERENCE_B1 = "reference-b1"
"""Omniscient greedy with zero staleness: run like a policy, but it sees the truth."""

REFERENCES = (REFERENCE_B0, REFERENCE_B1)

BYTES_PER_TOKEN = 4
"""Simulated prompts are as long in bytes as this makes them: gateways learn from bytes."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model.

    Attributes:
        name: what requests ask for.
        weights_bytes: memory for the weights.
        kv_bytes_per_token: memory for one token of context.
    """

    name: str
    weights_bytes: float = 0.0
    kv_bytes_per_token: float = 0.0


@dataclass(frozen=True, slots=True)
class SpeedSpec:
    """How fast one class of hardware runs one model.

    Attributes:
        prefill_base_ms: time to first token of an empty prompt.
        prefill_ms_per_token: more time for each prompt token that is not cached.
        tpot_ms: time of one decode step with one sequence in the batch.
        tpot_ms_per_sequence: more time for each further sequence in the batch.
        load_s: from disk to ready.
        fetch_s: onto the disk, for a model that is absent.
    """

    prefill_base_ms: float
    prefill_ms_per_token: float
    tpot_ms: float
    tpot_ms_per_sequence: float = 0.0
    load_s: float = 0.0
    fetch_s: float = 0.0


@dataclass(frozen=True, slots=True)
class HardwareSpec:
    """A class of hardware.

    Attributes:
        name: such as `h100-80gb`.
        slots: most sequences in a batch.
        queue_max: requests that wait beyond them before the node refuses.
        memory_bytes: for weights, KV cache and prefix cache together; inf for no bound.
        chunk_tokens: prompt tokens computed in one step beside the decodes; 0: a prompt is computed in one
            piece and the decodes wait.
        prefix_block_tokens: tokens in a block of the prefix cache; 0 for an engine without one.
        speeds: by name of model. What is not here it can't run.
        prefix_cache: blocks: whatever was computed, in memory that nothing else needs, as vLLM keeps it;
            slots: what the slots worked on last and a store of what they held before, as llama.cpp's server
            does.
        prefix_store_bytes: most memory for that store, beside memory_bytes; 0 for none.
        loads_known: its nodes know how long loads take; else they claim what a live node guesses from the
            size of the weights, until they have loaded once.
    """

    name: str
    slots: int
    queue_max: int
    memory_bytes: float
    chunk_tokens: int
    prefix_block_tokens: int
    speeds: Mapping[str, SpeedSpec]
    prefix_cache: Literal["blocks", "slots"] = "blocks"
    prefix_store_bytes: float = 2.0**28
    loads_known: bool = True


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One node.

    Attributes:
        name: unique in the world.
        region: where it stands.
        hardware: its class.
        models: what it can serve, by name.
        ready: of these, loaded at the start.
        on_disk: of these, on disk at the start.
        speed: divides every time of its class: 2 is twice as fast.
        operator: who runs it.
        failure_domains: what it may fail together with.
        neighbours: users of its own, who ask it directly, each one request after the other.
        neighbour_prompt_tokens: median length of their prompts.
        neighbour_output_tokens: length of each of their answers.
        neighbour_early_share: share of these answers that end sooner, of their own accord, anywhere alike.
    """

    name: str
    region: str
    hardware: HardwareSpec
    models: Mapping[str, ModelSpec]
    ready: tuple[str, ...] = ()
    on_disk: tuple[str, ...] = ()
    speed: float = 1.0
    operator: str = ""
    failure_domains: tuple[str, ...] = ()
    neighbours: int = 0
    neighbour_prompt_tokens: int = 40
    neighbour_output_tokens: int = 96
    neighbour_early_share: float = 0.0


@dataclass(frozen=True, slots=True)
class Job:
    """One request as a world knows it: its true lengths, which no gateway and no node is told beforehand.

    Attributes:
        id: its number, counted from 0 in order of arrival.
        at_s: when it comes, from the start.
        region: where its client is.
        client: whose it is, a number.
        model: what it asks for.
        prompt_tokens: length of the prompt.
        output_tokens: length that the answer will have, at least 1.
        output_tokens_max: the limit that the client sets, or None.
        blocks: the prompt's hash chain; its `block_bytes` are tokens times `BYTES_PER_TOKEN`.
        priority: 0 is the highest.
        slo: its client asks for the scenario's SLO.
    """

    id: int
    at_s: float
    region: str
    client: int
    model: str
    prompt_tokens: int
    output_tokens: int
    output_tokens_max: int | None = None
    blocks: PromptBlocks = field(default_factory=PromptBlocks)
    priority: int = 0
    slo: bool = False
