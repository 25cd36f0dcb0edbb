"""Regions by number, and the round trips between them."""

from collections.abc import Callable

import numpy as np

from isochrone.model.columns import Floats

UNKNOWN_RTT_MS = 50.0
"""Between regions of which the table knows nothing."""


class Places:
    """Gives each region a number, and tells round trips for all numbers at once.

    `rtt_between(a, b)` is in milliseconds, None where the table does not know one of them.
    """

    def __init__(self, rtt_between: Callable[[str, str], float | None] = lambda _a, _b: None) -> None:
        self._rtt_between = rtt_between
        self._numbers: dict[str, int] = {}
        self._from: dict[str, Floats] = {}

    def snapshot(self) -> "Places":
        """The same, for whoever reads it while regions are added here."""
        twin = Places(self._rtt_between)
        twin._numbers.update(self._numbers)
        twin._from.update(self._from)
        return twin

    def number(self, region: str) -> int:
        """The number of a region, a new one when it was never asked for."""
        return self._numbers.setdefault(region, len(self._numbers))

    def rtt_ms(self, origin: str, region: str) -> float:
        """Round trip between two regions."""
        known = self.known_rtt_ms(origin, region)
        return UNKNOWN_RTT_MS if known is None else known

    def known_rtt_ms(self, origin: str, region: str) -> float | None:
        """The same, None where the table does not know it."""
        return self._rtt_between(origin, region) if origin and region else None

    def rtt_ms_from(self, origin: str) -> Floats:
        """Round trip from a region to each of those numbered, shape (numbers,)."""
        self.number("")
        known = self._from.get(origin)
        if known is None or len(known) != len(self._numbers):
            known = self._from[origin] = np.array([self.rtt_ms(origin, to) for to in self._numbers])
        return known
