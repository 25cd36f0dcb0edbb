"""Small worlds for tests, run to their end and kept to be looked into."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from isochrone.sim.runner import REFERENCE_B1, Run, world_plan
from isochrone.sim.scenario.files import Scenario, arrivals, build_nodes, changed, read_scenario
from isochrone.sim.spec import Job
from isochrone.sim.world.world import World

TEXT = """
duration_s = 20
policies = ["soonest"]

[nodes]
count = 6
hardware = { box = 1 }
speeds = [1, 2]
regions = ["West Europe", "East US"]

[hardware.box]
slots = 2
queue_max = 20
memory_bytes = 1e12
chunk_tokens = 0
prefix_block_tokens = 16
[hardware.box.speeds.toy]
prefill_base_ms = 20
prefill_ms_per_token = 0.5
tpot_ms = 10
tpot_ms_per_sequence = 2
load_s = 1

[gateways]
count = 2
timeout_s = 30

[bus]
jitter = 0.05
pulses_per_s = 0

[traffic]
rate_per_s = 8
models = ["toy"]
clients_per_region = 5
prompt = { median_tokens = 60, sigma = 0.6, max_tokens = 500 }
output = { median_tokens = 30, sigma = 0.6, max_tokens = 200 }
prefix = { client_tokens = 64, follow_up_share = 0.2, block_tokens = 16 }
regions = { "West Europe" = 2, "East US" = 1 }
"""

QUEUE = {
    "nodes.speeds": [1],
    "nodes.count": 1,
    "nodes.regions": ["West Europe"],
    "gateways.count": 1,
    "gateways.timeout_s": 1e6,
    "network.same_region_rtt_ms": 0,
    "bus.jitter": 0,
    "hardware.box.slots": 1,
    "hardware.box.queue_max": 100_000,
    "hardware.box.prefix_block_tokens": 0,
    "hardware.box.speeds.toy": {"prefill_base_ms": 0, "prefill_ms_per_token": 0, "tpot_ms": 1},
    "traffic.prompt": {"kind": "fixed", "median_tokens": 1},
    "traffic.output": {"kind": "exponential", "mean_tokens": 100, "max_tokens": 1_000_000},
    "traffic.prefix": {"block_tokens": 0},
    "traffic.regions": {"West Europe": 1},
}
"""Changes that make nodes of the queue M/M/1 out of it, with a mean service of 0.1 s and no distances."""


def scenario(changes: dict[str, Any] | None = None) -> Scenario:
    """The small world's scenario with changes by dotted key."""
    return changed(read_scenario(TEXT, "small.toml"), changes or {})


@dataclass(frozen=True)
class Ran:
    """A world after its end, what came to it and one column for each thing recorded."""

    world: World
    jobs: list[Job]
    rows: dict[str, Any]

    def kind(self, name: str) -> np.ndarray[Any, Any]:
        """Which requests ended so."""
        return np.asarray(self.rows["kind"] == name)

    def kinds(self) -> dict[str, int]:
        """How many ended how, without those that none did."""
        return {kind: count for kind, count in self.world.recorder.by_kind.items() if count}

    def answered(self, name: str) -> np.ndarray[Any, Any]:
        """A column of those answered."""
        return np.asarray(self.rows[name][self.kind("answered")])


def built(what: Scenario, policy: str = "soonest", seed: int = 1) -> tuple[World, list[Job]]:
    """A world that has not begun, and what will come to it."""
    nodes = build_nodes(what, seed)
    return World(world_plan(Run(what, policy, seed), nodes)), list(arrivals(what, nodes, seed))


def run_world(
    what: Scenario,
    policy: str = "soonest",
    seed: int = 1,
    *,
    jobs: list[Job] | None = None,
    prepare: Callable[[World], None] = lambda _world: None,
) -> Ran:
    """Run a world to its end; `jobs` come in place of the scenario's, after `prepare` had its way."""
    world, own = built(what, policy, seed)
    prepare(world)
    came = own if jobs is None else jobs
    for _ in world.run(iter(came)):
        pass
    return Ran(world, came, world.recorder.columns(what.warmup_s))


def job(number: int, at_s: float, **changes: Any) -> Job:
    """A request for the toy model from West Europe."""
    told: dict[str, Any] = {
        "region": "West Europe",
        "client": 0,
        "model": "toy",
        "prompt_tokens": 100,
        "output_tokens": 20,
    }
    return Job(number, at_s, **(told | changes))


__all__ = ["QUEUE", "REFERENCE_B1", "Ran", "built", "job", "run_world", "scenario"]
