"""A whole gateway before a stand-in for nodes: whom a request is taken to be from, and that none is named."""

import hashlib
import json
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from gateway_nouns import MODEL, Clock, FakeBus, a_fleet

from isochrone.fleet import Dispatched, Fleet
from isochrone.gateway.gateway import Gateway
from isochrone.gateway.settings import GatewaySettings
from isochrone.model import Request
from isochrone.relay import Exchange, HttpClient, HttpServer
from isochrone.wire.openai import CHAT_PATH, hash_blocks, prompt_salt
from isochrone.wire.subjects import DECISIONS_PATH

TOKEN = "of-the-network"
BODY = {"model": MODEL, "messages": [{"role": "user", "content": "Why?"}]}


async def answer(exchange: Exchange) -> None:
    exchange.reply(200, b'{"choices": []}')


@dataclass
class Lab:
    """A gateway that asks for keys, and what it believes of the requests that it sends on."""

    client: HttpClient
    fleet: Fleet
    url: str = ""
    sent: list[Request] = field(default_factory=list)

    async def ask(self, key: str, **fields: object) -> str:
        """Who the gateway takes the client for."""
        headers = ((b"authorization", f"Bearer {key}".encode()),)
        body = json.dumps(BODY | fields).encode()
        response = await self.client.request("POST", self.url + CHAT_PATH, headers, body)
        await response.read()
        assert response.status == 200
        return self.sent[-1].client

    async def explained(self, key: str) -> str:
        headers = ((b"authorization", f"Bearer {key}".encode()),)
        response = await self.client.request("GET", self.url + DECISIONS_PATH + "last", headers)
        assert response.status == 200
        return (await response.read()).decode()


@pytest.fixture
async def lab(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lab]:
    nodes = HttpServer(answer, error_body=lambda *_: b"")
    fleet = a_fleet("a", url=f"http://127.0.0.1:{await nodes.start('127.0.0.1', 0)}")
    lab, step = Lab(HttpClient(), fleet), fleet.step

    def watched(event, now_s):
        if isinstance(event, Dispatched):
            lab.sent.append(event.request)
        return step(event, now_s)

    monkeypatch.setattr(fleet, "step", watched)
    digests = frozenset(hashlib.sha256(key.encode()).hexdigest() for key in ("sk-one", "sk-two"))
    settings = GatewaySettings(port=0, rtt_probe_s=3600.0, api_key_digests=digests, node_token=TOKEN)
    gateway = Gateway(settings, fleet=fleet, bus=FakeBus(), clock=Clock(), luck=random.Random(1))
    lab.url = f"http://127.0.0.1:{await gateway.start()}"
    yield lab
    await lab.client.close()
    await gateway.stop()
    await nodes.close()


async def test_clients_without_a_name_are_told_apart_by_their_key(lab: Lab) -> None:
    one, two = await lab.ask("sk-one"), await lab.ask("sk-two")
    assert one
    assert one != two
    assert await lab.ask("sk-one") == one


async def test_users_of_one_key_are_told_apart_and_those_of_two_keys_too(lab: Lab) -> None:
    ann = await lab.ask("sk-one", user="ann")
    assert await lab.ask("sk-one", user="ann") == ann
    others = [
        await lab.ask("sk-one"),
        await lab.ask("sk-one", user="bob"),
        await lab.ask("sk-two", user="ann"),
    ]
    assert len({ann, *others}) == 4


async def test_what_stands_for_a_client_is_no_digest_that_another_gateway_would_make(lab: Lab) -> None:
    for told, name in ((await lab.ask("sk-one"), b"sk-one"), (await lab.ask("sk-one", user="ann"), b"ann")):
        assert told != hashlib.blake2b(name, digest_size=8).hexdigest()


async def test_a_record_names_no_client(lab: Lab) -> None:
    client = await lab.ask("sk-one", user="ann-of-example")
    told = await lab.explained("sk-one")
    assert "ann-of-example" not in told
    assert client not in told


async def test_all_gateways_of_a_network_hash_a_prompt_alike_and_nobody_else_does(lab: Lab) -> None:
    """Policies that send a prompt where its hash belongs must agree, across gateways and workers."""
    text = "Answer shortly. " * 20
    await lab.ask("sk-one", messages=[{"role": "system", "content": text}])
    hashes = lab.sent[-1].blocks.hashes
    told = f"system:{text}".encode()
    assert hashes == hash_blocks(told, MODEL, prompt_salt(TOKEN)).hashes
    assert not set(hashes) & set(hash_blocks(told, MODEL).hashes)
