"""The proxies that `bench/gateway` compares: how each is set up, started and asked after."""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

KEY = "sk-bench-0123456789"
MODEL = "m"
START_S_MAX, STOP_S_MAX, INSTALL_S_MAX = 60.0, 5.0, 900.0
TICKS = os.sysconf("SC_CLK_TCK")
HERE = Path(__file__).parent


class CannotError(Exception):
    """Something is missing; the text says what."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    doors = [socket.socket() for _ in range(count)]
    for door in doors:
        door.bind(("127.0.0.1", 0))
    ports = [door.getsockname()[1] for door in doors]
    for door in doors:
        door.close()
    return ports


def family(pid: int) -> Iterator[int]:
    """`pid` and all that descend from it, as far as they live."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    left = [pid]
    while left:
        one = left.pop()
        yield one
        left += parents.get(one, [])


def cpu_s(pid: int) -> float:
    """CPU time of `pid` and its descendants by the system's books, user and kernel; the dead ones' too.

    The scheduler counts nanoseconds for each thread that lives. Of threads and children that ended only ticks
    are left, which are cut off to whole ones: so few that they may be that alone are left out.
    """
    total_s = 0.0
    for one in family(pid):
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            threads = [told.read_text() for told in Path(f"/proc/{one}/task").glob("*/schedstat")]
        except OSError:
            continue
        process_s, children_s = (sum(map(int, fields[at : at + 2])) / TICKS for at in (11, 13))
        living_s = sum(int(told.split()[0]) for told in threads) / 1e9
        total_s += children_s + (living_s if process_s - living_s <= 2 / TICKS else process_s)
    return total_s


def memory_bytes(pid: int) -> int:
    """Proportional set size of `pid` and its descendants: what they hold, shared pages divided."""
    total = 0
    for one in family(pid):
        try:
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


@dataclass
class Running:
    """A proxy at work."""

    name: str
    port: int
    process: subprocess.Popen
    others: tuple[subprocess.Popen, ...] = ()

    @property
    def pid(self) -> int:
        """Of the proxy, the head of its family."""
        return self.process.pid

    def stop(self) -> None:
        """End it and what it started, which were started here and nowhere else."""
        for process in (self.process, *self.others):
            ours = list(family(process.pid)) if process.poll() is None else []
            process.terminate()
            try:
                process.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for pid in ours[1:]:
                try:
                    os.kill(pid, 9)
                except ProcessLookupError:
                    continue


def answers(port: int) -> bool:
    """Whether a request comes back with tokens."""
    fields = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2, "seed": 0}
    body = json.dumps(fields)
    headers = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", body.encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as reply:
            return b"choices" in reply.read()
    except (urllib.error.URLError, OSError):
        return False


def await_answers(running: Running, log: Path) -> Running:
    """Wait until it serves. Raises CannotError with its last words."""
    until = time.monotonic() + START_S_MAX
    while time.monotonic() < until and running.process.poll() is None:
        if answers(running.port):
            return running
        time.sleep(0.25)
    running.stop()
    words = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    raise CannotError(f"did not serve: {words[-1] if words else 'no word'}")


@dataclass(frozen=True)
class Place:
    """Where things are for this run."""

    cache: Path
    scratch: Path
    upstreams: tuple[int, ...]
    nodes: int

    def log(self, name: str) -> Path:
        """What `name` says."""
        return self.scratch / f"{name}.log"

    def start(self, name: str, command: list[str], env: dict[str, str] | None = None) -> subprocess.Popen:
        """Start a process whose words go to its log."""
        with self.log(name).open("wb") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, cwd=self.scratch
            )

    def venv(self, package: str) -> Path:
        """The programs of `package`, in an environment of its own, made when missing. Raises CannotError."""
        home = self.cache / package.partition("[")[0]
        if not (home / "complete").exists():
            print(f"setting up {package} in {home} ...", file=sys.stderr, flush=True)
            pip = str(home / "bin" / "pip")
            commands = ([sys.executable, "-m", "venv", str(home)], [pip, "install", "-q", package])
            try:
                for command in commands:
                    subprocess.run(command, check=True, capture_output=True, timeout=INSTALL_S_MAX)
            except (subprocess.SubprocessError, OSError) as error:
                raise CannotError(f"{package} could not be installed: {error}") from error
            (home / "complete").touch()
        return home / "bin"


