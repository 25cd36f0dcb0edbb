"""A web site that can be told to misbehave, and what tests of the store have in common."""

import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import psutil

from isochrone.adapters.storage import ModelStore

WEIGHTS = b"GGUF" + bytes(range(256)) * 12_288  # 3 MiB


@dataclass
class Site:
    """What the site serves, and how badly. `log` holds (path, Range header) of each GET."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    resumable: bool = True
    etag: str = '"one"'
    cut_after_bytes: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    redirects: dict[str, str] = field(default_factory=dict)
    log: list[tuple[str, str | None]] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    hold: threading.Event | None = None
    held: threading.Event = field(default_factory=threading.Event)

    @property
    def ranges(self) -> list[str | None]:
        return [asked for _, asked in self.log]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self.site.log.append((self.path, self.headers.get("Range")))
        self.site.authorizations.append(self.headers.get("Authorization"))
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        site, content = self.site, self.site.files.get(self.path)
        if body and site.statuses:
            return self._empty(site.statuses.pop(0))
        if self.path in site.redirects:
            return self._empty(302, Location=site.redirects[self.path])
        if content is None:
            return self._empty(404, **{"X-Error-Code": "EntryNotFound"})  # as the hub says it
        offset = self._offset(len(content))
        self.send_response(206 if offset else 200)
        headers = {"Content-Length": str(len(content) - offset), **site.headers}
        if site.resumable:
            headers |= {"Accept-Ranges": "bytes", "ETag": site.etag}
        if offset:
            headers["Content-Range"] = f"bytes {offset}-{len(content) - 1}/{len(content)}"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self._send(content[offset:])
        return None

    def _send(self, content: bytes) -> None:
        cut = self.site.cut_after_bytes.pop(0) if self.site.cut_after_bytes else len(content)
        self.wfile.write(content[:cut])
        if self.site.hold is not None:
            self.wfile.flush()
            self.site.held.set()
            self.site.hold.wait(20)
        self.close_connection = self.close_connection or cut < len(content)

    def _offset(self, size: int) -> int:
        asked = self.headers.get("Range", "")
        fresh = self.headers.get("If-Range", self.site.etag) == self.site.etag
        if not (asked.startswith("bytes=") and self.site.resumable and fresh):
            return 0
        return min(int(asked.removeprefix("bytes=").partition("-")[0]), size)

    def _empty(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:
            self.close_connection = True


def left(store: ModelStore) -> list[str]:
    """What of blobs, names and unfinished work is in a store, as relative paths."""
    folders = (store.root / name for name in ("blobs", "names", "tmp"))
    found = (path for folder in folders for path in folder.rglob("*"))
    return sorted(str(path.relative_to(store.root)) for path in found)


def downloaders() -> list[psutil.Process]:
    """The downloads that are children of ours."""
    lines = ((child, " ".join(child.cmdline())) for child in psutil.Process().children())
    return [child for child, line in lines if "pip download" in line or "hub_worker" in line]


def nothing(done_bytes: int, total_bytes: int | None) -> None:
    """Progress for those who don't look."""
