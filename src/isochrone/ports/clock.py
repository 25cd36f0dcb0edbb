"""Time as an argument."""

import time
from typing import Protocol


class Clock(Protocol):
    """A clock that never goes backwards, and the date for people to read."""

    def now_s(self) -> float:
        """Seconds since some fixed instant; only differences mean something."""
        ...

    def unix_ms(self) -> int:
        """Milliseconds since 1970. For people and for ordering lives of a process; never for durations."""
        ...


class MonotonicClock:
    """The machine's clock."""

    def now_s(self) -> float:
        """See `Clock`."""
        return time.monotonic()

    def unix_ms(self) -> int:
        """See `Clock`."""
        return time.time_ns() // 1_000_000
