"""`isochrone wan`: the emulated network between places, one process for all links."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from isochrone.adapters.wan_emulator import WanLink
from isochrone.cli.shell import log, run, until_signal
from isochrone.cli.supervise import say_ready
from isochrone.ports import SettingError


class LinkPlan(msgspec.Struct, frozen=True):
    """One link to emulate: from a port here to a port here, with a delay each way.

    Attributes:
        name: which link, for people.
        port: where it listens.
        target_port: where the bytes go.
        out_delay_ms: delay from the client to the target.
        back_delay_ms: delay from the target to the client.
    """

    name: str
    port: int
    target_port: int
    out_delay_ms: float
    back_delay_ms: float


def wan(
    plan: Annotated[Path, typer.Argument(help="JSON list of links: name, port, target_port, delays in ms.")],
) -> None:
    """Delay bytes between places, for networks that are emulated on one machine."""
    try:
        links = msgspec.json.decode(plan.read_bytes(), type=list[LinkPlan])
    except (OSError, msgspec.DecodeError) as error:
        raise SettingError(f"{plan}: {error}") from error
    run(_run_wan(links))


async def _run_wan(plans: list[LinkPlan]) -> None:
    links = {
        plan.name: WanLink(
            "127.0.0.1",
            plan.port,
            "127.0.0.1",
            plan.target_port,
            out_delay_s=plan.out_delay_ms / 1e3,
            back_delay_s=plan.back_delay_ms / 1e3,
        )
        for plan in plans
    }

    async def start() -> None:
        for plan in plans:
            try:
                await links[plan.name].start()
            except OSError as error:
                raise SettingError(
                    f"the link {plan.name} can't listen on port {plan.port}: {error}"
                ) from error
        log(f"{len(links)} links are emulated")
        say_ready(links=len(links))

    async def stop() -> None:
        for link in links.values():
            await link.close()

    await until_signal(start, stop)
