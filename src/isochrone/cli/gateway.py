"""`isochrone gateway`: the OpenAI endpoint."""

import hashlib
import random
from os import getpid
from pathlib import Path
from socket import gethostname
from typing import Annotated

import msgspec
import typer

from isochrone.adapters.nats_bus import NatsBus
from isochrone.adapters.regions import check_region, load_regions
from isochrone.cli.limits import with_limits
from isochrone.cli.network_file import default_state_dir
from isochrone.cli.node import BusAddress, find_bus, node_name
from isochrone.cli.policy import check_policy
from isochrone.cli.shell import API_KEYS_VARIABLE, cannot_listen, log, run, secrets, until_signal
from isochrone.cli.supervise import say_ready
from isochrone.dashboard import status_fields
from isochrone.fleet import Fleet
from isochrone.gateway import Gateway, GatewaySettings
from isochrone.model import Me
from isochrone.ports import MonotonicClock
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
    limit: Annotated[
        list[str] | None,
        typer.Option(help="A bound of connections and bodies, NAME=VALUE; see docs/operations.md."),
    ] = None,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(help="Web pages of this origin may ask, * for all; without it none of another."),
    ] = None,
    nats: Annotated[str, typer.Option(help="The network's bus; default: the network on this machine.")] = "",
    state_dir: Annotated[Path | None, typer.Option(help="State of the network on this machine.")] = None,
) -> None:
    """Serve plain OpenAI API; each request goes to the node that will answer soonest.

    The token of the network comes in ISOCHRONE_TOKEN. Keys that clients must show, separated by commas, come
    in ISOCHRONE_API_KEYS; without any, no key is asked for.
    """
    check_policy(policy)
    address = find_bus(nats, state_dir or default_state_dir())
    settings = GatewaySettings(
        name=node_name(name or f"gateway-{gethostname()}-{port or getpid()}"),
        host=host,
        port=port,
        region=check_region(region) if region else "",
        api_key_digests=_key_digests(secrets(API_KEYS_VARIABLE)),
        node_token=address.token,
        policy=policy,
        policy_by_header=policy_by_header,
        timeout_s=timeout_s,
        in_flight_max=in_flight_max,
    )
    run(_run_gateway(with_limits(settings, limit or (), cors_origin or ()), address))


def _key_digests(keys: list[str]) -> frozenset[str]:
    return frozenset(hashlib.sha256(key.encode()).hexdigest() for key in keys)


async def _run_gateway(settings: GatewaySettings, address: BusAddress) -> None:
    bus = await NatsBus.connect(address.url, token=address.token or None, name=settings.name, wait=True)
    clock, table = MonotonicClock(), load_regions()
    fleet = Fleet(settings.beliefs, Me.of(settings.name, settings.region), table.rtt_ms)
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
        log=lambda line: log(f"{settings.name}: {line}"),
    )

    async def start() -> None:
        try:
            port = await gate.start()
        except OSError as error:
            raise cannot_listen("the gateway", (settings.host, settings.port), "--port", error) from error
        log(f"{settings.name} listens on http://{settings.host}:{port}/v1")
        say_ready(url=f"http://{settings.host}:{port}")

    async def stop() -> None:
        await gate.stop()
        await bus.close()

    await until_signal(start, stop)


def status_page(gate: Gateway, clock: MonotonicClock) -> bytes:
    """The gateway's status as JSON."""
    fields = status_fields(gate.fleet, gate.rates, clock.now_s())
    return msgspec.json.encode({"gateway": gate.settings.name, "region": gate.settings.region, **fields})


async def capacity_page(gate: Gateway) -> bytes:
    """The gateway's look at capacity as JSON."""
    fields = await gate.capacity.look()
    return msgspec.json.encode({"gateway": gate.settings.name, "region": gate.settings.region, **fields})
