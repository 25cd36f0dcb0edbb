"""The store itself: what is on disk is given at once, what is not is fetched once."""

import asyncio
import contextlib
import fcntl
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from isochrone.adapters.storage.hub import fetch_hub
from isochrone.adapters.storage.job import Fetched, Job, Limits
from isochrone.adapters.storage.known import KNOWN
from isochrone.adapters.storage.layout import Layout, Record
from isochrone.adapters.storage.local import fetch_local, stamp
from isochrone.adapters.storage.pypi import fetch_pypi
from isochrone.adapters.storage.sources import (
    HubPlace,
    LocalPlace,
    PypiPlace,
    Source,
    WebPlace,
    check_name,
    parse_source,
)
from isochrone.adapters.storage.web import fetch_web
from isochrone.ports import Progress, StoredModel, StoreError

_LOCK_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class ModelStore:
    """A content-addressed store of weights in the folder `root`; fulfils `ports.Store`.

    Any number of processes may share a folder. Nothing of it need exist before the first pull.
    """

    root: Path
    limits: Limits = field(default_factory=Limits)

    def get(self, name: str) -> StoredModel | None:
        """The model called `name`, or None when it is not on disk. Raises SettingError for a bad name."""
        record = self._layout.record(check_name(name))
        return self._layout.model(record) if record else None

    def list(self) -> tuple[StoredModel, ...]:
        """All models on disk, in order of name."""
        return tuple(self._layout.model(record) for record in self._layout.records())

    def remove(self, name: str) -> bool:
        """Forget `name`, and its blob when no other name needs it. False when there was none."""
        check_name(name)
        if not (self.root / "names").is_dir():
            return False
        with self._layout.changing():
            return self._layout.forget(name)

    async def pull(self, name: str, source: str, progress: Progress) -> StoredModel:
        """Fetch `source` and keep it as `name`; at once when it is on disk already.

        A local file that has changed since is copied anew. A name that meant another source is given its
        new meaning when the fetch has succeeded. Raises SettingError for a name or source that can't be
        understood, StoreError for what goes wrong later.
        """
        check_name(name)
        wanted = parse_source(source)
        try:
            await asyncio.to_thread(self._layout.prepare)
            async with self._only_puller_of(wanted):
                record = await asyncio.to_thread(self._adopt, name, wanted)
                if record is None:
                    record = await self._fetch_and_keep(name, wanted, progress)
        except OSError as error:
            raise StoreError(
                f"The store in {self.root} failed: {error.strerror or error}. Check the disk and permissions."
            ) from error
        progress(record.size_bytes, record.size_bytes)
        return self._layout.model(record)

    @property
    def _layout(self) -> Layout:
        return Layout(self.root)

    @contextlib.asynccontextmanager
    async def _only_puller_of(self, source: Source) -> AsyncIterator[None]:
        """Wait until nobody else, in any process, pulls this source."""
        file = os.open(self._layout.lock(source.key), os.O_RDWR | os.O_CREAT, 0o644)
        try:
            while not _try_lock(file):  # noqa: ASYNC110 - a flock of another process tells no event loop
                await asyncio.sleep(_LOCK_POLL_S)
            yield
        finally:
            os.close(file)

    def _adopt(self, name: str, source: Source) -> Record | None:
        """Have `name` mean what is on disk of `source` already; None when nothing is. Blocking."""
        mark = stamp(source.place.path) if isinstance(source.place, LocalPlace) else ""
        with self._layout.changing():
            for record in self._layout.records():
                if _same(record, source, mark):
                    adopted = msgspec.structs.replace(record, name=name, source=source.text)
                    if adopted != self._layout.record(name):
                        self._layout.write(adopted)
                    return adopted
        return None

    async def _fetch_and_keep(self, name: str, source: Source, progress: Progress) -> Record:
        layout = self._layout
        await asyncio.to_thread(layout.sweep, age_s_max=self.limits.leftover_s_max, spare=source.key)
        hint = next((k.size_bytes for k in KNOWN.values() if k.source == source.text), None)
        job = Job(source, layout.scratch(source.key), self.limits, progress, hint)
        mark = stamp(source.place.path) if isinstance(source.place, LocalPlace) else ""
        try:
            fetched = await _fetch(job)
            if source.sha256 not in {None, fetched.sha256}:
                shutil.rmtree(job.scratch, ignore_errors=True)
                raise StoreError(
                    f"{source.shown} has the digest {fetched.sha256}, not the promised {source.sha256}: "
                    "nothing was kept. Check the source; it may have been replaced."
                )
            record = Record(name, fetched.sha256, fetched.size_bytes, source.text, source.location, mark)
            await job.in_thread(self._keep, fetched, record)
        finally:
            with contextlib.suppress(OSError):  # not empty: what can be resumed stays
                job.scratch.rmdir()
        shutil.rmtree(job.scratch, ignore_errors=True)
        return record

    def _keep(self, fetched: Fetched, record: Record) -> None:
        with self._layout.changing():
            self._layout.keep(fetched)
            self._layout.write(record)


async def _fetch(job: Job) -> Fetched:
    """Fetch by the kind of place."""
    match job.source.place:
        case LocalPlace() as place:
            return await fetch_local(place, job)
        case WebPlace() as place:
            return await fetch_web(place, job)
        case PypiPlace() as place:
            return await fetch_pypi(place, job)
        case HubPlace() as place:
            return await fetch_hub(place, job)


def _same(record: Record, source: Source, mark: str) -> bool:
    """Whether what is on disk is what `source` means now; `mark` stamps a local original, "" when gone."""
    if source.sha256 is not None:
        return record.sha256 == source.sha256
    return record.location == source.location and (not mark or record.stamp == mark)


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
