"""The OpenAI API as its own client sees it, on real models."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx
import openai
import pytest

from tests.e2e.cluster import MODEL, TOKEN, Cluster, until

SKY = [{"role": "user", "content": "Why is the sky blue?"}]


def test_lists_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).owned_by == "isochrone"


def test_whole_answer_with_usage(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=SKY, max_tokens=12)
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 12
    assert answer.usage.prompt_tokens > 10


def test_streams_token_by_token(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL, messages=SKY, max_tokens=10, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert len([text for text in texts if text]) >= 8
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 10


def test_usage_only_when_asked_for(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(model=MODEL, messages=SKY, max_tokens=4, stream=True)
    assert all(chunk.usage is None for chunk in stream)


def test_text_completions(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt="One, two, three,", max_tokens=6, temperature=0)
    assert "four" in answer.choices[0].text


def test_stop_passes_through(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model=MODEL, prompt="One, two, three, four,", max_tokens=40, temperature=0, stop=["seven"]
    )
    assert answer.choices[0].finish_reason == "stop"
    assert "seven" not in answer.choices[0].text


def test_unknown_fields_pass_through_untouched(client: openai.OpenAI) -> None:
    """`n_probs` is llama.cpp's own: the gateway has never heard of it."""
    answer = client.completions.create(
        model=MODEL, prompt="Hello", max_tokens=2, logprobs=3, extra_body={"cache_prompt": False}
    )
    assert answer.choices[0].logprobs is not None


def test_says_where_it_came_from_and_why(cluster: Cluster, client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=SKY, max_tokens=5, stream=True
    )
    list(raw.parse())
    node, decision = raw.headers["x-isochrone-node"], raw.headers["x-isochrone-decision"]
    record = until("the outcome", lambda: _ended(cluster, decision))
    assert record["chosen"] == node
    assert {candidate["node"] for candidate in record["candidates"]} == {"a", "b"}
    outcome = record["outcomes"][0]
    assert (outcome["kind"], outcome["node"]) == ("answered", node)
    assert outcome["ttft_ms"] > 0
    assert outcome["timings"]["output_tokens"] == 5


def _ended(cluster: Cluster, decision: str) -> dict[str, Any] | None:
    record = cluster.decision(decision)
    return record if record.get("outcomes") else None


def test_twenty_at_once_all_answer(cluster: Cluster, client: openai.OpenAI) -> None:
    def ask(number: int) -> str | None:
        messages = [{"role": "user", "content": f"Say the number {number}."}]
        answer = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=8)
        return answer.choices[0].message.content

    with ThreadPoolExecutor(20) as pool:
        assert all(pool.map(ask, range(20)))
    assert cluster.status()["in_flight"] == 0
    shares = {r["chosen"] for r in httpx.get(f"{cluster.url}/isochrone/v1/decisions").json()[:20]}
    assert shares == {"a", "b"}, "twenty at once must not all go to one of two equal nodes"


def test_leaving_client_frees_the_slot(cluster: Cluster, client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Count to a thousand."}],
        max_tokens=1500,
        stream=True,
        extra_body={"ignore_eos": True},
    )
    next(iter(stream))
    assert sum(cluster.load(name)["running"] for name in "ab") == 1
    stream.close()
    cluster.wait_idle("a", "b")
    until("the ledger is empty", lambda: cluster.status()["in_flight"] == 0)


def test_leaving_before_the_answer_frees_the_slot(cluster: Cluster) -> None:
    """Not streamed: nothing has been sent when the client goes."""
    body = {"model": MODEL, "messages": SKY, "max_tokens": 1500, "ignore_eos": True}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{cluster.url}/v1/chat/completions", json=body, timeout=1.0)
    cluster.wait_idle("a", "b")
    until("the ledger is empty", lambda: cluster.status()["in_flight"] == 0)


