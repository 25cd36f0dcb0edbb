"""`isochrone gateway`: the OpenAI endpoint."""

import asyncio
import contextlib
import hashlib
import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from os import getpid
from pathlib import Path
from socket import gethostname
from typing import Annotated, Any

import msgspec
import typer

from isochrone.adapters.key_file import KeyFile
from isochrone.adapters.nats_bus import NatsBus
from isochrone.adapters.regions import check_region, load_regions
from isochrone.cli.limits import CorsOption, LimitOption, with_limits
from isochrone.cli.network_file import default_state_dir
from isochrone.cli.node import BusAddress, find_bus, node_name
from isochrone.cli.policy import check_policy
from isochrone.cli.shell import API_KEYS_VARIABLE, cannot_listen, log, run, secrets, until_signal
from isochrone.cli.supervise import say_ready
from isochrone.cli.tls import TlsCertOption, TlsFiles, TlsKeyOption
from isochrone.cli.workers import StallOption, Workers, check_stall_s, shared_port
from isochrone.dashboard import status_fields, whole_status
from isochrone.fleet import Fleet
from isochrone.gateway import Gateway, GatewaySettings
from isochrone.gateway.crew import WORKERS_MAX, Crew, SharedTable
from isochrone.gateway.crew.heartbeat import STALL_S
from isochrone.model import Me
from isochrone.ports import MonotonicClock
from isochrone.relay import Listening
from isochrone.wire.subjects import CAPACITY_PATH, STATUS_PATH


def gateway(
    name: Annotated[
        str, typer.Option(help="Name of the gateway, its own in the network; default: gateway-HOST-PORT.")
    ] = "",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free one.")] = 8080,
    region: Annotated[str, typer.Option(help="Its place, as in the region table.")] = "",
    policy: Annotated[
        str, typer.Option(help="How to choose: NAME[:PARAMETER=VALUE,...]; see 'isochrone policies'.")
    ] = "soonest",
    policy_by_header: Annotated[
        bool, typer.Option(help="Let a request choose its policy with x-isochrone-policy.")
    ] = False,
    timeout_s: Annotated[float, typer.Option(min=0.1, help="For clients that do not say theirs.")] = 120.0,
    in_flight_max: Annotated[int, typer.Option(min=1, help="Requests at once; more are refused.")] = 1024,
    limit: LimitOption = None,
    cors_origin: CorsOption = None,
    workers: Annotated[
        int, typer.Option(min=1, max=WORKERS_MAX, help="Processes that serve the port together.")
    ] = 1,
    worker_stall_s: StallOption = STALL_S,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    nats: Annotated[str, typer.Option(help="The network's bus; default: the network on this machine.")] = "",
    state_dir: Annotated[
        Path | None, typer.Option(help="State of the network on this machine, and of the keys.")
    ] = None,
) -> None:
    """Serve plain OpenAI API; each request goes to the node that will answer soonest.

    The token of the network comes in ISOCHRONE_TOKEN. Clients must show a key as soon as one was made with
    'isochrone keys make', or when some come in ISOCHRONE_API_KEYS, separated by commas: those have no limits.
    """
    check_policy(policy)
    check_stall_s(worker_stall_s)
    state = state_dir or default_state_dir()
    settings = GatewaySettings(
        name=_name(name or f"gateway-{gethostname()}-{port or getpid()}", workers),
        host=host,
        port=port,
        region=check_region(region) if region else "",
        api_key_digests=_key_digests(secrets(API_KEYS_VARIABLE)),
        policy=policy,
        policy_by_header=policy_by_header,
        timeout_s=timeout_s,
        in_flight_max=in_flight_max,
    )
    settings = with_limits(settings, limit or (), cors_origin or ())
    start = _Start(find_bus(nats, state), _key_folder(state), TlsFiles.of(tls_cert, tls_key))
    start.check()
    if workers == 1:
        run(_run_gateway(replace(settings, node_token=start.bus.token), start))
    else:
        _run_workers(replace(settings, node_token=start.bus.token), start, workers, worker_stall_s)


