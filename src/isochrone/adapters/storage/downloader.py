"""A child process that downloads into a folder: watched by the folder's size, ended when we are."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from isochrone.adapters.storage.job import Job
from isochrone.ports import StoreError

_POLL_S = 0.2
_OUTPUT_BYTES_MAX = 16 << 10  # the last of what it prints is kept
_ROOM_BYTES = 64 << 20  # for indices and the like beside the file


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended: its exit status (negative: the signal) and the last of what it printed."""

    status: int
    output: str
    errors: str


class _Tail:
    """The last bytes of a stream."""

    def __init__(self) -> None:
        self._kept = bytearray()

    async def read(self, stream: asyncio.StreamReader | None) -> None:
        while stream is not None and (chunk := await stream.read(4096)):
            self._kept += chunk
            del self._kept[:-_OUTPUT_BYTES_MAX]

    @property
    def text(self) -> str:
        return self._kept.decode(errors="replace")


async def run_downloader(
    argv: Sequence[str],
    folder: Path,
    job: Job,
    *,
    environment: Mapping[str, str],
    total_bytes: Callable[[str], int | None],
) -> Ended:
    """Run `argv`, reporting the growth of `folder` as progress, and return how it ended.

    `total_bytes` is asked with what the child printed so far. Raises StoreError when the folder stalls or
    outgrows the limit. However we leave, the child and its children are gone.
    """
    output, errors = _Tail(), _Tail()
    child = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
        start_new_session=True,
    )
    reading = asyncio.gather(output.read(child.stdout), errors.read(child.stderr))
    try:
        await _watch(reading, folder, job, lambda: total_bytes(output.text))
        await child.wait()
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
        status = await child.wait()
        await reading
    return Ended(status, output.text, errors.text)


async def _watch(
    reading: "asyncio.Future[tuple[None, None]]",
    folder: Path,
    job: Job,
    total_bytes: Callable[[], int | None],
) -> None:
    """Poll until the child has closed its output."""
    loop = asyncio.get_running_loop()
    done_bytes, grown_s, expected_bytes = 0, loop.time(), 0
    room_bytes = (
        2 * job.limits.size_bytes_max + _ROOM_BYTES
    )  # a downloader may keep a second copy for a while
    while not (await asyncio.wait({reading}, timeout=_POLL_S))[0]:
        size_bytes = await job.in_thread(_tree_bytes, folder)
        total = total_bytes()
        if size_bytes > done_bytes:
            done_bytes, grown_s = size_bytes, loop.time()
        elif loop.time() - grown_s > job.limits.stall_s_max:
            raise StoreError(
                f"The download of {job.source.shown} stalled for {job.limits.stall_s_max:.0f} s: "
                "check the network, then pull again."
            )
        if total is not None and total != expected_bytes:
            job.expect(total)
            expected_bytes = total
        if size_bytes > room_bytes:
            job.check_size(size_bytes)
        job.report(done_bytes if total is None else min(done_bytes, total), total)


def _tree_bytes(folder: Path) -> int:
    """Bytes in all files under `folder`; those that vanish meanwhile count nothing."""
    size_bytes = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                size_bytes += (Path(root) / name).stat().st_size
    return size_bytes


def last_words(text: str, *, prefix: str = "") -> str:
    """The last line of `text`, of those that begin with `prefix` when there are any, without the prefix."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = [line.removeprefix(prefix).strip() for line in lines if line.startswith(prefix)]
    return (told or lines or ["it said nothing"])[-1].rstrip(".")[:500]
