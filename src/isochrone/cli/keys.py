"""`isochrone keys`: who may use the gateway, and how much."""

import hashlib
import json
import re
import secrets
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from isochrone.adapters.key_file import KeyFile, check_key_name
from isochrone.cli.network_file import default_state_dir
from isochrone.model import Key, KeyLimits
from isochrone.ports import SettingError

keys = typer.Typer(no_args_is_help=True, help="Make, limit, list and revoke keys for clients of the gateway.")

_SECRET_BYTES = 32
_SECONDS = {"m": 60, "h": 3600, "d": 86_400}

_Name = Annotated[str, typer.Argument(help="The key's name, shown in metrics and errors.")]
_StateDir = Annotated[Path | None, typer.Option(help="State of the gateway: the keys are kept there.")]
_AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]
_Requests = Annotated[int | None, typer.Option(min=0, help="Most requests a minute; 0: no limit.")]
_Tokens = Annotated[
    int | None, typer.Option(min=0, help="Most tokens a minute, of prompts and answers; 0: no limit.")
]
_Concurrency = Annotated[int | None, typer.Option(min=0, help="Most requests at once; 0: no limit.")]
_Expires = Annotated[
    str, typer.Option("--expires-in", help="From now, such as 90d, 12h or 30m; 0: it does not expire.")
]


@keys.command()
def make(
    name: _Name,
    requests_per_min: _Requests = None,
    tokens_per_min: _Tokens = None,
    concurrency: _Concurrency = None,
    expires_in: _Expires = "",
    as_json: _AsJson = False,
    state_dir: _StateDir = None,
) -> None:
    """Make a key and show it, this once: only its digest is kept. It can be used at once."""
    check_key_name(name)
    secret = f"sk-iso-{secrets.token_urlsafe(_SECRET_BYTES)}"
    key = Key(name, hashlib.sha256(secret.encode()).digest(), made_unix_s=int(time.time()))
    key = _limited(key, (requests_per_min, tokens_per_min, concurrency), expires_in)

    def add(known: tuple[Key, ...]) -> tuple[Key, ...]:
        if any(other.name == name for other in known):
            raise SettingError(f"there is a key {name!r} already; revoke it first, or choose another name")
        return (*known, key)

    _file(state_dir).change(add)
    if as_json:
        typer.echo(json.dumps({**_fields(key), "key": secret}, indent=2))
        return
    typer.echo(secret)
    typer.echo("Keep it now: it is not shown again. Clients send it as their OpenAI API key.", err=True)


@keys.command()
def limit(
    name: _Name,
    requests_per_min: _Requests = None,
    tokens_per_min: _Tokens = None,
    concurrency: _Concurrency = None,
    expires_in: _Expires = "",
    state_dir: _StateDir = None,
) -> None:
    """Change what a key may ask for; what is not named stays. In effect at once."""

    def change(known: tuple[Key, ...]) -> tuple[Key, ...]:
        limits = (requests_per_min, tokens_per_min, concurrency)
        return tuple(
            _limited(key, limits, expires_in) if key.name == name else key for key in _with(known, name)
        )

    _file(state_dir).change(change)


@keys.command("list")
def list_keys(as_json: _AsJson = False, state_dir: _StateDir = None) -> None:
    """List the keys: their names and limits, never the keys themselves."""
    known = _file(state_dir).read() or ()
    if as_json:
        typer.echo(json.dumps([_fields(key) for key in known], indent=2))
        return
    table = Table("key", box=None)
    for column in ("requests/min", "tokens/min", "at once", "made", "expires"):
        table.add_column(column, justify="right")
    for key in known:
        limits = (key.limits.requests_per_min, key.limits.tokens_per_min, key.limits.concurrency)
        expires = "has expired" if key.expired(time.time()) else _day(key.expires_unix_s)
        table.add_row(key.name, *(_number(most) for most in limits), _day(key.made_unix_s), expires)
    Console().print(table)


@keys.command()
def revoke(name: _Name, state_dir: _StateDir = None) -> None:
    """Take a key back, at once. What it has under way ends as it would have."""

    def remove(known: tuple[Key, ...]) -> tuple[Key, ...]:
        return tuple(key for key in _with(known, name) if key.name != name)

    _file(state_dir).change(remove)


def _file(state_dir: Path | None) -> KeyFile:
    return KeyFile(state_dir or default_state_dir())


def _with(known: tuple[Key, ...], name: str) -> tuple[Key, ...]:
    if all(key.name != name for key in known):
        raise SettingError(f"there is no key {name!r}; see 'isochrone keys list'")
    return known


def _limited(key: Key, limits: tuple[int | None, ...], expires_in: str) -> Key:
    """`key` with what is given: None and "" leave it as it is, 0 takes the limit away."""
    own = (key.limits.requests_per_min, key.limits.tokens_per_min, key.limits.concurrency)
    merged = (old if new is None else new or None for old, new in zip(own, limits, strict=True))
    return replace(key, limits=KeyLimits(*merged), expires_unix_s=_expiry(expires_in, key.expires_unix_s))


def _expiry(told: str, own: int | None) -> int | None:
    if told in ("", "0"):
        return None if told else own
    match = re.fullmatch(r"([1-9][0-9]{0,5})([mhd])", told)
    if match is None:
        raise SettingError(f"--expires-in {told!r}: give a number and m, h or d, such as 90d")
    return int(time.time()) + int(match[1]) * _SECONDS[match[2]]


def _fields(key: Key) -> dict[str, Any]:
    return {
        "name": key.name,
        **asdict(key.limits),
        "made_unix_s": key.made_unix_s,
        "expires_unix_s": key.expires_unix_s,
        "expired": key.expired(time.time()),
    }


def _number(most: int | None) -> str:
    return "-" if most is None else str(most)


def _day(unix_s: int | None) -> str:
    return "-" if unix_s is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(unix_s))
