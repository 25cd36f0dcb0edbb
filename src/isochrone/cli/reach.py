"""How commands reach a running gateway."""

from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from isochrone.cli.network_file import default_state_dir, read_network
from isochrone.cli.shell import API_KEYS_VARIABLE, secret, secrets
from isochrone.ports import IsochroneError

API_KEY_VARIABLE = "ISOCHRONE_API_KEY"
_TIMEOUT_S = 10.0

GatewayOption = Annotated[
    str, typer.Option("--gateway", help="Its address; default: the network on this machine.")
]
StateDirOption = Annotated[Path | None, typer.Option(help="State of the network on this machine.")]


def gateway_url(gateway: str, state_dir: Path | None) -> str:
    """`gateway`, or that of the network on this machine. Raises SettingError when none runs."""
    return (gateway or read_network(state_dir or default_state_dir()).gateway_url).rstrip("/")


def auth_headers() -> dict[str, str]:
    """The client's key, from ISOCHRONE_API_KEY, or else the first of those that gateways here ask for."""
    key = secret(API_KEY_VARIABLE) or next(iter(secrets(API_KEYS_VARIABLE)), "")
    return {"authorization": f"Bearer {key}"} if key else {}


def get_json(url: str) -> Any:
    """What the gateway answers at `url`. Raises IsochroneError with its own words when that is an error."""
    try:
        with httpx.Client(headers=auth_headers(), timeout=_TIMEOUT_S, trust_env=False) as client:
            response = client.get(url)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise IsochroneError(
            f"the gateway at {url} can't be reached ({error}); is the network up?"
        ) from error
    if response.status_code == 401:
        raise IsochroneError(f"the gateway wants a key: put yours in {API_KEY_VARIABLE}")
    try:
        fields = response.json()
    except ValueError as error:
        raise IsochroneError(f"{url} did not answer with JSON: is that an Isochrone gateway?") from error
    if response.status_code != 200:
        raise IsochroneError(str(fields.get("error", {}).get("message", fields)))
    return fields
