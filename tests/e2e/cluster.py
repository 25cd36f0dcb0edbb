"""A real network for tests: real NATS, real agents, real llama.cpp, a real gateway, each a process."""

import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

MODEL = "smollm2-135m"
TOKEN = "token-of-the-test-network"
READY_S_MAX = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(what: str, condition: Callable[[], Any], within_s: float = 20.0) -> Any:
    """Poll `condition` until it gives something true; that is returned."""
    deadline = time.monotonic() + within_s
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.05)


class Process:
    """One `python -m isochrone ...`, its output kept, its JSON ready line awaited."""

    def __init__(self, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self.lines: list[str] = []
        self._facts: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "isochrone", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "ISOCHRONE_TOKEN": TOKEN, **(environment or {})},
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            if line.startswith('{"ready"'):
                self._facts.put(json.loads(line))
            else:
                self.lines.append(line.rstrip())
        self.popen.stdout.close()
        self._facts.put(None)

    def facts(self) -> dict[str, Any]:
        facts = self._facts.get(timeout=READY_S_MAX)
        assert facts is not None, f"ended before it was ready: {self.lines}"
        return facts

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def stop(self) -> None:
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGCONT)
            self.popen.terminate()
            try:
                self.popen.wait(10)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()
        self._reader.join(5)


class Cluster:
    """NATS, a gateway and any number of nodes. Close it, and nothing is left."""

    def __init__(self, folder: Path, store: Path) -> None:
        self.folder, self.store, self.state = folder, store, folder / "state"
        self.nats_port, self.nats_dir = free_port(), folder / "nats"
        self.nats_url = f"nats://127.0.0.1:{self.nats_port}"
        self.nats: subprocess.Popen[bytes] | None = None
        self.nodes: dict[str, Process] = {}
        self.node_urls: dict[str, str] = {}
        self.gateway: Process | None = None
        self.url = ""

    # -- parts ---------------------------------------------------------------------------------------

    def start_nats(self) -> None:
        binary = Path(sys.executable).with_name("nats-server")
        command = [str(binary), "-a", "127.0.0.1", "-p", str(self.nats_port), "--auth", TOKEN]
        command += ["-js", "-sd", str(self.nats_dir), "-l", str(self.folder / "nats.log")]
        self.nats = subprocess.Popen(command)
        until("NATS listens", self._nats_listens)

    def _nats_listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.nats_port)) == 0

    def stop_nats(self, *, forget: bool = False) -> None:
        assert self.nats is not None
        self.nats.kill()
        self.nats.wait()
        if forget:
            shutil.rmtree(self.nats_dir)

    def start_node(self, name: str, *options: str, model: str = MODEL) -> Process:
        node = Process(
            "node",
            "--name",
            name,
            "--nats",
            self.nats_url,
            "--store-dir",
            str(self.store),
            *(() if "--engine" in options else ("--model", model)),
            *options,
        )
        self.nodes[name] = node
        self.node_urls[name] = node.facts()["url"]
        return node

    def start_gateway(self, *options: str, environment: dict[str, str] | None = None) -> None:
        arguments = ("gateway", "--port", "0", "--nats", self.nats_url, "--policy-by-header")
        arguments += ("--state-dir", str(self.state))
        self.gateway = Process(*arguments, *options, environment=environment)
        self.url = self.gateway.facts()["url"]

    def close(self) -> None:
        for process in [self.gateway, *self.nodes.values()]:
            if process is not None:
                process.stop()
        if self.nats is not None and self.nats.poll() is None:
            self.nats.kill()
            self.nats.wait()

    # -- looking -------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        return httpx.get(f"{self.url}/isochrone/v1/status").json()

    def node(self, name: str) -> dict[str, Any] | None:
        return next((node for node in self.status()["nodes"] if node["node"] == name), None)

    def model_state(self, name: str, model: str = MODEL) -> str | None:
        node = self.node(name)
        states = {m["model"]: m["state"] for m in node["models"]} if node else {}
        return states.get(model)

    def wait_ready(self, *names: str, model: str = MODEL) -> None:
        until(
            f"{model} is ready on {names}",
            lambda: all(self.model_state(name, model) == "ready" for name in names),
            within_s=30.0,
        )

    def wait_known(self, *names: str) -> None:
        until(f"{names} are known", lambda: all(self.node(name) is not None for name in names))

    def decision(self, request_id: str) -> dict[str, Any]:
        return httpx.get(f"{self.url}/isochrone/v1/decisions/{request_id}").json()

    def pulse(self, name: str) -> dict[str, Any]:
        """The node's state now, asked of the node itself."""
        headers = {"authorization": f"Bearer {TOKEN}"}
        return httpx.get(f"{self.node_urls[name]}/isochrone/v1/state", headers=headers).json()["pulse"]

    def load(self, name: str) -> dict[str, Any]:
        return self.pulse(name)["load"]

    def own_state(self, name: str, model: str = MODEL) -> str | None:
        """The model's state as its node knows it, ahead of any pulse."""
        return next((m["state"] for m in self.pulse(name)["models"] if m["name"] == model), None)

    def wait_idle(self, *names: str) -> None:
        until(
            f"{names} are idle",
            lambda: all(self.load(n)["running"] + self.load(n)["queued"] == 0 for n in names),
        )
