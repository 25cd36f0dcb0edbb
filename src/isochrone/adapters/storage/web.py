"""Weights behind a URL: streamed, resumed where the server allows it, never over an open wire."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec

from isochrone.adapters.storage.job import CHUNK_BYTES, Fetched, GrowingFile, Job
from isochrone.adapters.storage.sources import WebPlace, check_url
from isochrone.ports import SettingError, StoreError

_REDIRECTS_MAX = 10
_BUSY_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})


class _PassingError(Exception):
    """The server can't answer now, or the file changed while we read: worth another try."""


class _Validator(msgspec.Struct, frozen=True):
    """What `If-Range` needs, kept beside a part that the server lets us resume."""

    value: str


async def fetch_web(place: WebPlace, job: Job) -> Fetched:
    """Download into the job's scratch folder, going on from a part left there. Raises StoreError.

    A part is left behind when we break off, and used if the server promised that it can be resumed. Tries
    again after network failures until `failures_max` of them came in a row without progress between them.
    """
    limits = job.limits
    timeout = httpx.Timeout(limits.silence_s_max, connect=limits.connect_s_max)
    farthest_bytes = failures = 0
    async with httpx.AsyncClient(timeout=timeout) as client:
        while True:
            try:
                return await _attempt(client, place.url, job)
            except StoreError:
                _forget_part(job)
                raise
            except (httpx.TransportError, _PassingError) as error:
                reached_bytes = _part_bytes(job)
                failures = 1 if reached_bytes > farthest_bytes else failures + 1
                farthest_bytes = max(farthest_bytes, reached_bytes)
                if failures >= limits.failures_max:
                    raise StoreError(
                        f"{job.source.shown} could not be downloaded: {_words(error)}. "
                        "Check the address and the network, then pull again."
                    ) from error
            await asyncio.sleep(limits.retry_s * 2 ** (failures - 1))


async def _attempt(client: httpx.AsyncClient, url: str, job: Job) -> Fetched:
    """One try; the part grows in place. Raises StoreError, httpx.TransportError or _PassingError."""
    part = _part(job)
    offset_bytes = _part_bytes(job)
    headers = {"Accept-Encoding": "identity"}
    if offset_bytes:
        headers |= {"Range": f"bytes={offset_bytes}-", "If-Range": _read_validator(job) or ""}
    async with _get(client, url, headers, job) as response:
        resumed = response.status_code == httpx.codes.PARTIAL_CONTENT
        _check(response, offset_bytes, job)
        total_bytes = _total_bytes(response, offset_bytes if resumed else 0)
        if total_bytes is not None:
            job.expect(total_bytes - (offset_bytes if resumed else 0))
            job.check_size(total_bytes)
        if not resumed:
            _note_validator(response, job)
        file = await job.in_thread(GrowingFile, part, job, total_bytes, resume=resumed)
        try:
            async for chunk in response.aiter_raw(CHUNK_BYTES):
                await job.in_thread(file.write, chunk)
            return file.finish()
        finally:
            file.close()


@contextlib.asynccontextmanager
async def _get(
    client: httpx.AsyncClient, url: str, headers: dict[str, str], job: Job
) -> AsyncIterator[httpx.Response]:
    """The response at the end of the redirects, each of which is checked. Raises StoreError."""
    request: httpx.Request | None = client.build_request("GET", url, headers=headers)
    for _ in range(_REDIRECTS_MAX + 1):
        if request is None:
            break
        try:
            check_url(str(request.url))
        except SettingError as error:
            raise StoreError(f"{job.source.shown} was redirected where we don't follow: {error}") from error
        response = await client.send(request, stream=True)
        try:
            if not response.has_redirect_location:
                yield response
                return
            request = response.next_request
        finally:
            await response.aclose()
    raise StoreError(f"{job.source.shown} is redirected more than {_REDIRECTS_MAX} times: check the address.")


def _check(response: httpx.Response, offset_bytes: int, job: Job) -> None:
    """Raises StoreError for an answer that no further try would mend, _PassingError for others."""
    status = response.status_code
    if status in _BUSY_STATUSES:
        raise _PassingError(f"the server answered {status} {response.reason_phrase}")
    if status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE and offset_bytes:
        _forget_part(job)
        raise _PassingError("the server no longer has the part that we asked for")
    if status == httpx.codes.PARTIAL_CONTENT:
        if response.headers.get("Content-Range", "").startswith(f"bytes {offset_bytes}-") and offset_bytes:
            return
        _forget_part(job)
        raise _PassingError("the server sent another part than we asked for")
    if status != httpx.codes.OK:
        raise StoreError(
            f"{job.source.shown} can't be downloaded: the server answered {status} "
            f"{response.reason_phrase}. Check the address."
        )
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise StoreError(f"{job.source.shown} is sent compressed although we asked otherwise.")


def _total_bytes(response: httpx.Response, offset_bytes: int) -> int | None:
    """Size of the whole file, or None when the server does not tell."""
    length = response.headers.get("Content-Length", "")
    return offset_bytes + int(length) if length.isdecimal() else None


def _part(job: Job) -> Path:
    return job.scratch / "part"


def _part_bytes(job: Job) -> int:
    """Size of what can be resumed; 0 when there is nothing."""
    part = _part(job)
    return part.stat().st_size if part.exists() and _read_validator(job) else 0


def _note_validator(response: httpx.Response, job: Job) -> None:
    """Keep what resuming will need, if the server can resume: a strong ETag, or else the file's date."""
    etag = response.headers.get("ETag", "")
    value = etag if etag.startswith('"') else response.headers.get("Last-Modified", "")
    _part(job).unlink(missing_ok=True)
    note = job.scratch / "validator.json"
    if value and response.headers.get("Accept-Ranges", "").lower() == "bytes":
        note.write_bytes(msgspec.json.encode(_Validator(value)))
    else:
        note.unlink(missing_ok=True)


def _read_validator(job: Job) -> str | None:
    try:
        return msgspec.json.decode((job.scratch / "validator.json").read_bytes(), type=_Validator).value
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _forget_part(job: Job) -> None:
    for name in ("part", "validator.json"):
        (job.scratch / name).unlink(missing_ok=True)


def _words(error: Exception) -> str:
    return str(error).rstrip(".") or type(error).__name__
