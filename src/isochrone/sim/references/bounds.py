"""The bounds B0, B2 and B3 of a run's own arrivals and nodes, stored like a run so that reports find them."""

from dataclasses import replace

import numpy as np

from isochrone.sim.references.fluid import Terms, fluid_bound
from isochrone.sim.references.references import Question, contention_free, pooled_srpt
from isochrone.sim.results import RunColumns, blank_columns
from isochrone.sim.scenario.files import Scenario, gateway_regions, geography
from isochrone.sim.spec import Job, NodeSpec


def bounds(
    scenario: Scenario, nodes: tuple[NodeSpec, ...], jobs: list[Job]
) -> tuple[dict[str, float], RunColumns]:
    """(counters, columns): each request as B0 would have it, B2 and B3 as counters.

    B0 and B3 have the client's way to the nearest gateway in them. B2 counts the streams of the whole
    duration against the scenario's SLO. Faults of nodes are left out, which can only make the bounds lower;
    but clients that a crashed gateway sends elsewhere may by chance come in nearer to a node than B0 grants.
    A request that no node can run counts as refused.
    """
    places, regions = geography(scenario), gateway_regions(scenario)
    clients = sorted({job.region for job in jobs})
    nearest = {c: min(regions, key=lambda gateway: places.one_way_ms(c, gateway)) for c in clients}

    def rtt_ms(a: str, b: str) -> float:
        return places.one_way_ms(a, b) + places.one_way_ms(b, a)

    def came_in(job: Job) -> Job:
        return replace(job, at_s=job.at_s + places.one_way_ms(job.region, nearest[job.region]) / 1e3)

    arrived = sorted(map(came_in, jobs), key=lambda job: job.at_s)
    question = Question(jobs, [nearest[job.region] for job in jobs], nodes, rtt_ms)
    alone = contention_free(question)
    pooled = pooled_srpt(Question(arrived, [nearest[job.region] for job in arrived], nodes, rtt_ms))
    terms = Terms(scenario.slo.ttft_ms, scenario.slo.tpot_ms)
    fluid = fluid_bound(question, scenario.duration_s, terms)
    way_ms = {client: rtt_ms(client, gateway) for client, gateway in nearest.items()}
    ways_ms = np.array([way_ms[job.region] for job in jobs])
    counters = {
        "reference_b2_goodput_per_s": fluid.goodput_per_s,
        "reference_b3_total_ms": pooled.mean_total_ms + float(ways_ms.mean()) if jobs else float("nan"),
    }
    columns = blank_columns(len(jobs))
    for name, values in (
        ("at_s", [job.at_s for job in jobs]),
        ("client", [job.client for job in jobs]),
        ("prompt_tokens", [job.prompt_tokens for job in jobs]),
        ("output_tokens", [job.output_tokens for job in jobs]),
        ("tokens_out", [job.output_tokens for job in jobs]),
    ):
        columns[name] = np.array(values)
    columns["slo"] = np.array([job.slo for job in jobs], np.bool_)
    columns["region"] = np.array([job.region for job in jobs], dtype=object)
    columns["model"] = np.array([job.model for job in jobs], dtype=object)
    columns["counted"] = np.array([job.at_s >= scenario.warmup_s for job in jobs], np.bool_)
    columns["ttft_ms"], columns["total_ms"] = alone.ttft_ms + ways_ms, alone.total_ms + ways_ms
    columns["kind"][~np.isfinite(alone.ttft_ms)] = "refused"
    return counters, columns
