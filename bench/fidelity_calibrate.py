"""How fast the demo's engine is while 1, 2 and 3 engines compute on this machine; for bench/fidelity.

A network of its own (`isochrone up --bare`) with three nodes as in the demo, without places, policies and the
users of their own. One node is measured; beside it none, one or both of the others are kept busy, each by as
many users as it has slots. The three are alike, so what is measured of one goes for all.
"""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from statistics import fmean, median

from isochrone.cli.demo_client import DemoClient, DemoTarget
from isochrone.cli.network_file import NetworkFile, read_network
from isochrone.cli.places import DEMO_MODEL, DEMO_NODES
from isochrone.model import Timings
from isochrone.ports import SettingError
from isochrone.relay import Headers, HttpClient
from isochrone.sim.live.measured import Measured, Prefill
from isochrone.sim.live.workload import Arrival, WorkloadSettings, generate
from isochrone.wire.subjects import MODEL_PATH, STATUS_PATH, TRAILER_TIMINGS
from isochrone.wire.timings import decode_timings

TURNS = 2
PROMPTS, PAIRS, LOADS, HOPS = 8, 3, 1, 5
DECODE_TOKENS = 48
FEW_WORDS = 4
SLOTS = 2
ISOCHRONE = str(Path(sys.executable).parent / "isochrone")


@dataclass(slots=True)
class Answer:
    """One answer: when each piece came, and what the node measured."""

    sent_s: float
    times_s: list[float] = field(default_factory=list)
    timings: Timings = field(default_factory=Timings)


@dataclass(frozen=True, slots=True)
class Bench:
    """A running network without places."""

    client: HttpClient
    key: Headers
    nodes: dict[str, str]
    network: NetworkFile

    async def ask(self, node: str, arrival: Arrival, tokens: int, *, system: bool = True) -> Answer:
        """Ask a node directly."""
        messages = [{"role": "user", "content": arrival.prompt}]
        if system:
            messages.insert(0, {"role": "system", "content": arrival.system})
        body = {"model": DEMO_MODEL, "messages": messages, "max_tokens": tokens, "stream": True}
        loop = asyncio.get_running_loop()
        answer = Answer(loop.time())
        url = f"{self.nodes[node]}/v1/chat/completions"
        response = await self.client.request("POST", url, self.key, json.dumps(body).encode())
        try:
            async for data in response:
                if response.status != 200:
                    raise RuntimeError(f"{node} answers {response.status}: {data!r}")
                answer.times_s += [loop.time()] * data.count(b'"content":')
        finally:
            response.close()
        told = dict(response.trailers).get(TRAILER_TIMINGS)
        if told is None:
            raise RuntimeError(f"{node} told no timings")
        answer.timings = decode_timings(told)
        return answer

    async def unload(self, node: str) -> None:
        """Take the model out of memory."""
        url = f"{self.nodes[node]}{MODEL_PATH}{DEMO_MODEL}/unload"
        await (await self.client.request("POST", url, self.key)).read()


async def calibrate(work: Path) -> dict[int, Measured]:
    """Measurements by number of engines at work."""
    async with _network(work) as bench:
        subject, *others = bench.nodes
        levels: dict[int, Measured] = {}
        hop_ms = await _hop_ms(bench)
        for turn in range(TURNS):  # in turns, so that what else the machine does is shared by all levels
            for level in range(1, len(bench.nodes) + 1):
                seed = 7_000 + 10 * turn + level
                async with _busy(bench, others[: level - 1], seed) as background:
                    measured = await _measure(bench, subject, seed)
                told = [answer.timings for answer in background]
                more = replace(
                    measured,
                    hop_ms=hop_ms,
                    neighbour_prompt_tokens=[each.prompt_tokens - each.cached_tokens for each in told],
                    neighbour_output_tokens=[each.output_tokens for each in told],
                )
                levels[level] = levels[level].with_more(more) if level in levels else more
    for level, measured in levels.items():
        print(f"{level} engine(s) at work: {measured.speed}", file=sys.stderr)
    return levels


async def _measure(bench: Bench, node: str, seed: int) -> Measured:
    """Loads, prompts one at a time, and pairs of answers that run side by side."""
    prompts = _arrivals(seed)
    load_s = []
    for _ in range(LOADS):
        await bench.unload(node)
        load_s.append((await bench.ask(node, next(prompts), 2)).timings.load_ms / 1e3)
    prefills, alone, together = [], [], []
    for arrival in islice(prompts, PROMPTS):
        shorter = replace(arrival, prompt=" ".join(arrival.prompt.split()[:FEW_WORDS]))
        for each in (arrival, shorter):  # the second finds most of its prompt in the cache
            told = (await bench.ask(node, each, each.output_tokens_max)).timings
            prefills.append(Prefill(told.prompt_tokens - told.cached_tokens, told.prefill_ms))
    for _ in range(PAIRS):
        alone.append(_step_ms([await bench.ask(node, next(prompts), DECODE_TOKENS)]))
        pair = await asyncio.gather(*(bench.ask(node, next(prompts), DECODE_TOKENS) for _ in range(SLOTS)))
        together.append(_step_ms(pair))
    return Measured(
        prefills=prefills,
        step_ms_alone=[ms for ms in alone if ms],
        step_ms_together=[ms for ms in together if ms],
        load_s=load_s,
    )


