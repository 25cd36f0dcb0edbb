"""`--limit NAME=VALUE` and `--cors-origin ORIGIN` of a gateway."""

from collections.abc import Iterable
from dataclasses import fields, replace
from math import isfinite
from typing import Annotated, Any

import typer

from isochrone.gateway import GatewaySettings
from isochrone.gateway.cors import is_origin
from isochrone.ports import SettingError
from isochrone.relay import ServerLimits

LimitOption = Annotated[
    list[str] | None,
    typer.Option("--limit", help="A bound of connections and bodies, NAME=VALUE; see docs/operations.md."),
]
CorsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--cors-origin", help="Web pages of this origin may ask, * for all; without it none of another."
    ),
]

_OF_JSON = ("json_depth_max", "json_brackets_max")


def with_limits(
    settings: GatewaySettings, given: Iterable[str], origins: Iterable[str] = ()
) -> GatewaySettings:
    """`settings` with the bounds told as `NAME=VALUE`, and with the origins of web pages that may ask.

    Raises SettingError that names the one at fault.
    """
    known = {field.name: field.default for field in fields(ServerLimits)}
    known |= {name: getattr(GatewaySettings(), name) for name in _OF_JSON}
    told: dict[str, Any] = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not equals or name not in known:
            raise SettingError(f"--limit {item}: NAME=VALUE is wanted, NAME one of {', '.join(known)}")
        told[name] = _positive(item, value, whole=isinstance(known[name], int))
    of_json = {name: told.pop(name) for name in _OF_JSON if name in told}
    http = replace(settings.http, **told)
    return replace(settings, http=http, cors_origins=_origins(origins), **of_json)


def as_options(given: Iterable[str], origins: Iterable[str]) -> tuple[str, ...]:
    """The same for the command line of another gateway. Raises SettingError as `with_limits` does."""
    given, origins = tuple(given), tuple(origins)
    with_limits(GatewaySettings(), given, origins)
    limits = (word for item in given for word in ("--limit", item))
    return (*limits, *(word for origin in origins for word in ("--cors-origin", origin)))


def _origins(given: Iterable[str]) -> frozenset[str]:
    origins = [origin.lower() for origin in given]
    for origin in origins:
        if not is_origin(origin):
            raise SettingError(f"--cors-origin {origin}: https://HOST, https://HOST:PORT or * is wanted")
    return frozenset(origins)


def _positive(item: str, value: str, *, whole: bool) -> float:
    try:
        number = int(value) if whole else float(value)
    except ValueError:
        number = 0
    if not (isfinite(number) and number > 0):
        raise SettingError(f"--limit {item}: a {'whole ' if whole else ''}number above 0 is wanted")
    return number
