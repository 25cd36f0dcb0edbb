"""Small simulated nodes, with speeds that are easy to reckon with."""

from math import inf

from isochrone.model import PromptBlocks
from isochrone.sim.node import Done, FirstToken, NodeEvent, SimNode
from isochrone.sim.spec import BYTES_PER_TOKEN, HardwareSpec, Job, ModelSpec, NodeSpec, SpeedSpec

PLAIN = SpeedSpec(prefill_base_ms=0.0, prefill_ms_per_token=0.0, tpot_ms=10.0)
"""Only decoding costs."""

REAL = SpeedSpec(
    prefill_base_ms=100.0,
    prefill_ms_per_token=1.0,
    tpot_ms=10.0,
    tpot_ms_per_sequence=2.0,
    load_s=2.0,
    fetch_s=3.0,
)
BLOCK_TOKENS = 25


def a_node(
    *models: ModelSpec,
    speed: SpeedSpec = REAL,
    ready: tuple[str, ...] | None = None,
    on_disk: tuple[str, ...] = (),
    factor: float = 1.0,
    **hardware,
) -> SimNode:
    """A node with one slot, a long queue and no bound of memory unless told; its first model is ready."""
    models = models or (ModelSpec("m"),)
    settings = {
        "slots": 1,
        "queue_max": 1000,
        "memory_bytes": inf,
        "chunk_tokens": 0,
        "prefix_block_tokens": 0,
    }
    speeds = dict.fromkeys((model.name for model in models), speed)
    return SimNode(
        NodeSpec(
            name="n",
            region="here",
            hardware=HardwareSpec("small", speeds=speeds, **{**settings, **hardware}),
            models={model.name: model for model in models},
            ready=(models[0].name,) if ready is None else ready,
            on_disk=on_disk,
            speed=factor,
        )
    )


def a_job(number: int, prompt: int = 0, output: int = 1, model: str = "m", *, hashes=()) -> Job:
    blocks = PromptBlocks(tuple(hashes), BLOCK_TOKENS * BYTES_PER_TOKEN)
    return Job(number, 0.0, "here", 0, model, prompt, output, None, blocks)


def run_dry(node: SimNode, until_s: float = inf) -> list[NodeEvent]:
    """Advance from event to event until nothing is to come."""
    events: list[NodeEvent] = []
    while node.next_event_s < until_s:
        events += node.advance(node.next_event_s)
    return events


def firsts(events: list[NodeEvent]) -> dict[int, float]:
    return {event.job_id: event.at_s for event in events if isinstance(event, FirstToken)}


def dones(events: list[NodeEvent]) -> dict[int, float]:
    return {event.job_id: event.at_s for event in events if isinstance(event, Done)}


def timings(events: list[NodeEvent], job_id: int):
    return next(event.timings for event in events if isinstance(event, Done) and event.job_id == job_id)
