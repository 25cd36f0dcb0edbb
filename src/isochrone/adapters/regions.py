"""Round-trip times between regions, for nodes whose distance has not been measured yet.

The table is Azure's own P95 of July 2026 (`isochrone/data/ATTRIBUTION.md`). It is not symmetric.
"""

import csv
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from isochrone.ports import SettingError

SAME_REGION_RTT_MS = 1.0
"""Round trip inside one region. Our assumption: the table leaves these cells blank."""

_TABLE = "azure_region_rtt_ms_p95_2026_07.csv"
_SUGGESTIONS_MAX = 3


@dataclass(frozen=True, slots=True)
class RegionTable:
    """Round-trip times from each region to each other.

    Attributes:
        names: every region, in order of name.
        rtts_ms: from region to region, in milliseconds; without pairs that nobody measured.
    """

    names: tuple[str, ...]
    rtts_ms: Mapping[tuple[str, str], float]

    def rtt_ms(self, source: str, target: str) -> float | None:
        """Milliseconds from `source` to `target` and back, or None when either is unknown."""
        if source == target and source in self.names:
            return SAME_REGION_RTT_MS
        return self.rtts_ms.get((source, target))


@cache
def load_regions() -> RegionTable:
    """The table that ships with the package, read once."""
    text = resources.files("isochrone.data").joinpath(_TABLE).read_text(encoding="utf-8")
    header, *rows = csv.reader(text.splitlines())
    targets = header[1:]
    rtts_ms = {
        (source, target): float(cell)
        for source, *cells in rows
        for target, cell in zip(targets, cells, strict=True)
        if cell
    }
    return RegionTable(tuple(sorted(targets)), rtts_ms)


def check_region(name: str) -> str:
    """Return `name` when the table has it. Raises SettingError with the nearest names when it has not."""
    names = load_regions().names
    if name in names:
        return name
    by_folded = {each.casefold(): each for each in names}
    folded = name.casefold().strip()
    near = difflib.get_close_matches(folded, by_folded, n=_SUGGESTIONS_MAX)
    if folded in by_folded:
        near = [folded]
    if not near:
        raise SettingError(f"There is no region '{name}'; the table has {', '.join(names)}.")
    hint = " or ".join(f"'{by_folded[each]}'" for each in near)
    raise SettingError(f"There is no region '{name}'; did you mean {hint}?")
