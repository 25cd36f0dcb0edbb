"""What a foreign engine's metrics tell is told of the node, as far as the engine tells it."""

from collections.abc import AsyncIterator

import pytest
from shelf_nouns import Bench, soon
from test_idle_news import FakeBus

from isochrone.model import Load, ModelCard
from isochrone.nodes.inference.agent import Agent
from isochrone.nodes.inference.settings import NodeSettings
from isochrone.ports import EngineMetrics
from isochrone.relay import HttpClient
from isochrone.wire.engine_metrics import parse
from isochrone.wire.nodes import decode_pulse, encode_pulse
from isochrone.wire.orca import decode_orca
from isochrone.wire.subjects import HEADER_LOAD, LOAD_PATH

PAGES = {
    "vllm": (
        '# TYPE vllm:kv_cache_usage_perc gauge\nvllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.625\n'
        'vllm:num_requests_running{engine="0",model_name="m"} 3.0\n',
        (0.625, 2),
    ),
    "vllm until 0.10": ('vllm:gpu_cache_usage_perc{model_name="m"} 0.25\n', (0.25, 0)),
    "sglang": ('sglang:token_usage{model_name="m",tp_rank="0"} 0.4\nsglang:num_queue_reqs 1\n', (0.4, 1)),
    "llama.cpp, which does not tell": ("llamacpp:requests_processing 1\n", (0.0, 1)),
}


@pytest.fixture
def bench() -> Bench:
    return Bench(loads=False, served=(ModelCard("m"),), gauges=EngineMetrics(kv_used=0.5))


@pytest.fixture
async def agent(bench: Bench) -> AsyncIterator[Agent]:
    agent = Agent(NodeSettings("n"), host=bench, store=None, bus=FakeBus(), clock=bench.clock)
    yield agent
    await agent.stop(0.0)


def load_of(agent: Agent) -> Load:
    return agent.state.desk.load(agent.state.clock.now_s())


@pytest.mark.parametrize("page", PAGES)
async def test_the_cache_in_use_is_told_where_the_engine_tells_it(agent: Agent, page: str) -> None:
    text, (kv_used, work) = PAGES[page]
    gauges = parse(text)
    agent._heed(EngineMetrics(gauges.running, gauges.queued, gauges.kv_used))
    load = load_of(agent)
    assert (load.kv_used, load.running) == (kv_used, work)
    assert decode_pulse(encode_pulse(agent.state.pulse())).load.kv_used == kv_used


async def test_an_engine_that_tells_no_more_is_not_held_to_what_it_told(agent: Agent) -> None:
    agent._heed(EngineMetrics(running=4, kv_used=0.9))
    assert load_of(agent).kv_used == 0.9
    agent._heed(EngineMetrics())
    assert (load_of(agent).kv_used, load_of(agent).running) == (0.0, 0)


async def test_a_running_node_reads_its_engine_and_tells_every_reader(bench: Bench, agent: Agent) -> None:
    url = await agent.start()
    client = HttpClient()
    try:
        await soon(bench.read.wait())
        told = await soon(client.request("GET", url + LOAD_PATH))
        header = told.header(HEADER_LOAD)
        assert header is not None
        assert decode_orca(header).kv_used == 0.5
        page = await (await soon(client.request("GET", url + "/metrics"))).read()
        assert b'isochrone_node_load{what="kv_used"} 0.5' in page
    finally:
        await client.close()
