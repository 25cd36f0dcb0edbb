"""Models from disk to ready and back, within a memory budget; and engines of other makes."""

from pathlib import Path
from typing import Any

import httpx
import openai

from isochrone.adapters.storage import ModelStore
from tests.e2e.cluster import MODEL, TOKEN, Cluster, Process, until

SKY = [{"role": "user", "content": "Why is the sky blue?"}]


def ask(cluster: Cluster, model: str = MODEL, **fields: Any) -> httpx.Response:
    body = {"model": model, "messages": SKY, "max_tokens": 4, **fields}
    return httpx.post(f"{cluster.url}/v1/chat/completions", json=body, timeout=60)


def outcome(cluster: Cluster, response: httpx.Response) -> dict[str, Any]:
    return cluster.decision(response.headers["x-isochrone-decision"])["outcomes"][-1]


def test_cold_model_is_loaded_on_demand(empty_cluster: Cluster) -> None:
    cluster = empty_cluster
    cluster.start_gateway()
    cluster.start_node("cold", "--no-preload")
    cluster.wait_known("cold")
    assert cluster.model_state("cold") == "on_disk"
    response = ask(cluster)
    assert response.status_code == 200
    record = cluster.decision(response.headers["x-isochrone-decision"])
    assert record["candidates"][0]["cold_ms"] > 100
    assert record["outcomes"][0]["timings"]["load_ms"] > 100
    until("it is seen as ready", lambda: cluster.model_state("cold") == "ready")
    assert outcome(cluster, ask(cluster))["timings"]["load_ms"] < 5


def test_warm_node_is_preferred_to_a_cold_one(empty_cluster: Cluster) -> None:
    cluster = empty_cluster
    cluster.start_gateway()
    cluster.start_node("cold", "--no-preload")
    cluster.start_node("warm")
    cluster.wait_known("cold")
    cluster.wait_ready("warm")
    assert {ask(cluster).headers["x-isochrone-node"] for _ in range(3)} == {"warm"}
    assert cluster.model_state("cold") == "on_disk"


def test_several_models_within_the_memory_budget(empty_cluster: Cluster, tmp_path: Path) -> None:
    """Two names for the same weights; the budget holds one. Each is loaded when asked for."""
    cluster = empty_cluster
    blob = ModelStore(cluster.store).get(MODEL)
    assert blob is not None
    cluster.store = tmp_path / "store"
    options = ("--model", f"twin={blob.path}", "--memory-mb", "300", "--no-preload")
    cluster.start_gateway()
    cluster.start_node("a", *options, model=f"one={blob.path}")
    cluster.wait_known("a")
    assert cluster.model_state("a", "one") == "absent"
    assert ask(cluster, "one").status_code == 200
    cluster.wait_ready("a", model="one")
    assert ask(cluster, "twin").status_code == 200
    cluster.wait_ready("a", model="twin")
    assert cluster.model_state("a", "one") == "on_disk"
    assert ask(cluster, "one").status_code == 200
    names = [each["id"] for each in httpx.get(f"{cluster.url}/v1/models").json()["data"]]
    assert names == ["one", "twin"]


def test_operator_loads_and_unloads(empty_cluster: Cluster) -> None:
    cluster = empty_cluster
    cluster.start_gateway()
    cluster.start_node("a", "--no-preload")
    cluster.wait_known("a")
    headers = {"authorization": f"Bearer {TOKEN}"}
    where = f"{cluster.node_urls['a']}/isochrone/v1/models/{MODEL}"
    assert httpx.post(f"{where}/load", headers=headers, timeout=30).json()["state"] == "ready"
    cluster.wait_ready("a")
    assert httpx.post(f"{where}/unload", headers=headers, timeout=30).json()["state"] == "on_disk"
    until("it is seen", lambda: cluster.model_state("a") == "on_disk")
    assert httpx.post(f"{where}/unload", headers=headers).status_code == 409


def test_idle_model_is_unloaded(empty_cluster: Cluster) -> None:
    """Each of two questions, with an idle second between them, has to load the model: it was unloaded.

    That it is *seen* ready cannot be awaited: a second is about a pulse.
    """
    cluster = empty_cluster
    cluster.start_gateway()
    cluster.start_node("a", "--no-preload", "--idle-unload-s", "1")
    cluster.wait_known("a")
    for _ in range(2):
        assert outcome(cluster, ask(cluster))["timings"]["load_ms"] > 100
        until("it is unloaded", lambda: cluster.own_state("a") == "on_disk")


def test_any_openai_engine_can_join(empty_cluster: Cluster) -> None:
    """A node in front of a bare llama.cpp server that is not ours, with its metrics read."""
    cluster = empty_cluster
    cluster.start_node("engine")  # its engine stands for somebody else's server
    headers = {"authorization": f"Bearer {TOKEN}"}
    engine_url = cluster.node_urls["engine"]
    cluster.start_gateway("--name", "other")
    foreign = Process(
        "node", "--name", "joined", "--engine", "openai", "--url", engine_url, "--nats", cluster.nats_url,
        environment={"ISOCHRONE_ENGINE_KEY": TOKEN},
    )  # fmt: skip
    cluster.nodes["joined"] = foreign
    cluster.node_urls["joined"] = foreign.facts()["url"]
    cluster.wait_ready("joined")
    assert httpx.get(f"{engine_url}/health", headers=headers).status_code == 200
    nodes = set()
    with openai.OpenAI(base_url=f"{cluster.url}/v1", api_key="none", max_retries=0) as client:
        for _ in range(4):
            raw = client.chat.completions.with_raw_response.create(
                model=MODEL, messages=SKY, max_tokens=3, stream=True,
                extra_headers={"x-isochrone-policy": "round-robin"},
            )  # fmt: skip
            assert [chunk for chunk in raw.parse() if chunk.choices]
            nodes.add(raw.headers["x-isochrone-node"])
    assert nodes == {"engine", "joined"}
    assert cluster.node("joined")["engine"] == "openai"
    learned = cluster.node("joined")["models"][0]
    assert learned["answers_seen"] >= 1
    assert learned["decode_tokens_per_s"] is not None


def test_engine_that_is_not_there_is_a_clear_error(empty_cluster: Cluster) -> None:
    process = Process(
        "node", "--name", "x", "--engine", "openai", "--url", "http://127.0.0.1:9",
        "--nats", empty_cluster.nats_url,
    )  # fmt: skip
    assert process.popen.wait(20) == 1
    process.stop()
    assert "Traceback" not in process.text
    assert "127.0.0.1:9" in process.text


def test_broken_weights_are_a_clear_error(empty_cluster: Cluster, tmp_path: Path) -> None:
    cluster = empty_cluster
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(4096))
    cluster.store = tmp_path / "store"
    cluster.start_gateway()
    cluster.start_node("a", "--no-preload", model=f"broken={broken}")
    cluster.wait_known("a")
    response = ask(cluster, "broken")
    assert response.status_code == 503
    assert "broken" in response.json()["error"]["message"]
    assert "Traceback" not in cluster.nodes["a"].text
