"""A server that speaks as much of OpenAI's HTTP as the adapter reads, and a wait with an end."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import psutil


@dataclass
class FakeEngine:
    """What the server answers, by path: (status, body). `None` as a body: silence until `release`."""

    url: str = ""
    answers: dict[str, tuple[int, bytes | None]] = field(default_factory=dict)
    log: list[tuple[str, str | None]] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: FakeEngine

    def do_GET(self) -> None:
        self.fake.log.append((self.path, self.headers.get("Authorization")))
        status, body = self.fake.answers.get(self.path, (404, b"{}"))
        if body is None:
            self.fake.release.wait(20)
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:
            self.close_connection = True

    def log_message(self, *args: Any) -> None:
        pass


async def until(condition: Callable[[], bool], deadline_s: float = 10.0) -> None:
    """Poll for what happens in another process; fails at the deadline."""
    async with asyncio.timeout(deadline_s):
        while not condition():  # noqa: ASYNC110 - no event crosses the process boundary
            await asyncio.sleep(0.01)


def workers() -> list[psutil.Process]:
    """The engines that are children of ours."""
    return [child for child in psutil.Process().children() if "llama_worker" in " ".join(child.cmdline())]
