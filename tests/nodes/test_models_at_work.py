"""A node that lists several models tells which of them are at work."""

from collections.abc import AsyncIterator

import pytest
from shelf_nouns import Bench
from test_idle_news import FakeBus

from isochrone.model import ModelCard
from isochrone.nodes.inference.agent import Agent
from isochrone.nodes.inference.desk import Job
from isochrone.nodes.inference.settings import NodeSettings
from isochrone.wire.nodes import decode_pulse, encode_pulse


@pytest.fixture(params=[("m",), ("m", "other")], ids=["one", "two"])
async def agent(request: pytest.FixtureRequest) -> AsyncIterator[Agent]:
    bench = Bench(loads=False, served=tuple(ModelCard(name) for name in request.param))
    agent = Agent(NodeSettings("n"), host=bench, store=None, bus=FakeBus(), clock=bench.clock)
    await agent.state.shelf.open(())
    assert len(agent.state.shelf.models()) == len(request.param)
    yield agent
    await agent.stop(0.0)


def at_work(agent: Agent) -> dict[str, bool]:
    """What a gateway reads in its pulse."""
    return {m.name: m.at_work for m in decode_pulse(encode_pulse(agent.state.pulse())).models}


async def test_a_model_is_at_work_while_a_request_for_it_has_a_slot(agent: Agent) -> None:
    desk, several = agent.state.desk, len(agent.state.shelf.models()) > 1
    assert not any(at_work(agent).values())
    desk.admit(Job("r", "m", prefill_s=1.0, tpot_s=0.1, output_tokens=5), 1000.0)
    assert not any(at_work(agent).values())
    desk.start("r", 1000.0)
    assert [name for name, works in at_work(agent).items() if works] == ["m"] * several
    desk.leave("r", 1001.0)
    assert not any(at_work(agent).values())
