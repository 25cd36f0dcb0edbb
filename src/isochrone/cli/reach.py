"""How commands reach a running gateway."""

import ssl
from dataclasses import dataclass, field
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


@dataclass(frozen=True, slots=True)
class Reached:
    """A gateway, and what it is shown: a secret.

    Attributes:
        url: its address, without a slash at the end.
        key: the client's key, or the network's own token, which opens all that is to be read; or "".
        tls: whom to trust; None for who the system trusts, or SSL_CERT_FILE.
    """

    url: str
    key: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = None

    def get_json(self, path: str) -> Any:
        """What the gateway answers at `path`. Raises IsochroneError with its words when that is an error."""
        url = self.url + path
        try:
            with httpx.Client(
                headers=_headers(self.key),
                timeout=_TIMEOUT_S,
                trust_env=False,
                verify=self.tls
                or httpx.create_ssl_context(),  # heeds SSL_CERT_FILE, for an authority of one's own
            ) as client:
                response = client.get(url)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise IsochroneError(
                    f"the gateway at {url} shows a certificate that is not trusted ({error}); call it by a "
                    "name that its certificate has, and put its authority in SSL_CERT_FILE"
                ) from error
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


def reached(gateway: str, state_dir: Path | None) -> Reached:
    """The one at `gateway`, or that of the network on this machine. Raises SettingError when none runs."""
    if gateway:
        return Reached(gateway.rstrip("/"), _client_key())
    network = read_network(state_dir or default_state_dir())
    return Reached(network.gateway_url.rstrip("/"), _client_key() or network.token, network.tls())


def gateway_url(gateway: str, state_dir: Path | None) -> str:
    """`gateway`, or that of the network on this machine. Raises SettingError when none runs."""
    return reached(gateway, state_dir).url


def auth_headers() -> dict[str, str]:
    """The client's key, from ISOCHRONE_API_KEY, or else the first of those that gateways here ask for."""
    return _headers(_client_key())


def _client_key() -> str:
    return secret(API_KEY_VARIABLE) or next(iter(secrets(API_KEYS_VARIABLE)), "")


def _headers(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"} if key else {}
