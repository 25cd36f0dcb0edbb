"""The requests that come to a simulated world: from a `[traffic]` table and a seed to jobs in order of time.

Open loop: a request comes when it comes. Times, places, models, lengths and conversations each have luck of
their own, drawn in batches, so that one seed brings the same requests to every policy.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np

from isochrone.model import PromptBlocks
from isochrone.sim.scenario.capacity import Demand, mean_capacity_per_s
from isochrone.sim.scenario.decoder import Place
from isochrone.sim.scenario.geography import azure_regions
from isochrone.sim.scenario.hardware import world_models
from isochrone.sim.scenario.settings import Scenario
from isochrone.sim.scenario.traffic_settings import DaySettings, TrafficSettings
from isochrone.sim.spec import BYTES_PER_TOKEN, Job, NodeSpec
from isochrone.sim.traffic.arrivals import Draft, drafts, read_trace
from isochrone.sim.traffic.clients import output_factors, stretched
from isochrone.sim.traffic.prompts import Asked, Prompts, Writer, chains, mean_tokens
from isochrone.sim.traffic.rate_curve import RateCurve, rate_curve
from isochrone.sim.traffic.streams import Bools, Floats, Ints, luck_for, pick, zipf_shares
from isochrone.sim.traffic.traces import MOONCAKE_BLOCK_TOKENS

_SAMPLE = 20_000
"""Requests that tell the mean prompt where conversations make it hard to compute."""


def arrivals(scenario: Scenario, nodes: Sequence[NodeSpec], seed: int) -> Iterator[Job]:
    """The jobs of the scenario in order of time, lazily; none comes at or after `duration_s`.

    The same scenario, nodes and seed give the same jobs. Raises SettingError at once for what can't be
    played.
    """
    plan = _Plan(scenario, rate_per_s(scenario, nodes), seed)
    source = drafts(scenario.traffic, seed, plan.curve.total, scenario.duration_s)
    return _jobs(plan, source)


def rate_per_s(scenario: Scenario, nodes: Sequence[NodeSpec]) -> float:
    """Long-run mean of requests a second, surges aside: `rate_per_s`, or `rho` of the capacity."""
    traffic = scenario.traffic
    if traffic.rate_per_s is not None:
        return traffic.rate_per_s
    capacity = mean_capacity_per_s(nodes, mean_demand(scenario))
    if not 0 < capacity < float("inf"):
        Place(scenario.name).at("traffic.rho").wrong(
            f"is of a capacity of {capacity:g} requests/s; give nodes that take time, or traffic.rate_per_s"
        )
    return (traffic.rho or 0.0) * capacity


def client_regions(scenario: Scenario) -> dict[str, float]:
    """Weight of each region that has clients, by name; they sum to 1."""
    weights = scenario.traffic.regions or dict.fromkeys(azure_regions(), 1.0)
    total = sum(weights.values())
    return {name: weights[name] / total for name in sorted(weights) if weights[name]}


def model_shares(scenario: Scenario) -> dict[str, float]:
    """Share of each model in the requests, the most wanted first; they sum to 1."""
    names = tuple(world_models(scenario))
    shares = zipf_shares(len(names), scenario.traffic.model_zipf).tolist()
    return dict(zip(names, shares, strict=True))


def mean_demand(scenario: Scenario) -> Demand:
    """The mean request.

    By formula for generated lengths (conversations apart: there the later half of 20,000 requests of a seed
    of their own), by counting for a trace.
    """
    traffic, shares = scenario.traffic, model_shares(scenario)
    if traffic.source in {"azure", "mooncake"}:
        trace = read_trace(traffic)
        return Demand(shares, float(trace.prompt_tokens.mean()), float(trace.output_tokens.mean()))
    prompt_tokens = mean_tokens(traffic.prompt) + traffic.prefix.client_tokens
    if traffic.prefix.follow_up_share:
        prompt_tokens = _sampled_prompt_tokens(scenario)
    return Demand(shares, prompt_tokens, mean_tokens(traffic.output))


def _sampled_prompt_tokens(scenario: Scenario) -> float:
    steady = replace(scenario.traffic, source="generated", cv=1.0, day=DaySettings(), surges=())
    plan = _Plan(replace(scenario, traffic=steady, duration_s=4.0 * _SAMPLE), 1.0, seed=0)
    batches = plan.batches(drafts(steady, 0, plan.curve.total, 4.0 * _SAMPLE))
    lengths: list[int] = []
    for batch in batches:
        lengths += batch.prompts.tokens.tolist()
        if len(lengths) >= _SAMPLE:
            break
    return float(np.mean(lengths[_SAMPLE // 2 : _SAMPLE]))


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """Requests with all but their names; arrays of one length."""

    times_s: Floats
    regions: Ints
    clients: Ints
    priorities: Ints
    slos: Bools
    prompts: Prompts
    draft: Draft


@dataclass(slots=True)
class _Plan:
    """What stays the same from batch to batch, and the luck that goes on."""

    scenario: Scenario
    rate_per_s: float
    seed: int
    weights: Mapping[str, float] = field(init=False)
    models: tuple[str, ...] = field(init=False)
    curve: RateCurve = field(init=False)
    _owned: dict[int, tuple[int, int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        traffic = self.scenario.traffic
        self.weights = client_regions(self.scenario)
        self.models = tuple(world_models(self.scenario))
        self.curve = rate_curve(traffic, self.weights, self.rate_per_s, self.scenario.duration_s)

    @property
    def traffic(self) -> TrafficSettings:
        """The scenario's."""
        return self.scenario.traffic

    def batches(self, source: Iterator[Draft]) -> Iterator[_Batch]:
        """The drafts with a place, a client, a model and a prompt each, to the end of the scenario."""
        traffic = self.traffic
        luck = {
            use: luck_for(self.seed, use) for use in ("regions", "clients", "models", "priorities", "slos")
        }
        clients_shares = zipf_shares(traffic.clients_per_region, traffic.client_zipf)
        models_shares = zipf_shares(len(self.models), traffic.model_zipf)
        writer = Writer(traffic.prefix, self.seed)
        traced = traffic.source in {"azure", "mooncake"}
        factors = None if traced else output_factors(traffic, len(self.weights), self.seed)
        for whole in source:
            size = len(whole.expected)
            drawn = {use: stream.random(size) for use, stream in luck.items()}
            draft = _until(whole, self.curve.total)
            count = len(draft.expected)
            times_s = self.curve.times_s(draft.expected)
            regions = self.curve.regions(times_s, drawn["regions"][:count])
            clients = regions * traffic.clients_per_region + pick(clients_shares, drawn["clients"][:count])
            models = pick(models_shares, drawn["models"][:count])
            if draft.owners is not None:
                regions, clients, models = self._settle(draft.owners, regions, clients, models)
            if factors is not None:
                output = stretched(draft.output_tokens, factors[clients], traffic.output.max_tokens)
                draft = replace(draft, output_tokens=output)
            asked = Asked(
                clients=clients,
                models=models,
                own_tokens=draft.prompt_tokens,
                output_tokens=draft.output_tokens,
                total=traced,
            )
            yield _Batch(
                times_s=times_s,
                regions=regions,
                clients=clients,
                priorities=pick(np.array(traffic.priorities), drawn["priorities"][:count]),
                slos=drawn["slos"][:count] < traffic.slo_share,
                prompts=writer.write(asked),
                draft=draft,
            )
            if count < size:
                return

    def _settle(self, owners: Ints, regions: Ints, clients: Ints, models: Ints) -> tuple[Ints, Ints, Ints]:
        """Each owner stays with the place, the client and (with chains) the model of its first request."""
        keep_model = self.traffic.source == "mooncake"
        rows = zip(owners.tolist(), regions.tolist(), clients.tolist(), models.tolist(), strict=True)
        settled = [
            (*first[:2], first[2] if keep_model else model)
            for owner, region, client, model in rows
            for first in (self._owned.setdefault(owner, (region, client, model)),)
        ]
        columns = np.array(settled, dtype=np.int64).reshape(-1, 3)
        return columns[:, 0], columns[:, 1], columns[:, 2]


