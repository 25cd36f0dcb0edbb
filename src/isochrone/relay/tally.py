"""How many clients are connected: to one server, or to several that share a bound."""

from typing import Protocol


class Tally(Protocol):
    """A number of things under way, here and wherever else they are counted together."""

    def enter(self) -> int:
        """One more here; returns the sum with it."""
        ...

    def leave(self) -> None:
        """One less here."""
        ...


class OwnTally:
    """Counts for one server alone (`Tally`)."""

    def __init__(self) -> None:
        self._count = 0

    def enter(self) -> int:
        """See `Tally`."""
        self._count += 1
        return self._count

    def leave(self) -> None:
        """See `Tally`."""
        self._count -= 1
