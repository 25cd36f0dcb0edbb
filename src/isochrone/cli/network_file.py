"""What a running network leaves in its state folder so that other commands find it, and only one runs."""

import fcntl
import os
import secrets
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import platformdirs

from isochrone.cli.tls import trusting
from isochrone.ports import SettingError

_FILE = "network.json"
_LOCK = "network.lock"


@dataclass(frozen=True, slots=True)
class NetworkFile:
    """A running network.

    Attributes:
        pid: process that supervises it.
        gateway_url: its OpenAI endpoint, without `/v1`.
        nats_url: its message bus.
        token: what nodes and gateways show each other and the bus. The file is readable by its owner only.
        nodes: url of each node, by name, reached without the emulated network.
        certificate: file of the gateway's TLS certificate, "" where it speaks no TLS.
    """

    pid: int
    gateway_url: str
    nats_url: str
    token: str
    nodes: dict[str, str]
    certificate: str = ""

    def tls(self) -> ssl.SSLContext | None:
        """How to be sure to speak with its gateway; None where it speaks no TLS. Raises SettingError."""
        return trusting(Path(self.certificate)) if self.certificate else None


def default_state_dir() -> Path:
    """Where a network keeps its state unless told otherwise."""
    return Path(os.environ.get("ISOCHRONE_STATE_DIR") or platformdirs.user_state_path("isochrone"))


def default_store_dir() -> Path:
    """Where weights are kept unless told otherwise."""
    return Path(os.environ.get("ISOCHRONE_STORE_DIR") or platformdirs.user_cache_path("isochrone") / "models")


@contextmanager
def only_one(state_dir: Path) -> Iterator[None]:
    """Hold the state folder for this process. Raises SettingError when another network runs in it."""
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (state_dir / _LOCK).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingError(_running_already(state_dir)) from None
        try:
            yield
        finally:
            (state_dir / _FILE).unlink(missing_ok=True)


def _running_already(state_dir: Path) -> str:
    try:
        running = read_network(state_dir)
        where = f" (process {running.pid}, gateway {running.gateway_url})"
    except SettingError:
        where = ""
    return (
        f"a network is running already in {state_dir}{where}; stop it with Ctrl-C where it was started, "
        "or give this one a folder of its own with --state-dir"
    )


def write_network(state_dir: Path, network: NetworkFile) -> None:
    """Leave `network` for other commands; readable by the owner only."""
    new = state_dir / f"{_FILE}.{secrets.token_hex(4)}"
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(msgspec.json.encode(network))
    new.replace(state_dir / _FILE)


def read_network(state_dir: Path) -> NetworkFile:
    """The network that runs in `state_dir`. Raises SettingError when there is none."""
    try:
        return msgspec.json.decode((state_dir / _FILE).read_bytes(), type=NetworkFile)
    except FileNotFoundError:
        raise SettingError(
            f"no network runs in {state_dir}; start one with 'isochrone up', or name a gateway with --gateway"
        ) from None
    except (OSError, msgspec.DecodeError) as error:
        raise SettingError(f"{state_dir / _FILE} can't be read: {error}") from error
