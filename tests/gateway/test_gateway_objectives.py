"""A whole gateway before a stand-in for nodes: what clients may want, and what they are told of it."""

import json
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from gateway_nouns import MODEL, Clock, FakeBus, a_fleet

from isochrone.gateway import serve
from isochrone.gateway.gateway import Gateway
from isochrone.gateway.settings import GatewaySettings
from isochrone.model import Decision, FleetView, Objective, Request
from isochrone.relay import Exchange, HttpClient, HttpServer
from isochrone.routing import route
from isochrone.wire.openai import CHAT_PATH, COMPLETIONS_PATH
from isochrone.wire.subjects import DECISIONS_PATH

BODIES = {
    CHAT_PATH: {"model": MODEL, "messages": [{"role": "user", "content": "Why?"}], "stream": True},
    COMPLETIONS_PATH: {"model": MODEL, "prompt": "Why?"},
}


@dataclass
class Node:
    """Answers, after `takes_s` on the gateway's clock; the first `fails` times with an error."""

    clock: Clock
    takes_s: float = 0.0
    fails: int = 0

    async def __call__(self, exchange: Exchange) -> None:
        self.clock.at_s += self.takes_s
        self.fails -= 1
        exchange.reply(500 if self.fails >= 0 else 200, b'{"choices": []}')


@dataclass
class Lab:
    """A gateway with the nodes `a` and `b`, and a client of it."""

    client: HttpClient
    node: Node
    url: str = ""

    async def ask(self, path: str = CHAT_PATH, **headers: str) -> tuple[int, dict, str]:
        """(status, body, the node that answered)."""
        given = tuple((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items())
        response = await self.client.request(
            "POST", self.url + path, given, json.dumps(BODIES[path]).encode()
        )
        body = await response.read()
        node = dict(response.headers).get(b"x-isochrone-node", b"").decode()
        return response.status, json.loads(body), node

    async def get(self, path: str) -> str:
        response = await self.client.request("GET", self.url + path)
        return (await response.read()).decode()

    async def explained(self) -> dict:
        return json.loads(await self.get(DECISIONS_PATH + "last"))


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    node = Node(Clock())
    nodes = HttpServer(node, error_body=lambda *_: b"")
    url = f"http://127.0.0.1:{await nodes.start('127.0.0.1', 0)}"
    fleet = a_fleet("a", "b", url=url)
    gateway = Gateway(
        GatewaySettings(port=0, rtt_probe_s=3600.0),
        fleet=fleet,
        bus=FakeBus(),
        clock=node.clock,
        luck=random.Random(1),
    )
    lab = Lab(HttpClient(), node)
    lab.url = f"http://127.0.0.1:{await gateway.start()}"
    yield lab
    await lab.client.close()
    await gateway.stop()
    await nodes.close()


@pytest.mark.parametrize("path", [CHAT_PATH, COMPLETIONS_PATH])
@pytest.mark.parametrize(
    ("header", "value"),
    [("x-slo-ttft-ms", "soon"), ("x-slo-tpot-ms", "0"), ("x-isochrone-objective", "cheapest")],
)
async def test_a_header_that_makes_no_sense_is_a_400_that_names_it(lab, path, header, value):
    status, body, node = await lab.ask(path, **{header: value})
    assert (status, node) == (400, "")
    error = body["error"]
    assert (error["type"], error["param"], error["code"]) == (
        "invalid_request_error",
        header,
        "invalid_value",
    )
    assert header in error["message"]
    assert 'isochrone_requests_total{status="400"} 1.0' in await lab.get("/metrics")


@pytest.mark.parametrize(
    "header",
    [
        "x-slo-ttft-ms",
        "x-slo-tpot-ms",
        "x-isochrone-objective",
        "x-isochrone-timeout-ms",
        "x-isochrone-policy",
    ],
)
async def test_a_header_that_is_there_twice_is_a_400_that_names_it(lab, header):
    """Also when both say the same: whoever put the second there may not know of the first."""
    twice = ((header.encode(), b"250"),) * 2
    body = json.dumps(BODIES[CHAT_PATH]).encode()
    response = await lab.client.request("POST", lab.url + CHAT_PATH, twice, body)
    error = json.loads(await response.read())["error"]
    assert (response.status, error["param"], error["code"]) == (400, header, "invalid_value")
    assert f"{header} is there more than once" in error["message"]


@pytest.mark.parametrize("path", [CHAT_PATH, COMPLETIONS_PATH])
async def test_an_slo_is_heeded_explained_and_counted(lab, path):
    status, _, node = await lab.ask(path, x_slo_ttft_ms="60000", x_slo_tpot_ms="12.5")
    assert status == 200
    told = await lab.explained()
    assert told["slo"]["met"] is True
    assert (told["slo"]["ttft_ms"], told["slo"]["tpot_ms"]) == (60000.0, 12.5)
    assert told["slo"]["tpot_room_ms"] == 2.5
    assert told["chosen"] == node
    await lab.ask(path, x_slo_tpot_ms="9.999")
    told = await lab.explained()
    assert (told["slo"]["met"], told["slo"]["heeded"], told["slo"]["ttft_ms"]) == (False, True, None)
    metrics = await lab.get("/metrics")
    assert 'isochrone_slo_decisions_total{predicted="met"} 1.0' in metrics
    assert 'isochrone_slo_decisions_total{predicted="unmet"} 1.0' in metrics


async def test_without_an_slo_nothing_is_said_or_counted(lab):
    assert (await lab.ask(x_isochrone_objective="completion"))[0] == 200
    told = await lab.explained()
    assert told["slo"] is None
    assert told["origin"] in {"own", "all", "drawn"}
    assert "isochrone_slo_decisions_total{" not in await lab.get("/metrics")


async def test_what_counts_changes_what_later_tokens_weigh(lab):
    """A whole answer counts each later token in full, a first token a tenth of it."""
    for wanted, weight in (("first-token", 0.1), ("completion", 1.0)):
        await lab.ask(x_isochrone_objective=wanted)
        first = (await lab.explained())["candidates"][0]
        beside = first["ttft_ms"] + first["congestion_ms"] + 0.25 * first["uncertainty_ms"]
        assert first["score_ms"] - beside == pytest.approx(weight * first["decode_ms"], rel=1e-3)


async def test_after_a_failure_only_the_rest_of_the_limit_is_left(lab, monkeypatch):
    """What the node that failed has used up does not begin anew with the next one."""
    asked: list[Objective] = []

    def routed(view: FleetView, request: Request, *rest) -> Decision:
        asked.append(request.objective)
        return route(view, request, *rest)

    monkeypatch.setattr(serve, "route", routed)
    lab.node.fails, lab.node.takes_s = 1, 0.75
    assert (await lab.ask(x_slo_ttft_ms="1000", x_slo_tpot_ms="50"))[0] == 200
    assert asked == [Objective(1000.0, 50.0), Objective(pytest.approx(250.0), 50.0)]
