"""Weights that lie on this machine already: copied, so that the store's blob can't change under us."""

import os
import stat
from pathlib import Path

from isochrone.adapters.storage.job import Fetched, GrowingFile, Job
from isochrone.adapters.storage.sources import LocalPlace
from isochrone.ports import StoreError


async def fetch_local(place: LocalPlace, job: Job) -> Fetched:
    """Copy the file into the job's scratch folder. Raises StoreError when it can't be read or is no GGUF."""
    return await job.in_thread(_copy, place.path, job)


def stamp(path: Path) -> str:
    """Size and time of a local file, to see whether it changed since; "" when it is gone. Blocking."""
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{status.st_size}-{status.st_mtime_ns}"


def _copy(path: Path, job: Job) -> Fetched:
    copy = job.scratch / "copy"
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise StoreError(f"{path} is not a regular file: give the path of a GGUF file.")
        job.expect(status.st_size)
        with path.open("rb") as original, GrowingFile(copy, job, status.st_size) as file:
            return file.pour(original)
    except FileNotFoundError as error:
        raise StoreError(f"There is no file {path}: check the path.") from error
    except PermissionError as error:
        raise StoreError(f"{path} can't be read by user {os.getuid()}: check its permissions.") from error
    except BaseException:
        copy.unlink(missing_ok=True)
        raise