BAD_BODIES: dict[str, tuple[str, bytes, str | None, str | None]] = {
    "not JSON": ("chat/completions", b"{", None, "invalid_json"),
    "not an object": ("chat/completions", b"[]", None, "invalid_json"),
    "nested deeply": ("chat/completions", b"[" * 100_000, None, "invalid_json"),
    "not UTF-8": ("chat/completions", b'{"model": "\xff"}', None, "invalid_json"),
    "no model": ("chat/completions", b'{"messages": []}', "model", "missing_required_parameter"),
    "model of wrong type": ("chat/completions", b'{"model": 1}', "model", "invalid_type"),
    "no messages": ("chat/completions", b'{"model": "m"}', "messages", "missing_required_parameter"),
    "messages of wrong type": (
        "chat/completions",
        b'{"model": "m", "messages": "x"}',
        "messages",
        "invalid_type",
    ),
    "no role": (
        "chat/completions",
        b'{"model": "m", "messages": [{"content": "x"}]}',
        "messages[0].role",
        "invalid_type",
    ),
    "stream of wrong type": (
        "chat/completions",
        b'{"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": "yes"}',
        "stream",
        "invalid_type",
    ),
    "max_tokens below 1": (
        "chat/completions",
        b'{"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 0}',
        "max_tokens",
        "invalid_value",
    ),
    "no prompt": ("completions", b'{"model": "m"}', "prompt", "missing_required_parameter"),
    "prompt of wrong type": ("completions", b'{"model": "m", "prompt": {}}', "prompt", "invalid_type"),
}


@pytest.mark.parametrize("case", BAD_BODIES)
def test_bad_bodies_name_the_field(cluster: Cluster, case: str) -> None:
    path, body, param, code = BAD_BODIES[case]
    response = httpx.post(f"{cluster.url}/v1/{path}", content=body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["param"], error["code"]) == (param, code)
    assert error["type"] == "invalid_request_error"
    assert "Traceback" not in response.text


def test_unknown_model_is_404(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-17", messages=SKY)
    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"


def test_body_over_the_limit_is_413(cluster: Cluster) -> None:
    body = b'{"model": "' + b"x" * (9 * 1024 * 1024)
    response = httpx.post(f"{cluster.url}/v1/chat/completions", content=body)
    assert response.status_code == 413
    assert "error" in response.json()


def test_wrong_path_and_method(cluster: Cluster) -> None:
    assert httpx.get(f"{cluster.url}/v1/nothing").status_code == 404
    assert httpx.get(f"{cluster.url}/v1/chat/completions").status_code in (404, 405)
    assert httpx.post(f"{cluster.url}/v1/models").status_code in (404, 405)


def test_engine_errors_pass_through(cluster: Cluster) -> None:
    """A prompt longer than the context: the engine's own 400, as an OpenAI error object."""
    messages = [{"role": "user", "content": "word " * 6000}]
    response = httpx.post(f"{cluster.url}/v1/chat/completions", json={"model": MODEL, "messages": messages})
    assert response.status_code == 400
    assert response.json()["error"]["message"]
    assert cluster.status()["in_flight"] == 0


def test_deadline_that_nobody_can_meet_is_503(cluster: Cluster) -> None:
    response = httpx.post(
        f"{cluster.url}/v1/chat/completions",
        json={"model": MODEL, "messages": SKY},
        headers={"x-isochrone-timeout-ms": "1"},
    )
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "deadline_unreachable"
    assert int(response.headers["retry-after"]) >= 1


def test_deadline_passing_is_504(cluster: Cluster) -> None:
    response = httpx.post(
        f"{cluster.url}/v1/chat/completions",
        json={"model": MODEL, "messages": SKY, "max_tokens": 1500, "ignore_eos": True},
        headers={"x-isochrone-timeout-ms": "2500"},
        timeout=20,
    )
    assert response.status_code == 504
    assert response.json()["error"]["code"] == "deadline_exceeded"
    cluster.wait_idle("a", "b")


def test_deadline_passing_mid_stream_ends_with_an_error_event(cluster: Cluster) -> None:
    body = {"model": MODEL, "messages": SKY, "max_tokens": 1500, "stream": True, "ignore_eos": True}
    headers = {"x-isochrone-timeout-ms": "2500"}
    events = []
    with httpx.stream(
        "POST", f"{cluster.url}/v1/chat/completions", json=body, headers=headers, timeout=20
    ) as response:
        assert response.status_code == 200
        events = [line for line in response.iter_lines() if line.startswith("data: ")]
    assert json.loads(events[-1][6:])["error"]["code"] == "deadline_exceeded"
    cluster.wait_idle("a", "b")


def test_health_and_metrics(cluster: Cluster, client: openai.OpenAI) -> None:
    client.chat.completions.create(model=MODEL, messages=SKY, max_tokens=2, stream=False)
    assert httpx.get(f"{cluster.url}/health").json()["status"] == "ok"
    text = httpx.get(f"{cluster.url}/metrics").text
    assert 'isochrone_requests_total{status="200"}' in text
    assert "isochrone_time_to_first_token_seconds_bucket" in text
    assert 'isochrone_node_belief{node="a",what="rtt_ms"}' in text


def test_nodes_of_a_small_network_speak_five_times_a_second(cluster: Cluster) -> None:
    headers = {"authorization": f"Bearer {TOKEN}"}

    def told(url: str) -> bool:
        text = httpx.get(f"{url}/metrics", headers=headers).text
        return "isochrone_node_pulse_interval_seconds 0.2" in text.splitlines()

    for url in cluster.node_urls.values():
        until("the gateway told how few there are", partial(told, url))


def test_policy_by_header(cluster: Cluster, client: openai.OpenAI) -> None:
    nodes = []
    for _ in range(4):
        raw = client.chat.completions.with_raw_response.create(
            model=MODEL, messages=SKY, max_tokens=2, extra_headers={"x-isochrone-policy": "round-robin"}
        )
        nodes.append(raw.headers["x-isochrone-node"])
    assert nodes in (["a", "b", "a", "b"], ["b", "a", "b", "a"])
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            model=MODEL, messages=SKY, extra_headers={"x-isochrone-policy": "luck"}
        )
    assert caught.value.param == "x-isochrone-policy"


