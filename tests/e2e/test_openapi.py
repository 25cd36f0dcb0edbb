"""A live gateway does what its /openapi.json says: schemathesis asks it, over real NATS, before one node."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.cluster import MODEL, Cluster
from tests.e2e.test_untrusted_nodes import rogue_in

CONFIG = """
[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", 503, 504]
"""
"""A client that gives a node a millisecond to answer is told 503 or 504, and rightly."""

COMMAND = (sys.executable, "-m", "schemathesis.cli", "--config-file=schemathesis.toml", "run")
OPTIONS = (
    "--checks=all",
    "--phases=examples,coverage,fuzzing",
    "--max-examples=12",
    "--seed=1",
    "--generation-deterministic",
    "--suppress-health-check=all",
    "--continue-on-failure",
    "--request-timeout=10",
    "--no-color",
)
ANSWER = b'{"id":"x","object":"chat.completion","choices":[]}'
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
REPLY = HEAD + b"content-length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path, tmp_path)
    try:
        cluster.start_nats()
        cluster.start_gateway()
        yield cluster
    finally:
        cluster.close()


async def test_the_gateway_does_what_its_openapi_document_says(gateway: Cluster, tmp_path: Path) -> None:
    pytest.importorskip("schemathesis")
    async with rogue_in(gateway) as rogue:
        rogue.answer = REPLY
        await asyncio.to_thread(gateway.wait_known, "rogue")
        document = (await asyncio.to_thread(httpx.get, f"{gateway.url}/openapi.json")).json()
        for name in ("ChatRequest", "CompletionRequest"):  # so that some requests come as far as the node
            document["components"]["schemas"][name]["properties"]["model"] = {"enum": [MODEL]}
        path = tmp_path / "openapi.json"
        path.write_text(json.dumps(document))
        (tmp_path / "schemathesis.toml").write_text(CONFIG)
        ran = await asyncio.to_thread(
            subprocess.run,
            [*COMMAND, str(path), "--url", gateway.url, *OPTIONS],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert len(rogue.asked) > 20, ran.stdout
    assert gateway.status()["in_flight"] == 0
