"""`isochrone up`: a whole network on this machine, supervised, and gone with Ctrl-C."""

import asyncio
import contextlib
import os
import random
import secrets
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx
import msgspec
import typer
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from isochrone.adapters.nats_server import NatsServer
from isochrone.adapters.regions import load_regions
from isochrone.adapters.storage import ModelStore, parse_model_option
from isochrone.cli.limits import CorsOption, LimitOption, as_options
from isochrone.cli.models import pull_with_progress
from isochrone.cli.network_file import (
    NetworkFile,
    default_state_dir,
    default_store_dir,
    only_one,
    write_network,
)
from isochrone.cli.places import DEMO_MODEL, DEMO_NODES, GATEWAY_REGION, DemoNode
from isochrone.cli.policy import check_policy
from isochrone.cli.shell import TOKEN_VARIABLE, cannot_listen, run, until_signal
from isochrone.cli.supervise import Child, Program
from isochrone.cli.tls import TlsCertOption, TlsFiles, TlsKeyOption, trusting
from isochrone.cli.wan import LinkPlan
from isochrone.cli.workers import StallOption, check_stall_s
from isochrone.gateway.crew import WORKERS_MAX
from isochrone.gateway.crew.heartbeat import STALL_S
from isochrone.ports import IsochroneError, SettingError
from isochrone.wire.subjects import STATUS_PATH

_READY_S_MAX = 120.0
_LOOK_S = 0.1
_NATS_LOOK_S = 1.0
_PORTS = range(20_000, 30_000)
_PORT_TRIES = 1000


def up(
    port: Annotated[int, typer.Option(min=0, max=65535, help="The gateway's port; 0: any free one.")] = 8080,
    policy: Annotated[
        str,
        typer.Option(help="How the gateway chooses: NAME[:PARAMETER=VALUE,...]; see 'isochrone policies'."),
    ] = "soonest",
    workers: Annotated[
        int,
        typer.Option(min=1, max=WORKERS_MAX, help="Processes of the gateway that serve the port together."),
    ] = 1,
    worker_stall_s: StallOption = STALL_S,
    limit: LimitOption = None,
    cors_origin: CorsOption = None,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    bare: Annotated[bool, typer.Option(help="Only the bus and the gateway; join nodes of your own.")] = False,
    state_dir: Annotated[Path | None, typer.Option(help="Where the network keeps its state.")] = None,
    store_dir: Annotated[Path | None, typer.Option(help="Where weights are kept.")] = None,
) -> None:
    """Start a network on this machine: NATS, three inference nodes with real models, and a gateway.

    The three nodes are given places and conditions of their own, so that near is not soon; the distance
    between places is emulated, everything else is real. Ctrl-C ends it all.
    """
    check_policy(policy)
    limits = as_options(limit or (), cors_origin or ())
    options = ("--worker-stall-s", str(check_stall_s(worker_stall_s)), *limits)
    files = TlsFiles.of(tls_cert, tls_key)
    plan = GatewayPlan(port, policy, workers, options, None if files is None else Tls(files, files.names()))
    state = state_dir or default_state_dir()
    with only_one(state):
        network = Network(state, store_dir or default_store_dir(), () if bare else DEMO_NODES)
        run(network.run(plan))


def free_ports(count: int) -> list[int]:
    """Different ports of the loopback that nobody uses just now.

    They lie below the range from which systems take the ports of outgoing connections, so that none of those
    can take one before its owner has started. Raises SettingError when there are not so many.
    """
    ports: list[int] = []
    with contextlib.ExitStack() as held:
        for _ in range(_PORT_TRIES):
            if len(ports) == count:
                return ports
            probe = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", random.choice(_PORTS)))
                ports.append(probe.getsockname()[1])
    raise SettingError(f"{count} free ports could not be found between {_PORTS[0]} and {_PORTS[-1]}")


