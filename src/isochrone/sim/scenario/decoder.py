"""From tables of TOML to frozen dataclasses: every key known, every value of its type and in its range.

What is wrong is told as `<source>: <dotted.key>: what; what to do`, by SettingError.
"""

import difflib
import math
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, NoReturn, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from isochrone.ports import SettingError

MAY_BE_INF = ("memory_bytes", "duration_s", "timeout_s", "ttft_ms", "tpot_ms")
T = TypeVar("T")
_UNITS = {"s": "seconds", "ms": "milliseconds", "bytes": "bytes", "tokens": "tokens", "hour": "hours"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where in which file something stands.

    Attributes:
        source: the file, for people.
        key: dotted; "" for the whole file.
    """

    source: str
    key: str = ""

    def at(self, key: object) -> "Place":
        """A key below this one."""
        return Place(self.source, f"{self.key}.{key}" if self.key else str(key))

    def wrong(self, what: str) -> NoReturn:
        """Raises SettingError in one line."""
        where = f"{self.source}: {self.key}" if self.key else self.source
        raise SettingError(f"{where}: {what}".replace("\n", " "))


@dataclass(frozen=True, slots=True)
class _Range:
    least: float | None = None
    most: float | None = None
    above: float | None = None
    may_be_inf: bool = False

    def check(self, value: float, place: Place) -> None:
        if math.isnan(value) or (math.isinf(value) and not self.may_be_inf):
            place.wrong(f"is {value}; give a finite number")
        if self.least is not None and value < self.least:
            place.wrong(f"is {value:g}; it must be at least {self.least:g}")
        if self.above is not None and value <= self.above:
            place.wrong(f"is {value:g}; it must be more than {self.above:g}")
        if self.most is not None and value > self.most:
            place.wrong(f"is {value:g}; it must be at most {self.most:g}")


def read_table(kind: type[T], raw: object, place: Place) -> T:
    """`raw`, a table as TOML gives it, as the dataclass `kind`. Raises SettingError."""
    if not isinstance(raw, Mapping):
        place.wrong(f"is {_shown(raw)}; give a table")
    known = {each.name: each for each in fields(kind)}  # type: ignore[arg-type]
    hints = _hints(cast(Any, kind))
    values = {}
    for key, value in raw.items():
        if key not in known:
            place.at(key).wrong(_unknown(key, tuple(known)))
        if value is not None:
            values[key] = _read(hints[key], value, place.at(key), _range_of(known[key]))
    for name, each in known.items():
        if name not in values and each.default is MISSING and each.default_factory is MISSING:
            place.at(name).wrong("is missing; give it")
    return kind(**values)


def near_names(name: str, names: tuple[str, ...]) -> str:
    """The likeliest of `names` to be meant by `name`, or all of them: the end of an error."""
    folded = {each.casefold(): each for each in names}
    near = difflib.get_close_matches(name.casefold(), folded, n=2)
    if near:
        return "did you mean " + " or ".join(f"'{folded[each]}'" for each in near) + "?"
    return "there are: " + (", ".join(names) or "none")


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _range_of(each: Field[Any]) -> _Range:
    return _Range(**each.metadata, may_be_inf=each.name in MAY_BE_INF)


def _unknown(key: str, known: tuple[str, ...]) -> str:
    """For a key that isn't one. The same stem in another unit is the likeliest slip of all."""
    stem, _, unit = key.rpartition("_")
    for each in known:
        other_stem, _, other_unit = each.rpartition("_")
        other = _UNITS.get(other_unit)
        if other and other_stem and other_stem in (stem if unit in _UNITS else "", key):
            return f"is not a key; did you mean '{each}', in {other}?"
    return f"is not a key; {near_names(key, known)}"


def _read(hint: Any, raw: object, place: Place, bounds: _Range) -> object:
    if hint is object:
        return raw
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        (only,) = (each for each in inner if each is not NoneType)
        return _read(only, raw, place, bounds)
    if origin is Literal:
        if raw not in inner:
            place.wrong(f"is {_shown(raw)}; it must be one of {', '.join(inner)}")
        return raw
    if origin is tuple:
        if not isinstance(raw, list | tuple):
            place.wrong(f"is {_shown(raw)}; give a list, in [ ]")
        return tuple(_read(inner[0], each, place.at(number), bounds) for number, each in enumerate(raw))
    if origin is not None:
        return _read_mapping(inner[1], raw, place, bounds)
    if is_dataclass(hint):
        return read_table(cast(Any, hint), raw, place)
    return _read_plain(hint, raw, place, bounds)


def _read_mapping(hint: Any, raw: object, place: Place, bounds: _Range) -> dict[str, object]:
    if not isinstance(raw, Mapping):
        place.wrong(f"is {_shown(raw)}; give a table")
    named = is_dataclass(hint) and "name" in _hints(hint)  # type: ignore[arg-type]
    return {
        key: _read(
            hint, {"name": key, **value} if named and isinstance(value, Mapping) else value, at, bounds
        )
        for key, value in raw.items()
        for at in (place.at(key),)
    }


def _read_plain(hint: type, raw: object, place: Place, bounds: _Range) -> object:
    if hint is str:
        if not isinstance(raw, str):
            place.wrong(f'is {_shown(raw)}; give text, in " "')
        return raw
    if hint is bool:
        if not isinstance(raw, bool):
            place.wrong(f"is {_shown(raw)}; give true or false")
        return raw
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        place.wrong(f"is {_shown(raw)}; give a {'whole number' if hint is int else 'number'}")
    bounds.check(raw, place)
    if hint is float:
        return float(raw)
    if raw != int(raw):
        place.wrong(f"is {raw:g}; give a whole number")
    return int(raw)


def _shown(raw: object) -> str:
    if isinstance(raw, str):
        return f"'{raw}'"
    if isinstance(raw, bool):
        return str(raw).lower()
    if isinstance(raw, Mapping):
        return "a table"
    return "a list" if isinstance(raw, list | tuple) else str(raw)
