"""A real node says at once where a prompt would have to wait too long; the request is answered elsewhere."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import httpx

from isochrone.model import Load
from isochrone.wire.orca import decode_orca, encode_orca
from tests.e2e.cluster import MODEL, TOKEN, Cluster, until
from tests.e2e.test_untrusted_nodes import ask, known, rogue_in

BODY = {"model": MODEL, "messages": [{"role": "user", "content": "Why is the sky blue?"}], "ignore_eos": True}
LONG_LINE = encode_orca(Load(slots=1, running=1, queued=9, wait_s=90.0, backlog_s=90.0, prefill_s=90.0))
HEAD = b"HTTP/1.1 503 No\r\nx-isochrone-balked: 90000\r\nendpoint-load-metrics: %s\r\n"
BALKED = HEAD + b"content-length: 2\r\n\r\n{}"


def post(url: str, max_tokens: int, **headers: str) -> httpx.Response:
    headers["authorization"] = f"Bearer {TOKEN}"
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = {**BODY, "max_tokens": max_tokens}
    return httpx.post(f"{url}/v1/chat/completions", json=body, headers=named, timeout=60)


def balked(url: str) -> float:
    told = httpx.get(f"{url}/metrics", headers={"authorization": f"Bearer {TOKEN}"}).text
    lines = [line for line in told.splitlines() if line.startswith("isochrone_node_balked_total ")]
    return float(lines[0].split()[1])


def test_a_busy_node_says_so_at_once_with_its_load_and_an_idle_one_answers(cluster: Cluster) -> None:
    cluster.wait_idle("a")
    url = cluster.node("a")["url"]
    assert post(url, 1, x_isochrone_patience_ms="0").status_code == 200
    until("a is idle", lambda: not cluster.load("a")["running"])
    with ThreadPoolExecutor(16) as pool:
        slots = cluster.load("a")["slots"]
        busy = [pool.submit(post, url, 60) for _ in range(slots + 2)]
        until("some wait for a slot", lambda: cluster.load("a")["queued"])
        impatient = post(url, 1, x_isochrone_patience_ms="0")
        assert impatient.status_code == 503, impatient.text
        assert impatient.json()["error"]["code"] == "balked"
        assert int(impatient.headers["x-isochrone-balked"]) > 0
        assert decode_orca(impatient.headers["endpoint-load-metrics"].encode()).queued > 0
        patient = [pool.submit(post, url, 1, x_isochrone_patience_ms=ms) for ms in ("600000", "soon", "-1")]
        assert [answer.result().status_code for answer in (*busy, *patient)] == [200] * (slots + 5)
    assert balked(url) == 1.0


async def test_who_says_so_of_everything_costs_a_way_and_no_request(cluster: Cluster) -> None:
    async with rogue_in(cluster) as rogue:
        await known(cluster)
        rogue.answer = BALKED % LONG_LINE
        answers = [await ask(cluster) for _ in range(3)]
        records = [
            await asyncio.to_thread(cluster.decision, answer.headers["x-isochrone-decision"])
            for answer in answers
        ]
        assert all(b"x-isochrone-patience-ms: " in head for head in rogue.asked)
    assert [answer.status_code for answer in answers] == [200] * 3
    at_rogue = [o["kind"] for record in records for o in record["outcomes"] if o["node"] == "rogue"]
    assert len(at_rogue) == len(rogue.asked) > 0
    assert set(at_rogue) == {"balked"}