def check_free(port: int) -> None:
    """Raises SettingError when `port` of the loopback is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise cannot_listen("the gateway", ("127.0.0.1", port), "--port", error) from error


@dataclass(frozen=True, slots=True)
class Tls:
    """What the gateway speaks TLS with, and the names that its certificate is for."""

    files: TlsFiles
    names: tuple[str, ...]

    def curl(self, url: str) -> str:
        """The beginning of a command that reaches `url` on this machine, with the certificate verified."""
        parts = urlsplit(url)
        options = f"curl --cacert {quote(str(self.files.certificate.absolute()))}"
        named = [name for name in self.names if not {"*", ":"} & set(name)]
        if parts.hostname in named or not named:
            return f"{options} {url}"
        name = named[0]
        return f"{options} --connect-to ::{parts.netloc} https://{name}:{parts.port}{parts.path}"


@dataclass(frozen=True, slots=True)
class GatewayPlan:
    """How the gateway is to run; port 0: any free one; `options` of its command line beside these."""

    port: int
    policy: str
    workers: int
    options: tuple[str, ...] = ()
    tls: Tls | None = None


class Network:
    """The processes of one network, started in order and stopped in the reverse."""

    def __init__(self, state_dir: Path, store_dir: Path, nodes: tuple[DemoNode, ...]) -> None:
        self._state_dir, self._store_dir, self._nodes = state_dir, store_dir, nodes
        self._console = Console()
        self._token = secrets.token_urlsafe(24)
        self._children: list[Child] = []
        own, *rest = free_ports(2 + 3 * len(nodes))
        self._spare_port, self._nats_port = own, rest.pop()
        self._nats = NatsServer(state_dir / "nats", port=self._nats_port, token=self._token)
        self._node_ports = {node.name: rest.pop() for node in nodes}
        self._link_ports = {node.name: (rest.pop(), rest.pop()) for node in nodes}
        self._watcher: asyncio.Task[None] | None = None
        self._gateway_url = ""
        self._tls: Tls | None = None

    async def run(self, gateway: GatewayPlan) -> None:
        """Start, wait for Ctrl-C, stop."""
        check_free(gateway.port)
        self._tls = gateway.tls

        async def start() -> None:
            if self._nodes:
                store = ModelStore(self._store_dir)
                name, source = parse_model_option(DEMO_MODEL)
                await pull_with_progress(self._console, store, name, source)
            with self._console.status("starting") as status:
                await self._start(status.update, gateway)
            write_network(self._state_dir, self._file())
            self._greet()

        try:
            await until_signal(start, self._stop)
        finally:
            self._console.print("[dim]all processes have ended[/dim]")

    # -- starting ------------------------------------------------------------------------------------

    async def _start(self, say: Callable[[str], None], plan: GatewayPlan) -> None:
        say("starting NATS with JetStream")
        await self._nats.start()
        self._watcher = asyncio.create_task(self._watch_nats())
        if self._nodes:
            say("starting the emulated network between places")
            await self._child(Program("wan", ("wan", str(self._wan_plan()))))
        say("starting the gateway and the nodes")
        programs = [self._gateway_program(plan)]
        programs += [self._node_program(node) for node in self._nodes]
        gateway, *_ = await asyncio.gather(*(self._child(program) for program in programs))
        self._gateway_url = str(gateway.facts["url"])
        await self._until(self._all_ready, say)
        for node in self._nodes:
            if node.neighbours:
                say(f"letting {node.name} have users of its own")
                await self._child(self._neighbour_program(node))
        await self._until(self._all_busy, say)

    async def _watch_nats(self) -> None:
        """Start NATS again when it ends by itself; the network goes on meanwhile."""
        while True:
            await asyncio.sleep(_NATS_LOOK_S)
            if not self._nats.alive:
                self._tell("NATS ended by itself and is started again")
                try:
                    await self._nats.start()
                except IsochroneError as error:
                    self._tell(f"NATS could not be started: {error}")

    async def _child(self, program: Program) -> Child:
        child = Child(program, self._state_dir / "logs", self._tell)
        self._children.append(child)
        await child.start()
        return child

    def _tell(self, line: str) -> None:
        self._console.print(line, style="yellow", markup=False, highlight=False)

    def _wan_plan(self) -> Path:
        table, plans = load_regions(), []
        for node in self._nodes:
            out_ms = (table.rtt_ms(GATEWAY_REGION, node.region) or 0.0) / 2
            back_ms = (table.rtt_ms(node.region, GATEWAY_REGION) or 0.0) / 2
            to_node, to_nats = self._link_ports[node.name]
            plans.append(LinkPlan(node.name, to_node, self._node_ports[node.name], out_ms, back_ms))
            plans.append(LinkPlan(f"{node.name} to NATS", to_nats, self._nats_port, back_ms, out_ms))
        path = self._state_dir / "wan.json"
        path.write_bytes(msgspec.json.encode(plans))
        return path

    def _environment(self) -> dict[str, str]:
        return {TOKEN_VARIABLE: self._token}

    def _gateway_program(self, plan: GatewayPlan) -> Program:
        arguments = [
            "gateway",
            "--name",
            "gateway",
            "--port",
            str(plan.port or self._spare_port),
            "--policy",
            plan.policy,
            "--policy-by-header",
        ]
        arguments += ["--workers", str(plan.workers), "--state-dir", str(self._state_dir)]
        arguments += ["--nats", self._nats.url, *plan.options]
        arguments += [] if plan.tls is None else plan.tls.files.options()
        if self._nodes:
            arguments += ["--region", GATEWAY_REGION]
        return Program("gateway", arguments, self._environment())

    def _node_program(self, node: DemoNode) -> Program:
        to_node, to_nats = self._link_ports[node.name]
        idle_unload_s = 0.0 if node.idle_unload_s == float("inf") else node.idle_unload_s
        arguments = ["node", "--name", node.name, "--model", DEMO_MODEL, "--operator", node.operator]
        arguments += ["--region", node.region, "--port", str(self._node_ports[node.name])]
        arguments += ["--advertise-url", f"http://127.0.0.1:{to_node}"]
        arguments += ["--nats", f"nats://127.0.0.1:{to_nats}"]
        arguments += ["--preload" if node.preload else "--no-preload"]
        arguments += ["--idle-unload-s", str(idle_unload_s), "--store-dir", str(self._store_dir)]
        arguments += ["--failure-domain", f"operator:{node.operator}"]
        arguments += ["--failure-domain", f"region:{node.region}"]
        return Program(node.name, arguments, self._environment())

    def _neighbour_program(self, node: DemoNode) -> Program:
        url = f"http://127.0.0.1:{self._node_ports[node.name]}"
        arguments = ("neighbour", url, "--model", DEMO_MODEL, "--users", str(node.neighbours))
        return Program(f"neighbours-of-{node.name}", arguments, self._environment())

    def _all_ready(self, nodes: dict[str, Any]) -> bool:
        """Whether the gateway knows every node, and every preloaded model as ready."""
        return all(
            node.name in nodes and (not node.preload or nodes[node.name]["models"][0]["state"] == "ready")
            for node in self._nodes
        )

    def _all_busy(self, nodes: dict[str, Any]) -> bool:
        """Whether the gateway has heard of the users of the nodes that have some."""
        busy = [node.name for node in self._nodes if node.neighbours]
        return all(name in nodes and nodes[name]["running"] > 0 for name in busy)

    async def _until(self, condition: Callable[[dict[str, Any]], bool], say: Callable[[str], None]) -> None:
        """Wait until `condition` holds of the gateway's view of the nodes, by name; tell what that is."""
        headers = {"authorization": f"Bearer {self._token}"}
        tls = True if self._tls is None else trusting(self._tls.files.certificate)
        async with httpx.AsyncClient(trust_env=False, headers=headers, verify=tls) as client:
            try:
                async with asyncio.timeout(_READY_S_MAX):
                    while not condition(nodes := await self._look(client)):
                        say(f"nodes: {_states(nodes) or 'none has joined yet'}")
                        await asyncio.sleep(_LOOK_S)
            except TimeoutError:
                raise IsochroneError(
                    f"the network was not ready within {_READY_S_MAX:.0f} s; see {self._state_dir / 'logs'}"
                ) from None

    async def _look(self, client: httpx.AsyncClient) -> dict[str, Any]:
        """The gateway's view of the nodes, by name; empty when it could not be asked just now.

        A node that some worker of the gateway has not heard of counts as unknown.
        """
        try:
            response = await client.get(f"{self._gateway_url}{STATUS_PATH}")
        except httpx.HTTPError:
            return {}
        if response.status_code != 200:
            raise IsochroneError(f"the gateway answers with status {response.status_code} to its own network")
        told = response.json()
        if any(worker["nodes"] < len(told["nodes"]) for worker in told["workers"]):
            return {}
        return {node["node"]: node for node in told["nodes"]}

    # -- stopping ------------------------------------------------------------------------------------

    async def _stop(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        for child in reversed(self._children):
            with contextlib.suppress(ProcessLookupError):
                await child.stop()
        await self._nats.stop()

    # -- telling -------------------------------------------------------------------------------------

    def _file(self) -> NetworkFile:
        nodes = {name: f"http://127.0.0.1:{port}" for name, port in self._node_ports.items()}
        certificate = "" if self._tls is None else str(self._tls.files.certificate.absolute())
        return NetworkFile(os.getpid(), self._gateway_url, self._nats.url, self._token, nodes, certificate)

    def _greet(self) -> None:
        console = self._console
        if self._nodes:
            console.print(self._places())
            console.print(
                f"\n[dim]The gateway is said to be in {GATEWAY_REGION}. All processes run on this machine; "
                "the distance between places is emulated by delaying bytes. Everything else is real: "
                "models, queues, loads.[/dim]\n"
            )
        if self._tls is not None:
            names = ", ".join(self._tls.names) or "no name"
            console.print(f"The gateway speaks TLS; its certificate is for {names}.\n", highlight=False)
        command, model = _own_command(), f"   model [bold]{DEMO_MODEL}[/bold]" if self._nodes else ""
        console.print(
            Panel(
                f"OpenAI endpoint  [bold]{self._gateway_url}/v1[/bold]{model}\n\n"
                f"{command} status         what is where, live\n"
                f"{command} explain last   why the last request went where it went\n"
                f"{command} demo           five policies on the same requests\n"
                f"{command} node --help    join with an engine of yours",
                title="Isochrone is up; Ctrl-C ends it",
                expand=False,
            )
        )
        console.print(f"\n{self._example()}\n", soft_wrap=True, markup=False, highlight=False)

    def _example(self) -> str:
        """What to type next: a first request, or where there are no nodes a first node."""
        if not self._nodes:
            default = self._state_dir == default_state_dir()
            where = "" if default else f" --state-dir {self._state_dir}"
            return f"No node has joined yet. {_own_command()} node --model {DEMO_MODEL}{where}"
        message = '{"role": "user", "content": "Why is the sky blue?"}'
        body = f'{{"model": "{DEMO_MODEL}", "messages": [{message}]}}'
        url = f"{self._gateway_url}/v1/chat/completions"
        curl = f"curl {url}" if self._tls is None else self._tls.curl(url)
        return f"{curl} -H 'content-type: application/json' -d '{body}'"

    def _places(self) -> Table:
        table = Table(box=None, pad_edge=False)
        for column in ("node", "place", "emulated RTT", "condition"):
            table.add_column(column)
        for node in self._nodes:
            table.add_row(node.name, node.region, f"{node.rtt_ms:.0f} ms", node.condition)
        return table


def _own_command() -> str:
    """How the user would call us again, from where he stands."""
    called = Path(sys.argv[0])
    if shutil.which("isochrone") == str(called):
        return "isochrone"
    return os.path.relpath(called) if called.is_relative_to(Path.cwd()) else str(called)


def _states(nodes: dict[str, Any]) -> str:
    return ", ".join(f"{name} {m['state']}" for name, node in nodes.items() for m in node["models"])