def _until(draft: Draft, total: float) -> Draft:
    """What comes before `total` expected requests."""
    count = int(np.searchsorted(draft.expected, total, side="left"))
    if count == len(draft.expected):
        return draft
    return Draft(
        expected=draft.expected[:count],
        prompt_tokens=draft.prompt_tokens[:count],
        output_tokens=draft.output_tokens[:count],
        owners=None if draft.owners is None else draft.owners[:count],
        chains=None if draft.chains is None else draft.chains[:count],
    )


def _jobs(plan: _Plan, source: Iterator[Draft]) -> Iterator[Job]:
    traffic, names, regions = plan.traffic, plan.models, tuple(plan.weights)
    limit = traffic.output.max_tokens if traffic.output_limited else None
    number = 0
    for batch in plan.batches(source):
        prompts = batch.prompts
        for at_s, region, client, model, prompt, output, blocks, priority, slo in zip(
            batch.times_s.tolist(),
            batch.regions.tolist(),
            batch.clients.tolist(),
            prompts.models.tolist(),
            prompts.tokens.tolist(),
            batch.draft.output_tokens.tolist(),
            _chains(batch, traffic),
            batch.priorities.tolist(),
            batch.slos.tolist(),
            strict=True,
        ):
            told = output if traffic.output_known else limit
            where, which = regions[region], names[model]
            yield Job(number, at_s, where, client, which, prompt, output, told, blocks, priority, slo)
            number += 1


def _chains(batch: _Batch, traffic: TrafficSettings) -> Sequence[PromptBlocks]:
    if batch.draft.chains is None:
        return chains(batch.prompts, traffic.prefix.block_tokens)
    block_bytes = MOONCAKE_BLOCK_TOKENS * BYTES_PER_TOKEN
    return [PromptBlocks(chain, block_bytes) for chain in batch.draft.chains]


def first_arrivals(scenario: Scenario, nodes: Sequence[NodeSpec], seed: int, count: int) -> list[Job]:
    """At most `count` jobs, to look at."""
    return list(islice(arrivals(scenario, nodes, seed), count))
