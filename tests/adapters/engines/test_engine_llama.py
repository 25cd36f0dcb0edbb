"""Real llama.cpp engines with real weights."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest
from engine_server import until, workers

from isochrone.adapters.engines import LlamaCppHost, LlamaCppSettings, OpenAIHost
from isochrone.model import ModelCard
from isochrone.ports import EngineError, EngineMetrics, SettingError

CARD = ModelCard("smollm2-135m")
CHAT = {
    "model": CARD.name,
    "messages": [{"role": "user", "content": "Say hi."}],
    "max_tokens": 4,
    "temperature": 0,
}


@pytest.mark.e2e
async def test_an_engine_loads_answers_tells_its_load_and_frees_its_memory(weights: Path) -> None:
    seen: list[float] = []
    engine = await LlamaCppHost().start(CARD, weights, seen.append)
    try:
        assert seen == sorted(seen)
        assert (seen[0], seen[-1]) == (0.0, 1.0)
        assert engine.alive
        assert engine.memory_bytes > weights.stat().st_size // 2  # noqa: ASYNC240 - one stat
        async with httpx.AsyncClient(timeout=60) as client:
            answer = (await client.post(f"{engine.url}/v1/chat/completions", json=CHAT)).json()
        assert answer["model"] == CARD.name
        assert answer["timings"]["predicted_n"] == 4
        assert await engine.metrics() == EngineMetrics(running=0, queued=0)
        (card,) = await OpenAIHost(engine.url).models()
        assert card == ModelCard(CARD.name, context_tokens=2048)
    finally:
        await engine.stop()
    assert not psutil.pid_exists(engine.pid)
    assert (engine.alive, engine.memory_bytes) == (False, 0)
    await engine.stop()


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"GGUF" + b"\x01" * 4096, "this GGUF file is version"),
        (b"no weights", "invalid magic characters: 'no w'"),
        (None, "corrupted or incomplete"),
    ],
)
async def test_weights_that_can_not_be_loaded_give_the_engines_own_words(
    weights: Path, tmp_path: Path, content: bytes | None, told: str
) -> None:
    broken = tmp_path / "broken.gguf"
    with weights.open("rb") as whole:
        broken.write_bytes(content if content is not None else whole.read(30_000_000))
    with pytest.raises(EngineError, match=told):
        await LlamaCppHost().start(CARD, broken, lambda _: None)
    assert workers() == []


@pytest.mark.e2e
async def test_an_engine_that_is_killed_is_seen_to_be(weights: Path) -> None:
    engine = await LlamaCppHost().start(CARD, weights, lambda _: None)
    os.kill(engine.pid, signal.SIGKILL)
    await until(lambda: not engine.alive)
    with pytest.raises(EngineError, match="ended by SIGKILL, as it does when memory runs out"):
        await engine.metrics()
    await engine.stop()


@pytest.mark.e2e
async def test_a_start_that_is_cancelled_leaves_no_child(weights: Path) -> None:
    begun = asyncio.Event()
    start = asyncio.create_task(LlamaCppHost().start(CARD, weights, lambda _: begun.set()))
    await begun.wait()
    assert workers()
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert workers() == []


@pytest.mark.e2e
async def test_a_load_that_takes_too_long_is_given_up(weights: Path) -> None:
    with pytest.raises(EngineError, match=r"did not load smollm2-135m within 0\.05 s"):
        await LlamaCppHost(LlamaCppSettings(load_s_max=0.05)).start(CARD, weights, lambda _: None)
    assert workers() == []


@pytest.mark.e2e
@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGINT])
async def test_an_engine_that_is_stuck_or_interrupted_is_stopped_all_the_same(
    weights: Path, number: signal.Signals
) -> None:
    engine = await LlamaCppHost().start(CARD, weights, lambda _: None)
    os.kill(engine.pid, number)
    assert engine.alive
    await engine.stop()
    assert not psutil.pid_exists(engine.pid)


PARENT = """
import asyncio, sys
from pathlib import Path
from isochrone.adapters.engines import LlamaCppHost
from isochrone.model import ModelCard

async def main():
    def say(fraction):
        print("loading", fraction, flush=True)
    engine = await LlamaCppHost().start(ModelCard("m"), Path(sys.argv[1]), say)
    print("loaded", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.e2e
@pytest.mark.parametrize("when", [b"loading 0.0\n", b"loaded\n"])
async def test_an_engine_dies_with_its_parent_while_loading_and_after(weights: Path, when: bytes) -> None:
    argv = [sys.executable, "-c", PARENT, str(weights)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as parent:  # noqa: ASYNC220 - killed below
        assert parent.stdout is not None
        while await asyncio.to_thread(parent.stdout.readline) != when:
            assert parent.poll() is None
        (worker,) = psutil.Process(parent.pid).children()
        parent.kill()
    await until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)


async def test_weights_that_are_not_there_are_told(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="No such file"):
        await LlamaCppHost().start(CARD, tmp_path / "none.gguf", lambda _: None)
    with pytest.raises(EngineError, match="pull it first"):
        await LlamaCppHost().start(CARD, None, lambda _: None)


async def test_the_host_loads_and_lists_nothing_of_itself() -> None:
    host = LlamaCppHost()
    assert (host.name, host.loads, await host.models()) == ("llama.cpp", True, ())


@pytest.mark.parametrize(
    "wrong", [{"threads": 0}, {"slots": 0}, {"context_tokens": -1}, {"cache_ram_mib": -1}]
)
def test_settings_without_a_bound_or_a_sense_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(SettingError, match=next(iter(wrong))):
        LlamaCppSettings(**wrong)
