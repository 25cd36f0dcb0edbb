"""Luck as an argument."""

from typing import Protocol


class Luck(Protocol):
    """What policies may draw. `random.Random(seed)` is one; so is any replay of another's draws."""

    def random(self) -> float:
        """A number from 0 up to 1, uniform."""
        ...

    def randrange(self, stop: int, /) -> int:
        """A whole number from 0 up to `stop`, uniform."""
        ...
