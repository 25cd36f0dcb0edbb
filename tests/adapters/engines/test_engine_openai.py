import json

import httpx
import pytest
from engine_server import FakeEngine

from isochrone.adapters.engines import OpenAIHost
from isochrone.adapters.engines.metrics import MetricsPage
from isochrone.model import ModelCard
from isochrone.ports import EngineError, EngineMetrics, SettingError

MODELS = {
    "object": "list",
    "data": [
        {"id": "vllm-model", "object": "model", "max_model_len": 8192},
        {"id": "llama-model", "object": "model", "meta": {"n_ctx": 2048}},
        {"id": "bare"},
        {"id": 7},
        "nonsense",
        {"id": "odd", "max_model_len": "many", "meta": None},
    ],
}


class SetClock:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.at_s = 0.0

    def now_s(self) -> float:
        return self.at_s

    def unix_ms(self) -> int:
        return 0


@pytest.fixture(autouse=True)
def models(fake_engine: FakeEngine) -> None:
    fake_engine.answers["/v1/models"] = (200, json.dumps(MODELS).encode())


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
async def test_models_are_listed_with_their_context_whatever_way_the_url_is_written(
    fake_engine: FakeEngine, suffix: str
) -> None:
    host = OpenAIHost(fake_engine.url + suffix, api_key="k")
    assert host.url == fake_engine.url
    assert await host.models() == (
        ModelCard("bare"),
        ModelCard("llama-model", context_tokens=2048),
        ModelCard("odd"),
        ModelCard("vllm-model", context_tokens=8192),
    )
    assert fake_engine.log == [("/v1/models", "Bearer k")]


def test_a_path_before_v1_is_kept() -> None:
    assert OpenAIHost("https://host/openai/v1").url == "https://host/openai"


@pytest.mark.parametrize(
    "url", ["host:8000", "ftp://host", "http://", "http://me:secret@host", "http://h/?a=1"]
)
def test_what_is_no_url_of_an_engine_is_refused(url: str) -> None:
    with pytest.raises(SettingError) as caught:
        OpenAIHost(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (401, b"{}", "another API key"),
        (500, b"{}", "answered 500"),
        (200, b"<html>", "does not list models"),
        (200, b'{"data": 3}', "does not list models"),
        (200, b"[]", "does not list models"),
        (200, b"\xff", "does not list models"),
        (200, b" " * (5 << 20), "more than"),
    ],
)
async def test_an_answer_that_lists_no_models_is_told(
    fake_engine: FakeEngine, status: int, body: bytes, told: str
) -> None:
    fake_engine.answers["/v1/models"] = (status, body)
    with pytest.raises(EngineError, match=told):
        await OpenAIHost(fake_engine.url).models()


async def test_an_engine_that_is_away_is_told() -> None:
    with pytest.raises(EngineError, match=r"can't be reached at http://127\.0\.0\.1:9"):
        await OpenAIHost("http://127.0.0.1:9").models()


async def test_only_a_model_that_is_served_can_be_started(fake_engine: FakeEngine) -> None:
    seen: list[float] = []
    host = OpenAIHost(fake_engine.url)
    engine = await host.start(ModelCard("bare"), None, seen.append)
    assert (engine.url, engine.alive, engine.memory_bytes, seen) == (fake_engine.url, True, 0, [1.0])
    await engine.stop()
    with pytest.raises(EngineError, match="does not serve other; it serves bare"):
        await host.start(ModelCard("other"), None, seen.append)


async def test_metrics_are_read_from_the_page(fake_engine: FakeEngine) -> None:
    page = b"vllm:num_requests_running 3\nvllm:num_requests_waiting 2\nvllm:kv_cache_usage_perc 0.5\n"
    fake_engine.answers["/metrics"] = (200, page)
    engine = await OpenAIHost(fake_engine.url).start(ModelCard("bare"), None, lambda _: None)
    assert await engine.metrics() == EngineMetrics(running=3, queued=2, kv_used=0.5)
    await engine.stop()


@pytest.mark.parametrize("answer", [(404, b""), (500, b""), (200, None)])
async def test_a_page_that_is_not_there_is_let_be_for_a_minute(
    fake_engine: FakeEngine, answer: tuple[int, bytes | None]
) -> None:
    fake_engine.answers["/metrics"] = answer
    clock = SetClock()
    engine = await OpenAIHost(fake_engine.url, clock=clock).start(ModelCard("bare"), None, lambda _: None)
    for at_s in (0.0, 1.0, 59.0, 61.0):
        clock.at_s = at_s
        assert await engine.metrics() == EngineMetrics()
    assert [path for path, _ in fake_engine.log] == ["/v1/models", "/metrics", "/metrics"]
    await engine.stop()


async def test_a_page_without_end_is_cut_at_a_whole_line(fake_engine: FakeEngine) -> None:
    page = b"tgi_queue_size 3\n" + b"tgi_batch_current_size 1\n" * 100_000
    fake_engine.answers["/metrics"] = (200, page)
    engine = await OpenAIHost(fake_engine.url).start(ModelCard("bare"), None, lambda _: None)
    metrics = await engine.metrics()
    assert (metrics.queued, metrics.running) == (3, (256 * 1024 - 17) // 25)
    await engine.stop()


async def test_an_engine_that_went_away_is_an_error_each_time() -> None:
    async with httpx.AsyncClient() as client:
        page = MetricsPage(client, "http://127.0.0.1:9", clock=SetClock())
        for _ in range(2):
            with pytest.raises(EngineError, match="can't be reached"):
                await page.read()
