"""Virtual time: what is to happen, in order."""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

Action = Callable[[float, Any], None]
"""What is to be done: (now_s, subject)."""


class Agenda:
    """Actions by time; those of one instant in the order in which they were noted.

    Attributes:
        now_s: the instant of the action under way, or of the last one.
        done: how many actions were done.
    """

    def __init__(self) -> None:
        self.now_s = 0.0
        self.done = 0
        self._noted = 0
        self._heap: list[tuple[float, int, Action, Any]] = []

    def note(self, when_s: float, action: Action, subject: Any) -> None:
        """Do `action(when_s, subject)` then; what is noted for the past is done next."""
        self._noted += 1
        heappush(self._heap, (when_s, self._noted, action, subject))

    @property
    def next_s(self) -> float:
        """When the next action is due; inf when nothing is noted."""
        return self._heap[0][0] if self._heap else float("inf")

    def step(self) -> None:
        """Do the next action. There must be one."""
        when_s, _, action, subject = heappop(self._heap)
        self.now_s = max(self.now_s, when_s)
        self.done += 1
        action(self.now_s, subject)