def debian(program: str) -> str:
    """The path of `program`, installed when it is missing and that is allowed. Raises CannotError."""
    where = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
    if (found := shutil.which(program, path=where)) is None and shutil.which("apt-get") and os.geteuid() == 0:
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", program]
        subprocess.run(command, capture_output=True, check=False, env=env, timeout=INSTALL_S_MAX)
        found = shutil.which(program, path=where)
    if found is None:
        raise CannotError("is not installed, and can't be from here")
    return found


def urls(place: Place) -> list[str]:
    """Of the engines."""
    return [f"http://127.0.0.1:{port}" for port in place.upstreams]


def sglang(place: Place) -> Running:
    """SGLang's router, as it comes."""
    port, metrics = free_ports(2)
    command = [str(place.venv("sglang-router") / "sglang-router"), "launch", "--host", "127.0.0.1"]
    command += [
        "--port",
        str(port),
        "--prometheus-port",
        str(metrics),
        "--log-level",
        "warn",
        "--worker-urls",
        *urls(place),
    ]
    return Running("sglang", port, place.start("sglang", command, {**os.environ, "HF_HUB_OFFLINE": "1"}))


def vllm(place: Place) -> Running:
    """The router of vLLM, as it comes."""
    port, metrics = free_ports(2)
    command = [str(place.venv("vllm-router") / "vllm-router"), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--prometheus-port", str(metrics), "--log-level", "warning", "--worker-urls", *urls(place)]
    return Running("vllm", port, place.start("vllm", command))


def litellm(place: Place) -> Running:
    """LiteLLM's proxy, one worker, with a model of all the engines."""
    (port,) = free_ports(1)
    models = [
        {
            "model_name": MODEL,
            "litellm_params": {"model": f"openai/{MODEL}", "api_base": f"{url}/v1", "api_key": "none"},
        }
        for url in urls(place)
    ]
    config = place.scratch / "litellm.yaml"
    config.write_text(json.dumps({"model_list": models, "general_settings": {"master_key": KEY}}))
    programs = place.venv("litellm[proxy]")
    command = [str(programs / "litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    env = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    return Running("litellm", port, place.start("litellm", [*command, "--num_workers", "1"], env))


def nginx(place: Place) -> Running:
    """One worker, connections kept, nothing buffered, no log."""
    (port,) = free_ports(1)
    servers = "".join(f"server 127.0.0.1:{upstream};" for upstream in place.upstreams)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {place.scratch}/{kind};" for kind in kinds)
    config = place.scratch / "nginx.conf"
    config.write_text(
        f"daemon off; master_process off; worker_processes 1; pid {place.scratch}/nginx.pid;"
        "error_log stderr crit;"
        "events { worker_connections 16384; }"
        f"http {{ access_log off; {paths} keepalive_requests 1000000;"
        f"upstream engines {{ {servers} keepalive 256; keepalive_requests 1000000; }}"
        f"server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ proxy_pass http://engines;"
        'proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;'
        "client_body_buffer_size 64k; } } }"
    )
    return Running("nginx", port, place.start("nginx", [debian("nginx"), "-c", str(config)]))


def haproxy(place: Place) -> Running:
    """One thread, connections kept."""
    (port,) = free_ports(1)
    servers = "".join(f"  server s{up} 127.0.0.1:{up}\n" for up in place.upstreams)
    config = place.scratch / "haproxy.cfg"
    config.write_text(
        "global\n  nbthread 1\n  maxconn 8192\n"
        "defaults\n  mode http\n  option http-keep-alive\n  http-reuse always\n"
        "  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n"
        f"frontend f\n  bind 127.0.0.1:{port}\n  default_backend b\nbackend b\n{servers}"
    )
    return Running("haproxy", port, place.start("haproxy", [debian("haproxy"), "-f", str(config)]))


def bare(place: Place) -> Running:
    """No gateway: what moving the bytes costs in Python, below which ours can't come."""
    (port,) = free_ports(1)
    command = [sys.executable, str(HERE / "gateway_bare.py"), str(port), *map(str, place.upstreams)]
    return Running("bare", port, place.start("bare", command))


def isochrone(place: Place) -> Running:
    """Ours, everything on: a key asked for, `nodes` nodes known over a real bus that pulse once a second."""
    port, bus = free_ports(2)
    env = {**os.environ, "ISOCHRONE_TOKEN": "bench", "ISOCHRONE_API_KEYS": KEY}
    env["PYTHONPATH"] = str(HERE.parent / "src")
    feeder = [sys.executable, str(HERE / "gateway_peers.py"), "feed", str(place.scratch / "bus"), str(bus)]
    fed = place.start("feeder", [*feeder, str(place.nodes), *map(str, place.upstreams)], env)
    command = [
        sys.executable,
        "-m",
        "isochrone",
        "gateway",
        "--port",
        str(port),
        "--nats",
        f"nats://127.0.0.1:{bus}",
    ]
    command += ["--in-flight-max", "4000"]
    running = Running("isochrone", port, place.start("isochrone", command, env), (fed,))
    until = time.monotonic() + START_S_MAX
    while time.monotonic() < until and running.process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as reply:
                if json.load(reply)["nodes"] >= place.nodes:
                    return running
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.25)
    running.stop()
    words = place.log("isochrone").read_text()[-300:]
    raise CannotError(f"did not learn of {place.nodes} nodes; its log ends {words!r}")


async def feed(state: Path, port: int, nodes: int, upstreams: list[int]) -> None:
    """A bus, and on it the cards and pulses of `nodes` nodes at the engines' addresses, until ended."""
    # ruff: noqa: PLC0415 - only this part needs what is measured
    from isochrone.adapters.nats_bus import NatsBus
    from isochrone.adapters.nats_server import NatsServer
    from isochrone.model import Load, ModelCard, ModelPulse, ModelState, NodeCard, Pulse
    from isochrone.wire.nodes import bytes_digest, encode_card, encode_pulse
    from isochrone.wire.subjects import pulse_subject

    server = NatsServer(state, port=port, token="bench")
    await server.start()
    bus = await NatsBus.connect(server.url, token="bench", name="feeder")
    names, digests = [f"node-{number:04d}" for number in range(nodes)], []
    for number, name in enumerate(names):
        url = f"http://127.0.0.1:{upstreams[number % len(upstreams)]}"
        models = (ModelCard(MODEL),)
        card = encode_card(NodeCard(name, url, engine="openai", slots=64, queue_max=1000, models=models))
        digests.append(bytes_digest(card))
        await bus.put(name, card)
    epoch, mark, said = time.time_ns() // 1_000_000, 1_234_567_890, []
    model = ModelPulse(MODEL, ModelState.READY, 0.0, 5.0, 0.05, 5.0)
    for number, (name, digest) in enumerate(zip(names, digests, strict=True)):
        load = Load(64, number % 5, 0, 0.0, number % 5 * 0.5, 1.0)
        said.append((pulse_subject(name), encode_pulse(Pulse(name, epoch, mark, digest, load, (model,)))))
    await asyncio.to_thread(pulse, port, said, b"%d" % mark)


def pulse(port: int, said: list[tuple[str, bytes]], mark: bytes) -> None:
    """Publish each (subject, payload) once a second, with the pulse's number in place of `mark`, for an hour.

    Over a socket of its own and from bytes made before: a thousand nodes would run on machines of their own,
    and not take a quarter of a core of this one from what is measured. In 250 groups, for nodes do not pulse
    in step.
    """
    steps = min(len(said), 250)
    with socket.create_connection(("127.0.0.1", port)) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else pulses would wait for each other
        link.sendall(b'CONNECT {"auth_token":"bench","verbose":false,"pedantic":false,"name":"pulses"}\r\n')
        due = time.monotonic()
        for seq in range(1, 3600):
            for step in range(steps):
                words = b""
                for subject, payload in said[step::steps]:
                    load = payload.replace(mark, b"%d" % seq)
                    words += b"PUB %b %d\r\n%b\r\n" % (subject.encode(), len(load), load)
                with contextlib.suppress(BlockingIOError):
                    words += b"PONG\r\n" if b"PING" in link.recv(65536, socket.MSG_DONTWAIT) else b""
                link.sendall(words)
                due += 1 / steps
                time.sleep(max(0.0, due - time.monotonic()))


PEERS: dict[str, Callable[[Place], Running]] = {
    "isochrone": isochrone, "sglang": sglang, "vllm": vllm, "bare": bare,
    "nginx": nginx, "haproxy": haproxy, "litellm": litellm,
}  # fmt: skip

if __name__ == "__main__":
    _, _, where, bus_port, count, *engine_ports = sys.argv
    asyncio.run(feed(Path(where), int(bus_port), int(count), [int(port) for port in engine_ports]))
