"""Keys and their limits, as OpenAI's own client meets them at a whole gateway."""

import json
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from hashlib import sha256

import httpx
import openai
import pytest
from gateway_nouns import MODEL, Clock, FakeBus, a_fleet

from isochrone.gateway.crew import Crew
from isochrone.gateway.gateway import Gateway
from isochrone.gateway.settings import GatewaySettings
from isochrone.model import Key, KeyLimits, Timings
from isochrone.ports import SettingError
from isochrone.relay import Exchange, HttpServer
from isochrone.wire.subjects import STATUS_PATH, TRAILER_TIMINGS
from isochrone.wire.timings import encode_timings

SECRET, OTHER, FIXED, TOKEN = "sk-iso-bob", "sk-iso-eve", "sk-fixed", "token-of-the-network"
ANSWER = json.dumps({"id": "1", "object": "chat.completion", "created": 1, "model": MODEL, "choices": []})
SKY = [{"role": "user", "content": "Why?"}]


@dataclass
class Source:
    """Keys in memory."""

    keys: tuple[Key, ...] | None = None
    changes: bool = False
    broken: bool = False

    def changed(self, now_s: float) -> bool:
        changes, self.changes = self.changes, False
        return changes

    def read(self) -> tuple[Key, ...] | None:
        if self.broken:
            raise SettingError("keys.json does not hold keys")
        return self.keys

    def now(self, *keys: Key) -> None:
        self.keys, self.changes = keys, True


@dataclass
class Node:
    """Answers and tells what that took; fails while `broken`."""

    timings: Timings | None = None
    broken: bool = False

    async def __call__(self, exchange: Exchange) -> None:
        if self.broken:
            return exchange.reply(400, b'{"error": {"message": "no"}}')
        exchange.start(200, ((b"content-type", b"application/json"),))
        await exchange.write(ANSWER.encode())
        told = () if self.timings is None else ((TRAILER_TIMINGS, encode_timings(self.timings)),)
        return exchange.end(told)


@dataclass
class Lab:
    """A gateway that asks for keys, before one node."""

    source: Source
    node: Node = field(default_factory=Node)
    clock: Clock = field(default_factory=Clock)
    log: list[str] = field(default_factory=list)
    url: str = ""

    def client(self, key: str = SECRET) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0)

    async def ask(self, key: str = SECRET, **more) -> httpx.Headers:
        """One request; the headers of its answer."""
        async with self.client(key) as client:
            raw = await client.chat.completions.with_raw_response.create(
                model=MODEL, messages=SKY, max_tokens=10, **more
            )
        return raw.headers

    async def get(self, path: str, key: str) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False) as client:
            return await client.get(self.url + path, headers={"authorization": f"Bearer {key}"})


def a_key(secret: str = SECRET, name: str = "bob", slot: int | None = 0, **limits: int) -> Key:
    return Key(name, sha256(secret.encode()).digest(), slot, KeyLimits(**limits))


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    lab, crew = Lab(Source((a_key(),))), Crew.alone()
    nodes = HttpServer(lab.node, error_body=lambda *_: b"")
    gateway = Gateway(
        GatewaySettings(
            port=0,
            rtt_probe_s=3600.0,
            node_token=TOKEN,
            api_key_digests=frozenset((sha256(FIXED.encode()).hexdigest(),)),
        ),
        fleet=a_fleet("a", url=f"http://127.0.0.1:{await nodes.start('127.0.0.1', 0)}", silent_s=1e9),
        bus=FakeBus(),
        clock=lab.clock,
        luck=random.Random(1),
        pages={STATUS_PATH: lambda: b"{}"},
        crew=crew,
        keys=lab.source,
        log=lab.log.append,
    )
    lab.url = f"http://127.0.0.1:{await gateway.start()}"
    yield lab
    await gateway.stop()
    await nodes.close()
    assert crew.table.requests.total() == crew.table.connections.total() == 0


async def test_a_key_without_limits_is_let_in_and_told_no_limits(lab):
    for key in (SECRET, FIXED):
        assert not [name for name in await lab.ask(key) if name.startswith("x-ratelimit")]


@pytest.mark.parametrize("key", ["sk-iso-bo", "sk-iso-bobb", "ключ", TOKEN])
async def test_another_key_is_not(lab, key):
    async with httpx.AsyncClient(trust_env=False) as client:
        shown = {"authorization": f"Bearer {key}".encode()}
        answer = await client.post(f"{lab.url}/v1/chat/completions", headers=shown, json={})
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"


async def test_too_many_requests_a_minute(lab):
    lab.source.now(a_key(requests_per_min=2))
    told = await lab.ask()
    assert told["x-ratelimit-limit-requests"] == "2"
    assert told["x-ratelimit-remaining-requests"] == "1"
    assert told["x-ratelimit-reset-requests"] == "30s"
    await lab.ask()
    with pytest.raises(openai.RateLimitError) as refused:
        await lab.ask()
    assert refused.value.code == "rate_limit_exceeded"
    assert refused.value.type == "rate_limit_error"
    assert "'bob'" in refused.value.message
    assert refused.value.response.headers["retry-after"] == "30"
    assert refused.value.response.headers["x-ratelimit-remaining-requests"] == "0"
    await lab.ask(FIXED)
    lab.clock.at_s += 30.0
    await lab.ask()


