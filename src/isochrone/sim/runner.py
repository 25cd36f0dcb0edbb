"""One run: a scenario's cell under one policy with one seed, from nothing to columns."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from isochrone import __version__
from isochrone.ports import SettingError
from isochrone.routing import find_policy
from isochrone.sim.references import bounds
from isochrone.sim.results import RunColumns, RunMeta
from isochrone.sim.scenario.files import Scenario, arrivals, build_nodes, digest, gateway_regions, geography
from isochrone.sim.spec import REFERENCE_B0, REFERENCE_B1, REFERENCES, Job, NodeSpec
from isochrone.sim.traffic.jobs import client_regions
from isochrone.sim.world.world import World, WorldPlan

Progress = Callable[[float], None]
"""Told the share of the run that is done, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Run:
    """What is to be run.

    Attributes:
        scenario: with the cell's changes made.
        cell: those changes, by dotted key.
        policy: as `find_policy` takes it, or one of the references.
        seed: of arrivals and world; the arrivals do not depend on the policy.
    """

    scenario: Scenario
    policy: str
    seed: int
    cell: dict[str, object] = field(default_factory=dict)

    @property
    def meta(self) -> RunMeta:
        """Which run it is, before anything was counted."""
        scenario = self.scenario
        return RunMeta(scenario.name, self.cell, self.policy, self.seed, digest(scenario), __version__)


def check_policy(text: str) -> None:
    """Raises SettingError, in words, for a policy that there is not."""
    if text not in REFERENCES:
        try:
            find_policy(text)
        except KeyError as error:
            raise SettingError(str(error.args[0])) from error


def simulate(run: Run, progress: Progress = lambda _share: None) -> tuple[RunMeta, RunColumns]:
    """Run it. The same run gives the same columns, bit for bit."""
    scenario = run.scenario
    nodes = build_nodes(scenario, run.seed)
    if run.policy == REFERENCE_B0:
        return _bounds(run, nodes)
    with _without_cycle_search():
        world = World(world_plan(run, nodes))
        for now_s in world.run(arrivals(scenario, nodes, run.seed)):
            progress(min(1.0, now_s / scenario.duration_s))
    meta = run.meta
    meta.counters.update(world.counters())
    meta.counters.update(nodes=len(nodes), window_s=scenario.duration_s - scenario.warmup_s)
    return meta, world.recorder.columns(scenario.warmup_s)


def _bounds(run: Run, nodes: tuple[NodeSpec, ...]) -> tuple[RunMeta, RunColumns]:
    meta = run.meta
    counters, columns = bounds(run.scenario, nodes, list(arrivals(run.scenario, nodes, run.seed)))
    meta.counters.update(counters)
    return meta, columns


@contextmanager
def _without_cycle_search() -> Iterator[None]:
    """A run makes no cycles of objects, and a search among a million beliefs costs more than the beliefs."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def world_plan(run: Run, nodes: tuple[NodeSpec, ...]) -> WorldPlan:
    """The world of a run."""
    scenario, places = run.scenario, geography(run.scenario)
    check_policy(run.policy)
    return WorldPlan(
        scenario=scenario,
        nodes=nodes,
        gateway_regions=gateway_regions(scenario),
        client_regions=tuple(client_regions(scenario)),
        models=tuple(sorted({model for node in nodes for model in node.models})),
        policy=None if run.policy == REFERENCE_B1 else find_policy(run.policy),
        one_way_ms=places.one_way_ms,
        seed=run.seed,
    )


def jobs_of(run: Run) -> Iterator[Job]:
    """The arrivals of a run, without running it: for references and for the live network."""
    return arrivals(run.scenario, build_nodes(run.scenario, run.seed), run.seed)
