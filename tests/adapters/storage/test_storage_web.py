import asyncio
import hashlib
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from storage_site import WEIGHTS, Site, left, nothing

from isochrone.adapters.storage import Limits, ModelStore
from isochrone.ports import StoreError

MIB = 1 << 20


@pytest.fixture(autouse=True)
def weights(site: Site) -> None:
    site.files["/w.gguf"] = WEIGHTS


async def test_a_file_is_streamed_with_progress(store: ModelStore, site: Site) -> None:
    seen: list[tuple[int, int | None]] = []
    kept = await store.pull("w", f"{site.url}/w.gguf", lambda *at: seen.append(at))
    assert kept.path.read_bytes() == WEIGHTS
    assert kept.sha256 == hashlib.sha256(WEIGHTS).hexdigest()
    assert (MIB, len(WEIGHTS)) in seen
    assert not [name for name in left(store) if name.startswith("tmp")]


async def test_a_broken_download_goes_on_where_it_broke(store: ModelStore, site: Site) -> None:
    site.cut_after_bytes = [2 * MIB]
    kept = await store.pull("w", f"{site.url}/w.gguf", nothing)
    assert kept.path.read_bytes() == WEIGHTS
    assert site.ranges == [None, f"bytes={2 * MIB}-"]


async def test_without_leave_to_resume_it_begins_again(store: ModelStore, site: Site) -> None:
    site.resumable, site.cut_after_bytes = False, [2 * MIB]
    assert (await store.pull("w", f"{site.url}/w.gguf", nothing)).path.read_bytes() == WEIGHTS
    assert site.ranges == [None, None]


async def test_a_file_that_changed_meanwhile_is_taken_whole(store: ModelStore, site: Site) -> None:
    site.cut_after_bytes = [2 * MIB]

    def change(done_bytes: int, total_bytes: int | None) -> None:
        if done_bytes == 2 * MIB:
            site.files["/w.gguf"], site.etag = b"GGUF anew", '"two"'

    assert (await store.pull("w", f"{site.url}/w.gguf", change)).path.read_bytes() == b"GGUF anew"


async def test_a_cancelled_pull_leaves_its_part_for_the_next(store: ModelStore, site: Site) -> None:
    site.hold, site.cut_after_bytes = threading.Event(), [2 * MIB]
    pull = asyncio.create_task(store.pull("w", f"{site.url}/w.gguf", lambda done, _: reached(done)))
    two_mib = asyncio.Event()
    loop = asyncio.get_running_loop()

    def reached(done_bytes: int) -> None:
        if done_bytes == 2 * MIB:
            loop.call_soon_threadsafe(two_mib.set)

    await asyncio.wait_for(two_mib.wait(), 10)
    pull.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pull
    assert [name for name in left(store) if name.endswith("/part")]
    site.hold.set()
    site.hold = None
    kept = await store.pull("w", f"{site.url}/w.gguf", nothing)
    assert kept.path.read_bytes() == WEIGHTS
    assert site.ranges == [None, f"bytes={2 * MIB}-"]
    assert not [name for name in left(store) if name.startswith("tmp")]


async def test_a_server_that_is_busy_is_asked_again(store: ModelStore, site: Site) -> None:
    site.statuses = [503, 429]
    assert await store.pull("w", f"{site.url}/w.gguf", nothing)


async def test_failures_without_progress_come_to_an_end(store: ModelStore, site: Site) -> None:
    site.statuses = [503] * 9
    with pytest.raises(StoreError, match="answered 503"):
        await store.pull("w", f"{site.url}/w.gguf", nothing)
    assert len(site.log) == 3
    assert left(store) == []


async def test_a_silent_server_is_given_up(tmp_path: Path, site: Site) -> None:
    store = ModelStore(tmp_path / "store", Limits(silence_s_max=0.1, retry_s=0.001, failures_max=2))
    site.hold, site.cut_after_bytes = threading.Event(), [10, 0, 0]
    with pytest.raises(StoreError, match="could not be downloaded"):
        await store.pull("w", f"{site.url}/w.gguf", nothing)


async def test_a_file_that_is_not_there_is_told_at_once(store: ModelStore, site: Site) -> None:
    with pytest.raises(StoreError, match="answered 404"):
        await store.pull("w", f"{site.url}/none.gguf", nothing)
    assert len(site.log) == 1


@pytest.mark.parametrize("source", ["/w.gguf;sha256=" + "0" * 64, "/page.gguf"])
async def test_what_is_not_what_was_promised_is_not_kept(store: ModelStore, site: Site, source: str) -> None:
    site.files["/page.gguf"] = b"<html>please log in</html>"
    with pytest.raises(StoreError, match=r"nothing was kept|not a GGUF"):
        await store.pull("w", site.url + source, nothing)
    assert left(store) == []


async def test_a_file_over_the_limit_is_not_even_begun(tmp_path: Path, site: Site) -> None:
    store = ModelStore(tmp_path / "store", Limits(size_bytes_max=MIB))
    with pytest.raises(StoreError, match="allowed"):
        await store.pull("w", f"{site.url}/w.gguf", nothing)
    assert left(store) == []


async def test_redirects_are_followed_but_never_to_an_open_wire(store: ModelStore, site: Site) -> None:
    site.redirects = {
        "/moved.gguf": "/w.gguf",
        "/open.gguf": "http://example.invalid/w.gguf",
        "/round.gguf": "/round.gguf",
        "/file.gguf": "file:///etc/passwd",
    }
    assert (await store.pull("w", f"{site.url}/moved.gguf", nothing)).size_bytes == len(WEIGHTS)
    with pytest.raises(StoreError, match="not encrypted"):
        await store.pull("open", f"{site.url}/open.gguf", nothing)
    with pytest.raises(StoreError, match="redirected more than 10 times"):
        await store.pull("round", f"{site.url}/round.gguf", nothing)
    with pytest.raises(StoreError):
        await store.pull("file", f"{site.url}/file.gguf", nothing)


async def test_two_names_pulled_at_once_from_one_source_download_once(store: ModelStore, site: Site) -> None:
    source = f"{site.url}/w.gguf"
    a, b = await asyncio.gather(store.pull("a", source, nothing), store.pull("b", source, nothing))
    assert a.path == b.path
    assert len(site.log) == 1


PULL = """
import asyncio, sys
from pathlib import Path
from isochrone.adapters.storage import ModelStore
asyncio.run(ModelStore(Path(sys.argv[1])).pull("w", sys.argv[2], lambda *_: None))
"""


def test_two_processes_that_pull_one_source_download_it_once(store: ModelStore, site: Site) -> None:
    site.hold = threading.Event()
    argv = [sys.executable, "-c", PULL, str(store.root), f"{site.url}/w.gguf"]
    with subprocess.Popen(argv) as first, subprocess.Popen(argv) as second:
        assert site.held.wait(20)
        site.hold.set()
        assert (first.wait(20), second.wait(20)) == (0, 0)
    assert len(site.log) == 1