async def test_tokens_are_those_that_the_node_reports(lab):
    lab.source.now(a_key(tokens_per_min=6000))
    lab.node.timings = Timings(prompt_tokens=900, output_tokens=100)
    before = int((await lab.ask())["x-ratelimit-remaining-tokens"])
    after = int((await lab.ask())["x-ratelimit-remaining-tokens"])
    assert before > 5900, "a short prompt and ten tokens were expected"
    assert 4900 < after < 5000, "a thousand were reported for the first"
    assert 'isochrone_key_tokens_total{key="bob"} 2000.0' in (await lab.get("/metrics", SECRET)).text


async def test_a_request_that_no_node_took_costs_no_tokens(lab):
    lab.source.now(a_key(tokens_per_min=6000))
    async with lab.client() as client:
        with pytest.raises(openai.APIStatusError):
            await client.chat.completions.create(
                model=MODEL, messages=SKY, extra_headers={"x-isochrone-timeout-ms": "1"}
            )
    assert int((await lab.ask())["x-ratelimit-remaining-tokens"]) > 5900


async def test_a_request_that_can_never_fit_is_not_to_be_tried_again(lab):
    lab.source.now(a_key(tokens_per_min=5))
    with pytest.raises(openai.RateLimitError) as refused:
        await lab.ask()
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert "retry-after" not in refused.value.response.headers


async def test_a_request_that_makes_no_sense_counts_against_nothing(lab):
    lab.source.now(a_key(requests_per_min=1))
    with pytest.raises(openai.NotFoundError):
        async with lab.client() as client:
            await client.chat.completions.create(model="nobody-has-it", messages=SKY)
    await lab.ask()


async def test_a_revoked_key_is_refused_with_the_next_request(lab):
    await lab.ask()
    lab.source.now(a_key(OTHER, "eve"))
    with pytest.raises(openai.AuthenticationError):
        await lab.ask()
    await lab.ask(OTHER)
    await lab.ask(FIXED)


async def test_when_the_last_key_is_gone_nobody_is_let_in(lab):
    lab.source.keys, lab.source.changes = None, True
    with pytest.raises(openai.AuthenticationError):
        await lab.ask()
    with pytest.raises(openai.AuthenticationError):
        await lab.ask("none")


async def test_keys_that_can_not_be_read_stay_as_they_were(lab):
    lab.source.broken = lab.source.changes = True
    await lab.ask()
    assert any("does not hold keys" in line for line in lab.log)


async def test_an_expired_key_is_refused(lab):
    lab.source.now(replace(a_key(), expires_unix_s=1))
    lab.clock.unix_ms = lambda: 999
    await lab.ask()
    lab.clock.unix_ms = lambda: 1000
    with pytest.raises(openai.AuthenticationError):
        await lab.ask()


async def test_the_networks_token_opens_what_is_to_be_read_and_no_model(lab):
    assert (await lab.get(STATUS_PATH, TOKEN)).status_code == 200
    assert (await lab.get(STATUS_PATH, "other")).status_code == 401
    with pytest.raises(openai.AuthenticationError):
        await lab.ask(TOKEN)


async def test_no_secret_is_told_by_logs_metrics_or_errors(lab):
    lab.source.now(a_key(requests_per_min=1))
    texts = [str(await lab.ask())]
    for key in (SECRET, OTHER):
        with pytest.raises(openai.APIStatusError) as refused:
            await lab.ask(key)
        texts.append(refused.value.response.text)
    texts += [*lab.log, (await lab.get("/metrics", FIXED)).text, repr(lab.source.keys)]
    texts.append((await lab.get("/isochrone/v1/decisions/last", FIXED)).text)
    assert 'isochrone_key_refused_total{key="bob",limit="requests"} 1.0' in "".join(texts)
    for secret in (SECRET, OTHER, FIXED, TOKEN, sha256(SECRET.encode()).hexdigest()):
        assert secret not in "".join(texts)


async def test_a_gateway_without_keys_asks_for_none():
    gateway = Gateway(
        GatewaySettings(port=0),
        fleet=a_fleet(),
        bus=FakeBus(),
        clock=Clock(),
        luck=random.Random(1),
        keys=Source(None),
    )
    url = f"http://127.0.0.1:{await gateway.start()}"
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"{url}/v1/models")).status_code == 200
    await gateway.stop()


def test_that_keys_are_asked_for_outlives_the_file_and_the_worker():
    crew, fleet, settings = Crew.alone(), a_fleet(), GatewaySettings(port=0)

    def asks(keys: tuple[Key, ...] | None, crew: Crew) -> bool:
        parts = {"bus": FakeBus(), "clock": Clock(), "luck": random.Random(1)}
        Gateway(settings, fleet=fleet, keys=Source(keys), crew=crew, **parts)
        return crew.table.keys_asked_for.is_set

    assert asks((a_key(),), crew)
    assert asks(None, crew), "a worker that follows one that knew keys"
    assert not asks(None, Crew.alone())