@dataclass(frozen=True, slots=True)
class _Start:
    """What a worker finds before it begins.

    Attributes:
        bus: where the bus is.
        keys: folder of the keys.
        tls: certificate and key, or None.
    """

    bus: BusAddress
    keys: Path
    tls: TlsFiles | None

    def check(self) -> None:
        """Raises SettingError when keys or certificate can't be used."""
        KeyFile(self.keys).read()
        if self.tls is not None:
            self.tls.server()

    def way(self, crew: Crew) -> Listening:
        """How to listen."""
        tls = None if self.tls is None else self.tls.server().context
        return Listening(tls, shared=crew.workers > 1)

    def url(self, host: str, port: int) -> str:
        """Where clients find the gateway."""
        scheme = "http" if self.tls is None else "https"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _name(name: str, workers: int) -> str:
    """The gateway's name. Raises SettingError when it, or a worker's made of it, is none."""
    checked = node_name(name)
    node_name(_worker_name(checked, workers - 1))
    return checked


def _worker_name(name: str, worker: int) -> str:
    return f"{name}-w{worker}"


def _key_folder(state_dir: Path) -> Path:
    """Made where it is not there, so that keys made later are seen at once."""
    with contextlib.suppress(OSError):
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    return state_dir


def _key_digests(keys: list[str]) -> frozenset[str]:
    return frozenset(hashlib.sha256(key.encode()).hexdigest() for key in keys)


def _run_workers(settings: GatewaySettings, start: _Start, workers: int, stall_s_max: float) -> None:
    """Serve with several processes until a signal; tell when all of them do."""
    table = SharedTable(workers=workers)
    where = (settings.host, settings.port)
    with tempfile.TemporaryDirectory(prefix="isochrone-") as folder, contextlib.ExitStack() as held:
        try:
            port = held.enter_context(shared_port(*where))
        except OSError as error:
            raise cannot_listen("the gateway", where, "--port", error) from error

        def work(worker: int, ready: Callable[[], None]) -> None:
            crew = Crew(worker, workers, table, Path(folder))
            own = replace(settings, name=_worker_name(settings.name, worker), port=port)
            run(_run_gateway(own, start, crew, lambda _url: ready()))

        url = start.url(settings.host, port)
        told = f"{settings.name}, {workers} workers,"
        Workers(workers, work, table, lambda: _ready(told, url), stall_s_max).run()


def _ready(who: str, url: str) -> None:
    log(f"{who} listens on {url}/v1")
    say_ready(url=url)


async def _run_gateway(
    settings: GatewaySettings,
    start: _Start,
    crew: Crew | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """One worker, until a signal; `ready` is told where it listens. Alone it says so itself."""
    crew = crew or Crew.alone()
    beating = asyncio.create_task(crew.beat())
    address = start.bus
    bus = await NatsBus.connect(address.url, token=address.token or None, name=settings.name, wait=True)
    clock, table = MonotonicClock(), load_regions()
    fleet = Fleet(settings.beliefs, Me.of(settings.name, settings.region, tells=settings.tells), table.rtt_ms)
    gate = Gateway(
        settings,
        fleet=fleet,
        bus=bus,
        clock=clock,
        luck=random.Random(),
        pages={
            STATUS_PATH: lambda: status_page(gate, clock),
            CAPACITY_PATH: lambda: capacity_page(gate),
        },
        told={"status": lambda: msgspec.json.encode(_own_status(gate, clock))},
        keys=KeyFile(start.keys),
        crew=crew,
        log=lambda line: log(f"{settings.name}: {line}"),
    )

    async def begin() -> None:
        try:
            port = await gate.start(start.way(crew))
        except OSError as error:
            raise cannot_listen("the gateway", (settings.host, settings.port), "--port", error) from error
        url = start.url(settings.host, port)
        ready(url) if ready is not None else _ready(settings.name, url)

    async def stop() -> None:
        await gate.stop()
        await bus.close()
        beating.cancel()

    await until_signal(begin, stop)


async def status_page(gate: Gateway, clock: MonotonicClock) -> bytes:
    """The gateway's status as JSON: this worker's beliefs, and what all of its workers do."""
    others = [msgspec.json.decode(answer) for answer in await gate.lookup.siblings.ask_all("status")]
    return msgspec.json.encode(whole_status(_own_status(gate, clock), others))


def _own_status(gate: Gateway, clock: MonotonicClock) -> dict[str, Any]:
    fields = status_fields(gate.fleet, gate.rates, clock.now_s())
    return {"gateway": gate.settings.name, "region": gate.settings.region, **fields}


async def capacity_page(gate: Gateway) -> bytes:
    """The gateway's look at capacity as JSON."""
    fields = await gate.capacity.look()
    return msgspec.json.encode({"gateway": gate.settings.name, "region": gate.settings.region, **fields})
