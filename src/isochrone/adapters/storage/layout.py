"""The store's folder: where blobs, names, locks and unfinished pulls lie. Everything here blocks.

blobs/sha256-<hex>   weights, read-only, put there by one rename
names/<name>.json    what a name means, replaced by one rename
locks/               one flock for each source, and one for changes of blobs and names
tmp/<source key>/    what a pull works in; what a broken pull left behind is resumed or swept
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from isochrone.adapters.storage.job import Fetched
from isochrone.ports import StoredModel

_RECORD_BYTES_MAX = 64 << 10


class Record(msgspec.Struct, frozen=True):
    """What a name means.

    Attributes:
        name: the model's name.
        sha256: digest of its blob, lower-case hex.
        size_bytes: size of its blob.
        source: where it came from, as the user wrote it.
        location: the source's canonical location.
        stamp: size and time of a local original, "" for other sources.
    """

    name: str
    sha256: str
    size_bytes: int
    source: str
    location: str
    stamp: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """The folder `root`; nothing of it need exist before `prepare`."""

    root: Path

    def prepare(self) -> None:
        """Make the folders."""
        for folder in ("blobs", "names", "locks", "tmp"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)

    def blob(self, sha256: str) -> Path:
        """Where the blob of this digest lies, or would."""
        return self.root / "blobs" / f"sha256-{sha256}"

    def scratch(self, key: str) -> Path:
        """The work folder of one source, made when it is missing."""
        folder = self.root / "tmp" / key
        folder.mkdir(exist_ok=True)
        return folder

    def lock(self, key: str) -> Path:
        """The lock file of one source, or of the `names` as a whole."""
        return self.root / "locks" / f"{key}.lock"

    def record(self, name: str) -> Record | None:
        """What `name` means; None when it means nothing, or its blob is gone or cut short."""
        return self._read(self._record_path(name))

    def records(self) -> list[Record]:
        """Every name whose blob is there, in order of name."""
        found = (self._read(path) for path in (self.root / "names").glob("*.json"))
        return sorted((record for record in found if record), key=lambda record: record.name)

    def keep(self, fetched: Fetched) -> None:
        """Make a fetched file a blob. Call it under `changing`."""
        blob = self.blob(fetched.sha256)
        with fetched.path.open("rb") as file:
            os.fsync(file.fileno())
        fetched.path.chmod(0o444)
        fetched.path.replace(blob)

    def write(self, record: Record) -> None:
        """Give a name its meaning, and drop the blob it meant before if no other name needs it."""
        before = self.record(record.name)
        with tempfile.NamedTemporaryFile(dir=self.root / "tmp", delete=False) as file:
            file.write(msgspec.json.encode(record))
            file.flush()
            os.fsync(file.fileno())
        path = Path(file.name)
        path.chmod(0o644)
        path.replace(self._record_path(record.name))
        if before is not None:
            self._drop_blob_if_unused(before.sha256)

    def forget(self, name: str) -> bool:
        """Remove `name`, and its blob if no other name needs it; False when there was none."""
        record = self.record(name)
        try:
            self._record_path(name).unlink()
        except FileNotFoundError:
            return False
        if record is not None:
            self._drop_blob_if_unused(record.sha256)
        return True

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the lock under which blobs and names change; held for moments only."""
        with self.lock("names").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def sweep(self, *, age_s_max: float, spare: str) -> None:
        """Remove what pulls left in `tmp` longer ago than `age_s_max`, save the scratch folder `spare`."""
        oldest = time.time() - age_s_max
        for entry in (self.root / "tmp").iterdir():
            if entry.name == spare or _touched_s(entry) > oldest:
                continue
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)

    def model(self, record: Record) -> StoredModel:
        """The record as the port's noun."""
        return StoredModel(
            name=record.name,
            path=self.blob(record.sha256),
            sha256=record.sha256,
            size_bytes=record.size_bytes,
            source=record.source,
        )

    def _record_path(self, name: str) -> Path:
        return self.root / "names" / f"{name}.json"

    def _read(self, path: Path) -> Record | None:
        try:
            with path.open("rb") as file:
                record = msgspec.json.decode(file.read(_RECORD_BYTES_MAX), type=Record)
            whole = self.blob(record.sha256).stat().st_size == record.size_bytes
        except (FileNotFoundError, msgspec.DecodeError):
            return None  # the next pull of that name writes it anew
        return record if whole and record.name == path.stem else None

    def _drop_blob_if_unused(self, sha256: str) -> None:
        if all(record.sha256 != sha256 for record in self.records()):
            self.blob(sha256).unlink(missing_ok=True)


def _touched_s(entry: Path) -> float:
    """When `entry` or anything in it last changed, seconds since 1970."""
    inside = (os.path.join(folder, name) for folder, _, names in os.walk(entry) for name in (".", *names))
    newest = 0.0
    for path in (str(entry), *inside):
        with contextlib.suppress(FileNotFoundError):  # another pull has just ended
            newest = max(newest, os.lstat(path).st_mtime)
    return newest
