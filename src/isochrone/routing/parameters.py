"""Parameters of policies: small frozen dataclasses, and how to change them by what a person wrote.

A parameter is a number or a flag. A dataclass that cannot bear a value raises ValueError whose text begins
with the parameter's name.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

Value = float | str
"""A parameter as written: a number, or the text of one."""

_FLAGS = {"0": False, "1": True, "false": False, "true": True, "no": False, "yes": True}


@dataclass(frozen=True, slots=True)
class NoParameters:
    """For a policy that has nothing to tune."""


def within(name: str, value: float, least: float, most: float = float("inf")) -> None:
    """Raise ValueError when the parameter `name` is not between `least` and `most`, both allowed."""
    if not least <= value <= most:
        bound = f"at least {least:g}" if most == float("inf") else f"from {least:g} to {most:g}"
        raise ValueError(f"{name} must be {bound}, not {value:g}")


def written(policy: str, text: str) -> dict[str, str]:
    """`a=1,b=2` taken apart. Raises KeyError, in words, for a part that is not of this form."""
    values = {}
    for part in text.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not (key and equals and value):
            raise KeyError(f"policy {policy!r}: write parameter=value, not {part!r}")
        if key in values:
            raise KeyError(f"policy {policy!r}: {key} is given twice")
        values[key] = value
    return values


def changed(policy: str, parameters: Any, changes: dict[str, Value]) -> Any:
    """`parameters` with `changes`; fields of a field `probing` are named plainly.

    Raises KeyError, in words, for a parameter that is not there or a value that it cannot have.
    """
    own = {field.name: getattr(parameters, field.name) for field in fields(parameters)}
    probing = own.pop("probing", None)
    of_probing = {field.name: getattr(probing, field.name) for field in fields(probing)} if probing else {}
    for key, value in changes.items():
        known = own if key in own else of_probing
        if key not in known:
            there_are = ", ".join(sorted(own | of_probing)) or "none"
            raise KeyError(f"policy {policy!r} has no parameter {key!r}; there are: {there_are}")
        try:
            known[key] = _read(known[key], value)
        except ValueError as error:
            raise KeyError(f"policy {policy!r}: {key} {error}") from None
    try:
        if probing is not None:
            own["probing"] = replace(probing, **of_probing)
        return type(parameters)(**own)
    except ValueError as error:
        raise KeyError(f"policy {policy!r}: {error}") from None


def _read(known: object, value: Value) -> object:
    """`value` as the kind of thing that `known` is. Raises ValueError that says what it must be."""
    text = str(value).strip()
    if isinstance(known, bool):
        flag = _FLAGS.get(text.lower().removesuffix(".0"))
        if flag is None:
            raise ValueError(f"must be 0 or 1, not {text}")
        return flag
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"must be a number, not {text}") from None
    if not abs(number) < float("inf"):
        raise ValueError(f"must be a finite number, not {text}")
    if not isinstance(known, int):
        return number
    if number != int(number):
        raise ValueError(f"must be a whole number, not {text}")
    return int(number)
