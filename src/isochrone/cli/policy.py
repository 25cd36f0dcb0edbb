"""`isochrone policies`, and policies as people write them: `name` or `name:parameter=value,...`."""

from dataclasses import fields
from enum import StrEnum
from typing import Annotated

import typer

from isochrone.ports import SettingError
from isochrone.routing import CATALOGUE, Policy, find_policy


def check_policy(text: str) -> str:
    """`text`, when a policy can be written so. Raises SettingError that tells what there is."""
    try:
        find_policy(text)
    except KeyError as error:
        raise SettingError(f"--policy: {error.args[0]}") from error
    return text


def parameters_of(policy: Policy) -> dict[str, float | str]:
    """Every parameter by the name that people write, with its default as they would write it.

    Those of probing stand beside the policy's own.
    """
    values: dict[str, float | str] = {}
    for part in (policy.parameters, getattr(policy.parameters, "probing", None)):
        for field in fields(part) if part is not None else ():
            value = getattr(part, field.name)
            if isinstance(value, (int, float, str)):
                values[field.name] = _plain(value)
    return values


def _plain(value: float | str) -> float | str:
    if isinstance(value, StrEnum):
        return value.value
    return int(value) if isinstance(value, bool) else value


def policies(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """List the routing policies, with their parameters and what these are when nothing is said.

    Wherever a policy is named, parameters may follow: --policy prequal:q_rif=0.9,pool_max=6.
    """
    from isochrone.cli.tables import print_policies  # noqa: PLC0415 - rich is slow to import

    print_policies(((policy, parameters_of(policy)) for policy in CATALOGUE.values()), as_json=as_json)