def test_prefix_cache_is_learned(cluster: Cluster, client: openai.OpenAI) -> None:
    """The second of two requests with a long common prompt is predicted, and found, to be cached."""
    system = {"role": "system", "content": "You are a patient teacher of physics. " * 24}
    found = []
    for question in ("What is light?", "What is heat?", "What is sound?"):
        raw = client.chat.completions.with_raw_response.create(
            model=MODEL, messages=[system, {"role": "user", "content": question}], max_tokens=4, stream=True
        )
        list(raw.parse())
        record = until("the outcome", lambda raw=raw: _ended(cluster, raw.headers["x-isochrone-decision"]))
        found.append((record["candidates"][0]["cached_tokens"], record["outcomes"][0]["timings"]))
    believed, timings = found[-1]
    assert believed > 100
    assert timings["cached_tokens"] > 100
    assert found[0][1]["prefill_ms"] > 3 * timings["prefill_ms"]


def test_nodes_are_not_open_to_strangers(cluster: Cluster) -> None:
    body = {"model": MODEL, "messages": SKY}
    response = httpx.post(f"{cluster.node_urls['a']}/v1/chat/completions", json=body)
    assert response.status_code == 401


def test_key_wanted(cluster: Cluster) -> None:
    """A second gateway of the same network that asks for keys."""
    second = Cluster(cluster.folder, cluster.store)
    second.nats_url = cluster.nats_url
    try:
        second.start_gateway("--name", "second", environment={"ISOCHRONE_API_KEYS": "sk-one,sk-two"})
        with openai.OpenAI(base_url=f"{second.url}/v1", api_key="sk-wrong", max_retries=0) as wrong:
            with pytest.raises(openai.AuthenticationError) as caught:
                wrong.models.list()
            assert caught.value.code == "invalid_api_key"
        with openai.OpenAI(base_url=f"{second.url}/v1", api_key="sk-two") as right:
            until("the nodes are known", lambda: [model.id for model in right.models.list()] == [MODEL])
            assert right.chat.completions.create(model=MODEL, messages=SKY, max_tokens=2).choices
        assert httpx.get(f"{second.url}/isochrone/v1/status").status_code == 401
        assert httpx.get(f"{second.url}/health").status_code == 200
    finally:
        second.close()
    assert second.gateway is not None
    assert "sk-" not in second.gateway.text


def test_slow_reader_does_not_stop_others(cluster: Cluster, client: openai.OpenAI) -> None:
    """One client reads nothing of its stream; another is served meanwhile."""
    body = {"model": MODEL, "messages": SKY, "max_tokens": 200, "stream": True}
    done = threading.Event()
    with httpx.stream("POST", f"{cluster.url}/v1/chat/completions", json=body, timeout=30) as slow:
        assert slow.status_code == 200
        assert client.chat.completions.create(model=MODEL, messages=SKY, max_tokens=3).choices
        done.set()
    assert done.is_set()
    cluster.wait_idle("a", "b")
