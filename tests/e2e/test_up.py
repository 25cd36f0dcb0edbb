"""`isochrone up` as a user meets it: one command, a whole network, and nothing left behind."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import psutil
import pytest

from tests.e2e.cluster import MODEL, free_port, until

NODES = {"near-busy", "near-cold", "far-ready"}


def isochrone(*arguments: str, timeout_s: float = 30.0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "isochrone", *arguments]
    environment = {**os.environ, "COLUMNS": "160"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=timeout_s, check=False, env=environment
    )


class Up:
    """A running `isochrone up`."""

    def __init__(self, folder: Path, store: Path) -> None:
        self.state, self.store, self.log = folder / "state", store, folder / "up.log"
        self.port = free_port()
        with self.log.open("w") as log:
            self.process = psutil.Popen(
                [sys.executable, "-m", "isochrone", "up", *self.options("--port", str(self.port))],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        until("the network is up", self._is_up, within_s=90)
        self.family = self.process.children(recursive=True)

    def options(self, *more: str) -> list[str]:
        return ["--state-dir", str(self.state), "--store-dir", str(self.store), *more]

    def _is_up(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return "Isochrone is up" in self.log.read_text()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def end(self, number: int) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(30)

    def left(self) -> list[psutil.Process]:
        return [p for p in self.family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Iterator[Up]:
    network = Up(tmp_path_factory.mktemp("up"), store)
    yield network
    network.end(signal.SIGINT)
    assert network.left() == []


def test_tells_where_it_is_and_what_is_emulated(up: Up) -> None:
    text = up.log.read_text()
    assert f"{up.url}/v1" in text
    assert "emulated by delaying bytes" in " ".join(text.split())
    assert all(name in text for name in NODES)


def test_answers_and_explains(up: Up) -> None:
    with openai.OpenAI(base_url=f"{up.url}/v1", api_key="any") as client:
        raw = client.chat.completions.with_raw_response.create(
            model=MODEL, messages=[{"role": "user", "content": "Hello!"}], max_tokens=8, stream=True
        )
        assert list(raw.parse())
    assert raw.headers["x-isochrone-node"] == "far-ready", "near is not soon"
    last = isochrone("explain", "last", "--state-dir", str(up.state))
    assert last.returncode == 0, last.stderr
    assert raw.headers["x-isochrone-decision"] in last.stdout
    assert "→  far-ready" in last.stdout
    assert "predicted" in last.stdout
    by_id = isochrone("explain", raw.headers["x-isochrone-decision"], "--json", "--state-dir", str(up.state))
    assert {c["node"] for c in json.loads(by_id.stdout)["candidates"]} == NODES


def test_status(up: Up) -> None:
    table = isochrone("status", "--state-dir", str(up.state))
    assert table.returncode == 0, table.stderr
    assert all(name in table.stdout for name in NODES)
    fields = json.loads(isochrone("status", "--json", "--state-dir", str(up.state)).stdout)
    nodes = {node["node"]: node for node in fields["nodes"]}
    assert nodes["near-cold"]["models"][0]["state"] == "on_disk"
    assert nodes["far-ready"]["models"][0]["state"] == "ready"
    assert 180 < nodes["far-ready"]["rtt_ms"] < 230
    assert nodes["near-busy"]["rtt_ms"] < 60
    assert nodes["near-busy"]["running"] == nodes["near-busy"]["slots"]


def test_twice_says_so(up: Up) -> None:
    again = isochrone("up", *up.options("--port", str(free_port())))
    assert again.returncode == 1
    assert f"process {up.process.pid}" in again.stderr
    assert "Traceback" not in again.stderr


def test_taken_port_says_so(up: Up, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        taken = isochrone("up", "--state-dir", str(tmp_path), "--store-dir", str(up.store), "--port", port)
    assert taken.returncode == 1
    assert f"127.0.0.1:{port}" in taken.stderr
    assert "--port" in taken.stderr


def test_demo_makes_a_table_and_a_picture(up: Up, tmp_path: Path) -> None:
    """Its shape, not its figures: those are for a quiet machine and `bench/`."""
    picture, report = tmp_path / "demo.png", tmp_path / "demo.json"
    demo = isochrone(
        "demo", "--requests", "4", "--warmup", "2", "--rate-per-s", "2", "--policy", "soonest",
        "--policy", "nearest", "--picture", str(picture), "--report", str(report),
        "--check", "--state-dir", str(up.state), timeout_s=120,
    )  # fmt: skip
    assert "Traceback" not in demo.stderr
    assert demo.returncode == ("does not hold" in demo.stderr), demo.stderr
    assert "soonest" in demo.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    fields = json.loads(report.read_text())
    assert len(fields["samples"]) == 8
    assert {s["policy"] for s in fields["samples"]} == {"soonest", "nearest"}
    assert all(s["ttft_ms"] > 0 for s in fields["samples"] if not s["error"])


def test_killed_node_comes_back(up: Up) -> None:
    def agents() -> list[psutil.Process]:
        own = [p for p in up.process.children() if p.status() != psutil.STATUS_ZOMBIE]
        return [p for p in own if "near-cold" in p.cmdline() and "node" in p.cmdline()]

    (agent,) = agents()
    agent.kill()
    until("another took its place", lambda: [p for p in agents() if p.pid != agent.pid])

    def back() -> bool:
        nodes = httpx.get(f"{up.url}/isochrone/v1/status").json()["nodes"]
        return any(n["node"] == "near-cold" and n["unavailable"] is None and n["age_s"] < 1.5 for n in nodes)

    until("it has joined again", back)
    up.family = up.process.children(recursive=True)


def test_killed_nats_comes_back_and_nobody_minds(up: Up) -> None:
    def status() -> dict[str, object]:
        return httpx.get(f"{up.url}/isochrone/v1/status").json()

    (server,) = [p for p in up.process.children() if p.name() == "nats-server"]
    server.kill()
    until("the gateway noticed", lambda: not status()["bus_up"])
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 2}
    assert httpx.post(f"{up.url}/v1/chat/completions", json=body, timeout=60).status_code == 200
    until("it is back", lambda: status()["bus_up"])
    until("pulses are back", lambda: all(node["age_s"] < 1.5 for node in status()["nodes"]))
    up.family = up.process.children(recursive=True)


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path, store: Path) -> None:
    network = Up(tmp_path, store)
    assert len(network.family) >= 7
    network.end(signal.SIGINT)
    assert network.left() == []
    assert not (network.state / "network.json").exists()
    nothing = isochrone("status", "--state-dir", str(network.state))
    assert nothing.returncode == 1
    assert "isochrone up" in nothing.stderr


def test_killed_supervisor_leaves_nothing_behind(tmp_path: Path, store: Path) -> None:
    network = Up(tmp_path, store)
    network.end(signal.SIGKILL)
    until("all are gone", lambda: not network.left(), within_s=30)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("node", "--engine", "magic"), "there are: llama.cpp, openai"),
        (("node",), "--model"),
        (("node", "--model", "smollm2-135m", "--region", "West Europ"), "West Europe"),
        (("node", "--engine", "openai"), "--url"),
        (("gateway", "--policy", "luck"), "soonest, nearest"),
        (("up", "--policy", "luck"), "soonest, nearest"),
        (("explain", "--gateway", "http://127.0.0.1:9"), "can't be reached"),
        (("models", "remove", "no-such-model"), "no-such-model"),
    ],
)
def test_wrong_options_are_one_clear_sentence(arguments: tuple[str, ...], words: str, tmp_path: Path) -> None:
    extra = () if arguments[0] in ("up", "explain", "models") else ("--nats", "nats://127.0.0.1:9")
    wrong = isochrone(*arguments, *extra)
    assert wrong.returncode in (1, 2)
    assert words in wrong.stderr
    assert "Traceback" not in wrong.stderr