def _step_ms(answers: list[Answer]) -> float | None:
    """Mean time between tokens while all of `answers` decode: no prompt is computed meanwhile."""
    if not all(answer.times_s for answer in answers):
        return None
    begins_s = max(answer.times_s[0] for answer in answers)
    ends_s = min(answer.times_s[-1] for answer in answers)
    gaps_ms = []
    for answer in answers:
        inside = [at_s for at_s in answer.times_s if begins_s <= at_s <= ends_s]
        if len(inside) > 8:
            gaps_ms.append((inside[-1] - inside[0]) / (len(inside) - 1) * 1e3)
    return fmean(gaps_ms) if gaps_ms else None


async def _hop_ms(bench: Bench) -> float:
    """What client and gateway add to the node's own time, with nothing else at work."""
    added_ms = []
    async with DemoClient(bench.network.gateway_url, None) as client:
        for arrival in islice(_arrivals(seed=6_999), HOPS + 1):
            sample = await client.ask(DemoTarget("soonest", 0), arrival)
            if sample.ttft_ms is not None and sample.timings is not None:
                told = sample.timings
                added_ms.append(sample.ttft_ms - told.queue_ms - told.load_ms - told.prefill_ms)
    return median(added_ms[1:])


@asynccontextmanager
async def _busy(bench: Bench, nodes: list[str], seed: int) -> AsyncIterator[list[Answer]]:
    """Keep `nodes` busy with users as those of the demo; yields their answers as they come."""
    answers: list[Answer] = []
    done = False

    async def user(node: str, number: int) -> None:
        settings = WorkloadSettings(rate_per_s=1.0, count=1_000_000, models=(DEMO_MODEL,))
        for arrival in generate(settings, 100 * seed + number):  # prompts that nobody has asked before
            if done:
                return
            answer = await bench.ask(node, arrival, 96, system=False)
            answers.append(answer)

    users = [node for node in nodes for _ in range(SLOTS)]
    tasks = [asyncio.create_task(user(node, number)) for number, node in enumerate(users)]
    try:
        await asyncio.sleep(2.0 if tasks else 0.0)
        yield answers
        done = True  # and the last ones to their end: to leave them out would leave out long ones
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _arrivals(seed: int) -> Iterator[Arrival]:
    """Prompts like the demo's, of clients that nobody has heard of, so that little is cached."""
    settings = WorkloadSettings(
        rate_per_s=1.0,
        count=10_000,
        models=(DEMO_MODEL,),
        clients=1_000,
        client_zipf=0.0,
        prompt_tokens_median=24,
        output_tokens_median=16,
        output_tokens_max=48,
    )
    return generate(settings, seed)


@asynccontextmanager
async def _network(work: Path) -> AsyncIterator[Bench]:
    """The bus, a gateway and three nodes, and their end."""
    state = work / "calibration"
    names = [node.name for node in DEMO_NODES]
    with contextlib.ExitStack() as stack:
        stack.enter_context(process(work / "calibration-up.log", "up", "--bare", "--port", "0", state=state))
        network = await _network_file(state)
        for name in names:
            options = ("node", "--name", name, "--model", DEMO_MODEL, "--slots", str(SLOTS))
            stack.enter_context(process(work / f"calibration-{name}.log", *options, state=state))
        client = HttpClient()
        try:
            urls = await _ready(client, network.gateway_url, names)
            key = (b"authorization", f"Bearer {network.token}".encode())
            headers = ((b"content-type", b"application/json"), (b"te", b"trailers"), key)
            yield Bench(client, headers, urls, network)
        finally:
            await client.close()


async def _network_file(state: Path) -> NetworkFile:
    for _ in range(600):
        await asyncio.sleep(0.1)
        with contextlib.suppress(SettingError):
            return read_network(state)
    raise RuntimeError(f"no network came up in {state}")


async def _ready(client: HttpClient, gateway_url: str, names: list[str]) -> dict[str, str]:
    """URLs of the nodes by name, once the gateway knows all of them as ready."""
    async with asyncio.timeout(90):
        while True:
            response = await client.request("GET", f"{gateway_url}{STATUS_PATH}")
            nodes = {each["node"]: each for each in json.loads(await response.read())["nodes"]}
            if all(n in nodes and nodes[n]["models"][0]["state"] == "ready" for n in names):
                return {name: nodes[name]["url"].rstrip("/") for name in names}
            await asyncio.sleep(0.2)


@contextlib.contextmanager
def process(log: Path, *arguments: str, state: Path) -> Iterator[None]:
    """`isochrone` with these arguments and a state folder, its words in `log`, until the block ends."""
    with log.open("wb") as out:
        argv = [ISOCHRONE, *arguments, "--state-dir", str(state)]
        process = subprocess.Popen(argv, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=30)
