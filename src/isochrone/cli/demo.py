"""`isochrone demo`: the same open-loop workload against the running network under each policy in turn."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from isochrone.cli.demo_client import DemoClient, DemoTarget, Sample
from isochrone.cli.demo_report import (
    Plan,
    Summary,
    draw,
    report_fields,
    report_table,
    summarise,
    verdict,
)
from isochrone.cli.network_file import NetworkFile, default_state_dir, read_network
from isochrone.cli.places import DEMO_MODEL, DEMO_NODES
from isochrone.cli.policy import check_policy
from isochrone.cli.reach import GatewayOption, StateDirOption, gateway_url
from isochrone.cli.shell import run
from isochrone.sim.live.workload import Arrival, WorkloadSettings, generate

DEMO_POLICIES = ("soonest", "nearest", "random", "round-robin", "least-request")
"""What is compared when nothing is said: a few that everybody knows, for each takes minutes."""


def demo(
    requests: Annotated[int, typer.Option(min=4, help="Requests for each policy and round.")] = 40,
    rate_per_s: Annotated[float, typer.Option(min=0.05, help="Arrivals a second, open loop.")] = 0.6,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; each has every policy once, same seed.")] = 1,
    warmup: Annotated[int, typer.Option(min=0, help="Requests before, to learn from; not counted.")] = 12,
    seed: Annotated[int, typer.Option(help="Of arrivals and prompts.")] = 2026,
    model: Annotated[str, typer.Option(help="What is asked for.")] = DEMO_MODEL,
    policy: Annotated[
        list[str] | None,
        typer.Option(help="Only these policies, each as NAME[:PARAMETER=VALUE,...]. Repeat."),
    ] = None,
    picture: Annotated[Path, typer.Option(help="Where the PNG goes.")] = Path("isochrone-demo.png"),
    report: Annotated[Path | None, typer.Option(help="Where every sample goes, as JSON.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The summary as JSON.")] = False,
    check: Annotated[
        bool, typer.Option(help="End with status 1 unless soonest wins as promised in the docs.")
    ] = False,
    gateway: GatewayOption = "",
    state_dir: StateDirOption = None,
) -> None:
    """Compare policies on the running network: same arrivals, same prompts, one policy after the other.

    Unless told otherwise: soonest, nearest, random, round-robin and least-request.
    Before each policy the demo network is put back into its state: models that were not preloaded are
    unloaded. TTFT is measured by the client.
    """
    policies = [check_policy(text) for text in policy or DEMO_POLICIES]
    console = Console(stderr=True)
    url = gateway_url(gateway, state_dir)
    network = None if gateway else read_network(state_dir or default_state_dir())
    plan = Plan(tuple(policies), requests, rate_per_s, rounds, warmup, seed, model)
    samples = run(_run_demo(console, url, network, plan))
    summaries = [summarise(name, samples) for name in policies]
    if as_json:
        typer.echo(json.dumps(report_fields(plan, summaries, ()), indent=2))
    else:
        Console().print(report_table(summaries))
    if report is not None:
        report.write_text(json.dumps(report_fields(plan, summaries, samples), indent=1) + "\n")
    draw(picture, samples, summaries, plan)
    console.print(f"\npicture: {picture}", highlight=False)
    failures = _judge(console, summaries)
    if check and failures:
        raise typer.Exit(1)


def _judge(console: Console, summaries: list[Summary]) -> list[str]:
    promises = verdict(summaries)
    for promise in promises:
        mark = "[green]holds[/green]" if promise.holds else "[red]does not hold[/red]"
        console.print(f"{mark}  {promise.words}", highlight=False)
    return [promise.words for promise in promises if not promise.holds]


async def _run_demo(console: Console, url: str, network: NetworkFile | None, plan: Plan) -> list[Sample]:
    total = plan.warmup + plan.rounds * len(plan.policies) * plan.requests
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} requests"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    samples: list[Sample] = []
    async with DemoClient(url, network) as client:
        with Progress(*columns, console=console) as bar:
            task = bar.add_task("warming up", total=total)

            async def one(target: DemoTarget, arrival: Arrival) -> Sample:
                sample = await client.ask(target, arrival)
                bar.advance(task)
                return sample

            async def series(policy: str, round_: int, count: int) -> list[Sample]:
                bar.update(task, description=f"round {round_}: {policy}" if round_ else "warming up")
                target = DemoTarget(policy, round_)
                return await _open_loop(plan, count, plan.seed + round_, lambda a: one(target, a))

            await client.check(plan.model)
            if plan.warmup:
                await series(plan.policies[0], 0, plan.warmup)
                await _visit_every_node(client, plan)
            for round_ in range(1, plan.rounds + 1):
                turn = (round_ - 1) % len(plan.policies)
                for policy in plan.policies[turn:] + plan.policies[:turn]:
                    await client.reset(plan.model, _cold_nodes())
                    samples += await series(policy, round_, plan.requests)
    return samples


async def _visit_every_node(client: DemoClient, plan: Plan) -> None:
    """Let the gateway learn every node a little: one request by round-robin to each."""
    for arrival, _ in zip(generate(workload(plan, 64), plan.seed - 1), DEMO_NODES, strict=False):
        await client.ask(DemoTarget("round-robin", 0), arrival)


def _cold_nodes() -> tuple[str, ...]:
    return tuple(node.name for node in DEMO_NODES if not node.preload)


def workload(plan: Plan, count: int) -> WorkloadSettings:
    """Short chats: three engines share the cores of one machine, and are to be compared, not drowned."""
    return WorkloadSettings(
        rate_per_s=plan.rate_per_s,
        count=count,
        models=(plan.model,),
        cv=1.2,
        prompt_tokens_median=24,
        output_tokens_median=16,
        output_tokens_max=48,
    )


async def _open_loop(
    plan: Plan, count: int, seed: int, ask: Callable[[Arrival], Coroutine[Any, Any, Sample]]
) -> list[Sample]:
    """Send each request at its time, whatever became of those before it; wait for all."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    tasks: list[asyncio.Task[Sample]] = []
    try:
        for arrival in generate(workload(plan, count), seed):
            await asyncio.sleep(max(0.0, began_s + arrival.at_s - loop.time()))
            tasks.append(asyncio.create_task(ask(arrival)))
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
