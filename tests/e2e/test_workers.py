"""Several workers on one port, as processes: bounds that hold across them, and one that is killed."""

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
import trustme

from tests.e2e.cluster import TOKEN, Cluster, Process, until

MODEL = "held"
WORKERS = 3
TRIES = 4 * WORKERS
ANSWER = {
    "id": "1",
    "object": "chat.completion",
    "created": 1,
    "model": MODEL,
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6},
}


class Engine(ThreadingHTTPServer):
    """Speaks OpenAI's HTTP; holds each answer until `go` is set."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.go, self.begun = threading.Event(), threading.Semaphore(0)
        self.go.set()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def forget(self) -> None:
        """Requests begun so far are no longer told by `begun`."""
        while self.begun.acquire(blocking=False):
            pass


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Engine

    def do_GET(self) -> None:
        models = {"object": "list", "data": [{"id": MODEL, "object": "model"}]}
        self._say(200 if self.path == "/v1/models" else 404, models)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.begun.release()
        self.server.go.wait(30)
        self._say(200, ANSWER)

    def _say(self, status: int, fields: object) -> None:
        body = json.dumps(fields).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Crew(Cluster):
    """A gateway of three workers before one node, whose engine answers when it is told to."""

    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__(folder, folder / "store")
        folder.mkdir(exist_ok=True)
        self.engine = Engine()
        self.start_nats()
        self.start_gateway("--name", "crew", "--workers", str(WORKERS), *options)

    def join(self) -> None:
        self.start_node("node", "--engine", "openai", "--url", self.engine.url)
        until("every worker knows the node", self.all_know)

    def all_know(self) -> bool:
        told = self.status()
        known = [worker["nodes"] for worker in told["workers"]]
        return known == [1] * WORKERS and told["nodes"][0]["models"][0]["state"] == "ready"

    def status(self) -> dict[str, Any]:
        return self.read("/isochrone/v1/status").json()

    def read(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, headers={"authorization": f"Bearer {TOKEN}"}, verify=False)

    def workers(self) -> list[psutil.Process]:
        assert self.gateway is not None
        children = psutil.Process(self.gateway.popen.pid).children()
        return [child for child in children if child.status() != psutil.STATUS_ZOMBIE]

    def serving(self, port: int) -> psutil.Process:
        """The worker that has the client on this port."""
        for worker in self.workers():
            if any(c.raddr and c.raddr.port == port for c in worker.net_connections("tcp")):
                return worker
        raise AssertionError(f"no worker serves port {port}")

    def keys(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "isochrone", "keys", *arguments, "--state-dir", str(self.state)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        return done.stdout.strip()

    def ask(self, key: str = "none") -> httpx.Response:
        """On a connection of its own: it meets any of the workers."""
        body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello!"}]}
        headers = {"authorization": f"Bearer {key}"}
        return httpx.post(
            f"{self.url}/v1/chat/completions", json=body, headers=headers, timeout=30, verify=False
        )

    def answers(self, key: str) -> bool:
        """Whether a request is answered; a client that just met a dying worker has to come again."""
        try:
            return self.ask(key).status_code == 200
        except httpx.TransportError:
            return False

    @contextmanager
    def held(self, key: str = "none") -> Iterator[socket.socket]:
        """A request under way at the engine, and its client."""
        self.engine.go.clear()
        self.engine.forget()
        body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "Hello!"}]})
        host, port = self.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as client:
            head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\n"
            client.sendall(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
            assert self.engine.begun.acquire(timeout=20), "the engine was asked"
            yield client
        self.engine.go.set()

    def close(self) -> None:
        self.engine.go.set()
        super().close()
        self.engine.shutdown()
        self.engine.server_close()


@pytest.fixture(scope="module")
def crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    crew = Crew(tmp_path_factory.mktemp("crew"), "--in-flight-max", "3")
    try:
        crew.join()
        yield crew
    finally:
        crew.close()


def test_a_decision_is_found_whichever_worker_made_it(crew: Crew) -> None:
    ids = [crew.ask().headers["x-isochrone-decision"] for _ in range(TRIES)]
    assert len({i.split("-")[1] for i in ids}) > 1, "more than one worker served"
    for decision_id in ids:
        assert [crew.decision(decision_id)["id"] for _ in range(2)] == [decision_id] * 2
    assert crew.decision("last")["id"] == ids[-1]
    assert {record["id"] for record in crew.read("/isochrone/v1/decisions").json()} >= set(ids)
    assert crew.read("/isochrone/v1/decisions/req-w99-1").status_code == 404


def test_one_scrape_tells_of_all_workers(crew: Crew) -> None:
    asked = len(crew.read("/isochrone/v1/decisions").json())
    text = crew.read("/metrics").text
    counted = re.findall(r'^isochrone_requests_total\{status="200",worker="(\d)"\} (\S+)', text, re.MULTILINE)
    assert sum(float(count) for _, count in counted) == asked
    assert set(re.findall(r'isochrone_bus_up\{worker="(\d)"\} 1.0', text)) == {"0", "1", "2"}
    assert text.count("# TYPE isochrone_requests_total counter") == 1


def test_workers_tell_each_other_what_they_send(crew: Crew) -> None:
    line = re.compile(r'^isochrone_ledger_dispatches\{way="(\w+)",worker="\d"\} (\S+)$', re.MULTILINE)

    def ledgers() -> dict[str, float]:
        assert crew.ask().status_code == 200
        counts = {"told": 0.0, "heard": 0.0}
        for way, count in line.findall(crew.read("/metrics").text):
            counts[way] += float(count)
        return counts

    def heard_as_told() -> bool:
        counts = ledgers()
        return counts["told"] >= TRIES and counts["heard"] >= counts["told"]

    # Each dispatch told comes to the two other workers, a scrape may see it told and on its way.
    until("every worker hears the others", heard_as_told)


def test_requests_in_flight_are_bounded_together(crew: Crew) -> None:
    with crew.held(), crew.held(), crew.held():
        answers = [crew.ask() for _ in range(TRIES)]
        assert {answer.status_code for answer in answers} == {503}
        assert answers[0].json()["error"]["code"] == "overloaded"
        assert crew.status()["in_flight"] == 3
    until("all have ended", lambda: crew.status()["in_flight"] == 0)
    assert crew.ask().status_code == 200


def test_keys_and_their_limits_hold_in_all_workers_at_once(crew: Crew) -> None:
    key = crew.keys("make", "bob", "--requests-per-min", "5")
    assert {crew.ask().status_code for _ in range(TRIES)} == {401}
    told = [crew.ask(key) for _ in range(TRIES)]
    assert [answer.status_code for answer in told] == [200] * 5 + [429] * (TRIES - 5)
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in told[:5]] == list("43210")
    with openai.OpenAI(base_url=f"{crew.url}/v1", api_key=key, max_retries=0) as client:
        with pytest.raises(openai.RateLimitError) as refused:
            client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hi"}])
        assert int(refused.value.response.headers["retry-after"]) in range(1, 13)
    crew.keys("limit", "bob", "--requests-per-min", "0")
    assert {crew.ask(key).status_code for _ in range(TRIES)} == {200}
    (listed,) = json.loads(crew.keys("list", "--json"))
    assert (listed["name"], listed["requests_per_min"]) == ("bob", None)
    crew.keys("revoke", "bob")
    assert {crew.ask(key).status_code for _ in range(TRIES)} == {401}
    assert crew.gateway is not None
    assert key not in crew.gateway.text
    assert key not in crew.read("/metrics").text


def test_a_killed_workers_requests_are_given_back_and_it_is_started_again(crew: Crew) -> None:
    key = crew.keys("make", "one-at-a-time", "--concurrency", "1")
    before = {worker.pid for worker in crew.workers()}
    with crew.held(key) as client:
        refused = [crew.ask(key) for _ in range(TRIES)]
        assert {answer.status_code for answer in refused} == {429}
        assert "concurrent" in refused[0].json()["error"]["message"]
        worker = crew.serving(client.getsockname()[1])
        worker.kill()
        assert client.recv(1) == b"", "who it served is cut off"
        crew.engine.go.set()
        until("the others serve, and the key is free", lambda: crew.answers(key))
    until("there are three again", lambda: len(crew.workers()) == WORKERS)
    assert len({worker.pid for worker in crew.workers()} & before) == WORKERS - 1
    until("the new one knows the node", crew.all_know)
    assert {crew.ask(key).status_code for _ in range(TRIES)} == {200}
    assert crew.gateway is not None
    assert "ended by itself (status -9); started again" in crew.gateway.text
    assert crew.status()["in_flight"] == 0


def test_a_worker_that_stands_still_is_ended_and_started_again(tmp_path: Path) -> None:
    with closing(Crew(tmp_path, "--worker-stall-s", "3")) as crew:
        crew.join()
        key = crew.keys("make", "one-at-a-time", "--concurrency", "1")
        until("the workers know the key", lambda: crew.ask("other").status_code == 401)
        before = {worker.pid for worker in crew.workers()}
        with crew.held(key) as client:
            still = crew.serving(client.getsockname()[1])
            still.suspend()
            crew.engine.go.set()
            until("another has its place", lambda: still.pid not in {worker.pid for worker in crew.workers()})
            until("the key is free: what the dead one had is given back", lambda: crew.answers(key))
        until("there are three again", lambda: len(crew.workers()) == WORKERS)
        assert {worker.pid for worker in crew.workers()} & before == before - {still.pid}
        assert crew.gateway is not None
        assert "has stood still for 3 s and is ended" in crew.gateway.text
        assert "was ended; started again" in crew.gateway.text
        until("the new one knows the node", crew.all_know)
        assert {crew.ask(key).status_code for _ in range(TRIES)} == {200}
        assert crew.status()["in_flight"] == 0


def test_the_port_is_not_shared_with_another_gateway(crew: Crew) -> None:
    port = crew.url.rpartition(":")[2]
    for workers in ("1", "2"):
        other = Process("gateway", "--nats", crew.nats_url, "--port", port, "--workers", workers)
        assert other.popen.wait(20) == 1
        other.stop()
        assert "the port is taken" in other.text
        assert "Traceback" not in other.text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_supervisor_however_it_ends(tmp_path: Path, number: signal.Signals) -> None:
    crew = Crew(tmp_path)
    try:
        workers = crew.workers()
        assert len(workers) == WORKERS
        assert crew.gateway is not None
        crew.gateway.signal(number)
        assert crew.gateway.popen.wait(15) == (-9 if number is signal.SIGKILL else 0)
        _, alive = psutil.wait_procs(workers, timeout=15)
        assert alive == []
    finally:
        crew.close()


def test_workers_speak_tls_and_openais_client_to_them(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    files = [tmp_path / name for name in ("cert.pem", "key.pem", "authority.pem")]
    files[0].write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    files[1].write_bytes(issued.private_key_pem.bytes())
    authority.cert_pem.write_to_path(str(files[2]))
    crew = Crew(tmp_path / "crew", "--tls-cert", str(files[0]), "--tls-key", str(files[1]))
    try:
        crew.join()
        context = ssl.create_default_context(cafile=str(files[2]))
        http = httpx.Client(verify=context, trust_env=False)
        with openai.OpenAI(base_url=f"{crew.url}/v1", api_key="none", http_client=http) as client:
            answer = client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": "Hello!"}]
            )
        assert crew.url.startswith("https://")
        assert answer.choices[0].message.content == "Hi"
        command = [sys.executable, "-m", "isochrone", "status", "--json", "--gateway", crew.url]
        environment = {**os.environ, "SSL_CERT_FILE": str(files[2])}
        told = subprocess.run(
            command, capture_output=True, text=True, timeout=30, env=environment, check=False
        )
        assert json.loads(told.stdout)["nodes"][0]["node"] == "node", told.stderr
    finally:
        crew.close()


def test_up_runs_several_workers_and_needs_no_key_of_its_own(tmp_path: Path) -> None:
    state = ("--state-dir", str(tmp_path / "state"))
    (tmp_path / "state").mkdir(mode=0o700)
    made = [sys.executable, "-m", "isochrone", "keys", "make", "bob", *state]
    subprocess.run(made, capture_output=True, timeout=30, check=True)
    network = Process("up", "--bare", "--workers", "2", "--port", "0", *state)
    try:
        until("the network is up", lambda: "Isochrone is up" in network.text, within_s=60.0)
        family = psutil.Process(network.popen.pid).children(recursive=True)
        command = [sys.executable, "-m", "isochrone", "status", "--json", *state]
        told = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        workers = json.loads(told.stdout)["workers"]
        assert [worker["gateway"] for worker in workers] == ["gateway-w0", "gateway-w1"]
    finally:
        network.stop()
    assert psutil.wait_procs(family, timeout=15)[1] == []


def test_up_speaks_tls_and_its_own_commands_trust_it(tmp_path: Path) -> None:
    """Under an address that its certificate does not have: it is for strangers' sake."""
    issued = trustme.CA().issue_cert("chat.example.org")
    files = [tmp_path / name for name in ("cert.pem", "key.pem")]
    files[0].write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    files[1].write_bytes(issued.private_key_pem.bytes())
    state = ("--state-dir", str(tmp_path / "state"))
    options = ("--tls-cert", str(files[0]), "--tls-key", str(files[1]), "--worker-stall-s", "9", *state)
    network = Process("up", "--bare", "--workers", "2", "--port", "0", *options)
    try:
        until("the network is up", lambda: "Isochrone is up" in network.text, within_s=60.0)
        assert re.search(r"https://127\.0\.0\.1:\d+/v1", network.text)
        assert "its certificate is for chat.example.org" in network.text
        command = [sys.executable, "-m", "isochrone", "status", "--json", *state]
        told = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        assert len(json.loads(told.stdout)["workers"]) == 2
    finally:
        network.stop()


def test_half_a_pair_is_said_in_a_sentence(tmp_path: Path) -> None:
    lone = Process("gateway", "--nats", "nats://127.0.0.1:9", "--tls-cert", str(tmp_path / "none.pem"))
    assert lone.popen.wait(20) == 1
    lone.stop()
    assert "--tls-cert and --tls-key go together" in lone.text
    assert "Traceback" not in lone.text
