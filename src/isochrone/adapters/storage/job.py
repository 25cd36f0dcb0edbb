"""One pull at work: its folder, its limits, and the file that grows in it."""

import asyncio
import hashlib
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, ParamSpec, Self, TypeVar

from isochrone.adapters.storage.sources import Source
from isochrone.ports import Progress, StoreError

CHUNK_BYTES = 1 << 20
_MAGIC = b"GGUF"
_DISK_SPARE_BYTES = 64 << 20  # left free for others

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a pull.

    Attributes:
        size_bytes_max: largest file that is kept.
        connect_s_max: longest wait for a connection.
        silence_s_max: longest wait for the next bytes of a server.
        stall_s_max: longest time a downloading child process (pip, the hub's library) may add nothing.
        failures_max: network failures in a row, without progress between them, before we give up.
        retry_s: pause after the first failure, doubled after each further one.
        leftover_s_max: age at which what a broken pull left behind is removed.
    """

    size_bytes_max: int = 64 << 30
    connect_s_max: float = 15.0
    silence_s_max: float = 60.0
    stall_s_max: float = 300.0
    failures_max: int = 5
    retry_s: float = 1.0
    leftover_s_max: float = 86_400.0


class StoppedError(Exception):
    """The pull was cancelled; a thread that worked for it leaves. Never reaches a caller."""


@dataclass(slots=True)
class Job:
    """One pull of one source.

    Attributes:
        source: what is fetched.
        scratch: a folder of this source alone, in the store's file system; kept when a pull breaks off.
        limits: the bounds.
        progress: the caller's listener.
        size_bytes_hint: expected size of the weights, when known beforehand.
    """

    source: Source
    scratch: Path
    limits: Limits
    progress: Progress
    size_bytes_hint: int | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _reported_bytes: int = 0

    def expect(self, size_bytes: int) -> None:
        """Check that `size_bytes` more may be written here. Raises StoreError."""
        self.check_size(size_bytes)
        free_bytes = shutil.disk_usage(self.scratch).free - _DISK_SPARE_BYTES
        if size_bytes > free_bytes:
            raise StoreError(
                f"{self.source.shown} needs {_mib(size_bytes)} and {self.scratch.parent} has "
                f"{_mib(max(0, free_bytes))} to spare: free some disk or place the store elsewhere."
            )

    def check_size(self, size_bytes: int) -> None:
        """Raises StoreError when `size_bytes` is over the limit."""
        if size_bytes > self.limits.size_bytes_max:
            raise StoreError(
                f"{self.source.shown} has more than the {_mib(self.limits.size_bytes_max)} allowed for one "
                "model: raise the store's limit if that is right."
            )

    def advance(self, done_bytes: int, total_bytes: int | None) -> None:
        """Report progress. Raises StoreError over the size limit, StoppedError after cancellation."""
        if self._stop.is_set():
            raise StoppedError
        self.check_size(done_bytes)
        self.report(done_bytes, total_bytes)

    def report(self, done_bytes: int, total_bytes: int | None) -> None:
        """Tell the caller; unpacking and hashing what was downloaded never count backwards."""
        self._reported_bytes = max(self._reported_bytes, done_bytes)
        self.progress(self._reported_bytes, total_bytes)

    async def in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run blocking `function` in a thread. When cancelled, the thread has left before we return.

        A long `function` leaves early because `advance` raises in it.
        """
        work = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            self._stop.set()
            await asyncio.wait({work})
            work.exception()  # seen: cancellation is what the caller hears of
            raise


@dataclass(frozen=True, slots=True)
class Fetched:
    """A whole file in a job's scratch folder, not yet in the store. `sha256` is lower-case hex."""

    path: Path
    sha256: str
    size_bytes: int


class GrowingFile:
    """A GGUF file that is hashed and bounded as it is written. Blocking; a context manager."""

    def __init__(self, path: Path, job: Job, total_bytes: int | None = None, *, resume: bool = False) -> None:
        """Begin an empty file at `path`; with `resume`, go on behind what it holds, which is hashed first."""
        self.size_bytes = 0
        self._path = path
        self._job = job
        self._total_bytes = total_bytes
        self._digest = hashlib.sha256()
        self._file: IO[bytes] = path.open("r+b" if resume else "wb")
        try:
            while resume and (chunk := self._file.read(CHUNK_BYTES)):
                self._count(chunk)
            job.advance(self.size_bytes, total_bytes)
        except BaseException:
            self.close()
            raise

    def write(self, chunk: bytes) -> None:
        """Append `chunk`. Raises StoreError when the file is no GGUF or too large."""
        if not self.size_bytes and not chunk.startswith(_MAGIC):
            raise not_gguf(self._job.source, chunk)
        self._file.write(chunk)
        self._count(chunk)

    def pour(self, stream: IO[bytes]) -> Fetched:
        """Append all of `stream` and finish."""
        while chunk := stream.read(CHUNK_BYTES):
            self.write(chunk)
        return self.finish()

    def finish(self) -> Fetched:
        """Close it and say what came of it. Raises StoreError when it is empty."""
        if not self.size_bytes:
            raise not_gguf(self._job.source, b"")
        self.close()
        return Fetched(self._path, self._digest.hexdigest(), self.size_bytes)

    def close(self) -> None:
        """Close it, finished or not; more than once does no harm."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _count(self, chunk: bytes) -> None:
        self._digest.update(chunk)
        self.size_bytes += len(chunk)
        self._job.advance(self.size_bytes, self._total_bytes)


def examine(path: Path, job: Job) -> Fetched:
    """Hash a file that is whole already. Blocking. Raises StoreError when it is no GGUF or too large."""
    total_bytes = path.stat().st_size
    job.check_size(total_bytes)
    with path.open("rb") as stream:
        head = stream.read(len(_MAGIC))
    if head != _MAGIC:
        raise not_gguf(job.source, head)
    with GrowingFile(path, job, total_bytes, resume=True) as file:
        return file.finish()


def not_gguf(source: Source, head: bytes) -> StoreError:
    """The error for a file that begins with `head` instead of GGUF's magic."""
    return StoreError(
        f"{source.shown} is not a GGUF file: it begins with {head[:8]!r}, not b'GGUF'. "
        "Give the address of the weights themselves, in GGUF format."
    )


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 20):,.0f} MiB"
