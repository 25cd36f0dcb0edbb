"""Values of which several are made for each request."""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import dataclass as fleeting
else:

    def fleeting(*, frozen: bool, slots: bool) -> partial:
        """A dataclass that is frozen for the type checker alone: freezing costs 0.1 us a field, each time."""
        return partial(dataclass, slots=slots, unsafe_hash=frozen)


__all__ = ["fleeting"]
