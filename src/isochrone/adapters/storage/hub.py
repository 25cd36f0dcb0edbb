"""Weights from the Hugging Face hub, by the hub's own library in a child process that can be ended.

The library honours HF_ENDPOINT and HF_TOKEN, verifies and resumes by itself.
"""

import shutil
import sys

import msgspec

from isochrone.adapters.storage.downloader import last_words, run_downloader
from isochrone.adapters.storage.job import Fetched, Job, examine
from isochrone.adapters.storage.sources import HubPlace
from isochrone.ports import StoreError

_WORKER = "isochrone.adapters.storage.hub_worker"


async def fetch_hub(place: HubPlace, job: Job) -> Fetched:
    """Download the file into the job's scratch folder. Raises StoreError with the hub's own words."""
    folder = job.scratch / "hub"
    argv = [sys.executable, "-P", "-m", _WORKER, place.repo, place.file, place.revision or "", str(folder)]
    ended = await run_downloader(
        argv,
        folder,
        job,
        environment={"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"},
        total_bytes=_announced_bytes,
    )
    if ended.status != 0:
        raise StoreError(
            f"{place.file} of {place.repo} could not be downloaded from the hub: {last_words(ended.errors)}."
        )
    file = folder / place.file
    try:
        return await job.in_thread(examine, file, job)
    except StoreError:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _announced_bytes(output: str) -> int | None:
    """The file's size as the worker printed it on its first line, None before."""
    line, newline, _ = output.partition("\n")
    if not newline:
        return None
    try:
        return msgspec.json.decode(line, type=dict[str, int | None]).get("size_bytes")
    except msgspec.DecodeError:
        return None
