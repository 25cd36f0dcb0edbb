"""The hub's real library against a hub of our own."""

import asyncio
import hashlib
import threading

import pytest
from storage_site import WEIGHTS, Site, downloaders, left, nothing

from isochrone.adapters.storage import ModelStore
from isochrone.ports import StoreError

COMMIT = "c" * 40


@pytest.fixture(autouse=True)
def hub(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A hub with one file in one repository."""
    monkeypatch.setenv("HF_ENDPOINT", site.url)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    site.etag = f'"{hashlib.sha256(WEIGHTS).hexdigest()}"'
    site.headers = {"X-Repo-Commit": COMMIT, "X-Linked-Size": str(len(WEIGHTS))}
    for revision in ("main", "v2", COMMIT):
        site.files[f"/own/repo/resolve/{revision}/sub/w.gguf"] = WEIGHTS
    return site


@pytest.mark.parametrize("source", ["hf:own/repo/sub/w.gguf", "hf:own/repo/sub/w.gguf@v2"])
async def test_a_file_comes_from_the_hub(store: ModelStore, source: str) -> None:
    seen: list[tuple[int, int | None]] = []
    kept = await store.pull("w", source, lambda *at: seen.append(at))
    assert kept.path.read_bytes() == WEIGHTS
    assert seen[-1] == (len(WEIGHTS), len(WEIGHTS))
    assert left(store) == [f"blobs/{kept.path.name}", "names/w.json"]


async def test_the_token_is_shown_to_the_hub(store: ModelStore, hub: Site) -> None:
    await store.pull("w", "hf:own/repo/sub/w.gguf", nothing)
    assert "Bearer hf_test" in hub.authorizations


async def test_a_file_that_the_hub_lacks_is_told(store: ModelStore) -> None:
    with pytest.raises(StoreError, match="no such file in the repository"):
        await store.pull("w", "hf:own/repo/none.gguf", nothing)


@pytest.mark.e2e  # the library insists for 20 s
async def test_a_hub_that_is_away_is_told(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match="can't be reached"):
        await store.pull("w", "hf:own/repo/sub/w.gguf", nothing)


async def test_a_cancelled_pull_ends_the_download(store: ModelStore, hub: Site) -> None:
    hub.hold, hub.cut_after_bytes = threading.Event(), [1 << 20]
    pull = asyncio.create_task(store.pull("w", "hf:own/repo/sub/w.gguf", nothing))
    assert await asyncio.to_thread(hub.held.wait, 20)
    pull.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pull
    assert downloaders() == []
    assert store.list() == ()
