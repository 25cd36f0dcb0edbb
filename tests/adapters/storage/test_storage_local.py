# ruff: noqa: ASYNC240 - small files, and no other task to hold up
import hashlib
import os
import shutil
import stat
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from storage_site import WEIGHTS, left, nothing

from isochrone.adapters.storage import Limits, ModelStore
from isochrone.ports import SettingError, StoreError

DIGEST = hashlib.sha256(WEIGHTS).hexdigest()


async def test_a_local_file_is_copied_hashed_and_kept_read_only(store: ModelStore, gguf: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    kept = await store.pull("mine", str(gguf), lambda done, total: seen.append((done, total)))
    assert (kept.name, kept.sha256, kept.size_bytes) == ("mine", DIGEST, len(WEIGHTS))
    assert kept.path.name == f"sha256-{DIGEST}"
    assert kept.path.read_bytes() == WEIGHTS
    assert stat.S_IMODE(kept.path.stat().st_mode) == 0o444
    assert not kept.path.samefile(gguf)
    assert seen == sorted(seen)
    assert seen[-1] == (len(WEIGHTS), len(WEIGHTS))
    assert store.get("mine") == kept
    assert store.list() == (kept,)


async def test_nothing_is_on_disk_before_the_first_pull(store: ModelStore) -> None:
    assert store.get("mine") is None
    assert store.list() == ()
    assert not store.remove("mine")
    assert not store.root.exists()


async def test_one_blob_bears_many_names_and_goes_with_the_last(store: ModelStore, gguf: Path) -> None:
    first = await store.pull("a", str(gguf), nothing)
    second = await store.pull("b", f"{gguf};sha256={DIGEST}", nothing)
    assert first.path == second.path
    assert store.remove("a")
    assert second.path.exists()
    assert store.remove("b")
    assert left(store) == []
    assert not store.remove("b")


async def test_a_source_on_disk_is_not_read_again_even_when_it_is_gone(store: ModelStore, gguf: Path) -> None:
    kept = await store.pull("mine", str(gguf), nothing)
    gguf.unlink()
    assert await store.pull("mine", str(gguf), nothing) == kept


async def test_a_local_file_that_changed_is_copied_anew(store: ModelStore, gguf: Path) -> None:
    old = await store.pull("mine", str(gguf), nothing)
    gguf.write_bytes(b"GGUF anew")
    new = await store.pull("mine", str(gguf), nothing)
    assert new.path.read_bytes() == b"GGUF anew"
    assert not old.path.exists()
    assert store.list() == (new,)


async def test_a_cut_or_lost_blob_counts_as_absent_and_is_fetched_again(
    store: ModelStore, gguf: Path
) -> None:
    kept = await store.pull("mine", str(gguf), nothing)
    kept.path.chmod(0o644)
    os.truncate(kept.path, 10)
    assert store.get("mine") is None
    assert (await store.pull("mine", str(gguf), nothing)).path.read_bytes() == WEIGHTS


async def test_a_spoilt_record_counts_as_absent_and_is_written_again(store: ModelStore, gguf: Path) -> None:
    kept = await store.pull("mine", str(gguf), nothing)
    (store.root / "names" / "mine.json").write_text("{")
    assert store.get("mine") is None
    assert store.list() == ()
    assert await store.pull("mine", str(gguf), nothing) == kept


async def test_a_wrong_digest_keeps_nothing(store: ModelStore, gguf: Path) -> None:
    with pytest.raises(StoreError, match="nothing was kept"):
        await store.pull("mine", f"{gguf};sha256={'0' * 64}", nothing)
    assert left(store) == []


@pytest.mark.parametrize("content", [b"", b"GGU", b"<html>404</html>", b"\x93NUMPY"])
async def test_what_is_no_gguf_is_refused(store: ModelStore, gguf: Path, content: bytes) -> None:
    gguf.write_bytes(content)
    with pytest.raises(StoreError, match="not a GGUF file"):
        await store.pull("mine", str(gguf), nothing)
    assert left(store) == []


async def test_a_missing_file_or_a_folder_is_refused(store: ModelStore, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no file"):
        await store.pull("mine", str(tmp_path / "none.gguf"), nothing)
    with pytest.raises(StoreError, match="not a regular file"):
        await store.pull("mine", str(tmp_path), nothing)
    fifo = tmp_path / "fifo.gguf"
    os.mkfifo(fifo)
    with pytest.raises(StoreError, match="not a regular file"):
        await store.pull("mine", str(fifo), nothing)


async def test_a_file_over_the_limit_is_refused(tmp_path: Path, gguf: Path) -> None:
    store = ModelStore(tmp_path / "store", Limits(size_bytes_max=1 << 20))
    with pytest.raises(StoreError, match="1 MiB allowed"):
        await store.pull("mine", str(gguf), nothing)
    assert left(store) == []


async def test_a_full_disk_is_told_before_anything_is_written(
    store: ModelStore, gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 20))
    with pytest.raises(StoreError, match="free some disk"):
        await store.pull("mine", str(gguf), nothing)
    assert left(store) == []


async def test_a_store_that_can_not_be_written_is_a_clear_error(tmp_path: Path, gguf: Path) -> None:
    (tmp_path / "store").write_text("a file where the folder should be")
    with pytest.raises(StoreError, match=r"The store in .* failed"):
        await ModelStore(tmp_path / "store").pull("mine", str(gguf), nothing)


async def test_old_leftovers_are_swept_and_young_ones_spared(store: ModelStore, gguf: Path) -> None:
    tmp = store.root / "tmp"
    for name, age_s in (("old", 90_000), ("young", 3_000)):
        (tmp / name).mkdir(parents=True)
        (tmp / name / "part").write_bytes(b"x")
        for path in (tmp / name / "part", tmp / name):
            os.utime(path, (time.time() - age_s,) * 2)
    await store.pull("mine", str(gguf), nothing)
    assert [path.name for path in tmp.iterdir()] == ["young"]


@pytest.mark.parametrize("name", ["", "..", "a/b", "a" * 129, "-a", "ä"])
async def test_a_name_that_is_no_name_is_refused_everywhere(store: ModelStore, name: str, gguf: Path) -> None:
    with pytest.raises(SettingError, match="can't name a model"):
        await store.pull(name, str(gguf), nothing)
    with pytest.raises(SettingError, match="can't name a model"):
        store.get(name)
    with pytest.raises(SettingError, match="can't name a model"):
        store.remove(name)
