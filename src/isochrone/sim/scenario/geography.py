"""Where regions are: how far apart, and how late it is there.

Distances come from the table of Azure's regions that ships with the package (`data/ATTRIBUTION.md`): P95 of
July 2026, from row to column, not symmetric.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from types import MappingProxyType

_TABLE = "azure_region_rtt_ms_p95_2026_07.csv"

UTC_OFFSET_HOURS: Mapping[str, float] = MappingProxyType(
    {
        **dict.fromkeys(("West US", "West US 2"), -8),
        **dict.fromkeys(("West US 3", "West Central US"), -7),
        **dict.fromkeys(("Central US", "North Central US", "South Central US", "Mexico Central"), -6),
        **dict.fromkeys(("East US", "East US 2", "Canada Central", "Canada East"), -5),
        "Brazil South": -3,
        **dict.fromkeys(("UK South", "UK West", "North Europe"), 0),
        **dict.fromkeys(("West Europe", "Belgium Central", "France Central", "France South"), 1),
        **dict.fromkeys(("Germany North", "Germany West Central", "Austria East", "Denmark East"), 1),
        **dict.fromkeys(("Norway East", "Norway West", "Sweden Central", "Poland Central"), 1),
        **dict.fromkeys(("Italy North", "Spain Central", "Switzerland North", "Switzerland West"), 1),
        **dict.fromkeys(("Israel Central", "South Africa North", "South Africa West"), 2),
        "Qatar Central": 3,
        **dict.fromkeys(("UAE Central", "UAE North"), 4),
        **dict.fromkeys(("Central India", "South India", "Jio India West"), 5.5),
        "Indonesia Central": 7,
        **dict.fromkeys(("East Asia", "Southeast Asia", "Malaysia West"), 8),
        **dict.fromkeys(("Japan East", "Japan West", "Korea Central", "Korea South"), 9),
        **dict.fromkeys(("Australia East", "Australia Southeast"), 10),
        **dict.fromkeys(("Australia Central", "Australia Central 2"), 10),
        "New Zealand North": 12,
    }
)
"""Standard time of each region, in hours ahead of UTC; for day curves."""


@dataclass(frozen=True, slots=True)
class Geography:
    """Regions and the way between them.

    Attributes:
        table: round trip from region to region, in milliseconds; not symmetric.
        same_region_rtt_ms: round trip inside a region.
        regions: every region of the table, by name.
    """

    table: Mapping[tuple[str, str], float]
    same_region_rtt_ms: float = 1.0
    regions: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        names = {name for pair in self.table for name in pair}
        object.__setattr__(self, "regions", tuple(sorted(names)))

    def rtt_ms(self, a: str, b: str) -> float:
        """The table's round trip from `a` to `b`. Raises KeyError for a pair that it does not have."""
        if a == b:
            return self.same_region_rtt_ms
        return self.table[a, b]

    def one_way_ms(self, a: str, b: str) -> float:
        """Half of the table's `a` to `b`: there and back differ as the two cells of the table do."""
        return self.rtt_ms(a, b) / 2


@cache
def azure_rtts_ms() -> Mapping[tuple[str, str], float]:
    """The table that ships with the package, read once: milliseconds by (from, to)."""
    text = resources.files("isochrone.data").joinpath(_TABLE).read_text(encoding="utf-8")
    (_, *targets), *rows = (line.split(",") for line in text.splitlines())
    return MappingProxyType(
        {
            (source, target): float(cell)
            for source, *cells in rows
            for target, cell in zip(targets, cells, strict=True)
            if cell
        }
    )


@cache
def azure_regions() -> tuple[str, ...]:
    """The regions of that table, by name."""
    return Geography(azure_rtts_ms()).regions


def busiest_first(weights: Mapping[str, float], geography: Geography) -> tuple[str, ...]:
    """Regions by falling weight; of equal ones, the one farthest from those before it comes next."""
    ordered: list[str] = []
    for weight in sorted(set(weights.values()), reverse=True):
        left = [name for name in sorted(weights) if weights[name] == weight]
        while left:
            farthest = max(left, key=lambda name: _distance_ms(name, ordered, geography))
            ordered.append(farthest)
            left.remove(farthest)
    return tuple(ordered)


def _distance_ms(name: str, others: Sequence[str], geography: Geography) -> float:
    return min((geography.rtt_ms(name, other) for other in others), default=0.0)
