"""How much work a simulated node truly has left, for references that are allowed to know it."""

from collections.abc import Iterable
from dataclasses import dataclass
from heapq import heapify, heapreplace


@dataclass(frozen=True, slots=True)
class Remaining:
    """The work on a node at one instant.

    Attributes:
        running_s: seconds that each job on a slot still needs.
        waiting_s: seconds on a slot that each job without one will need, first come first.
        prompts_s: seconds until the last prompt begun is computed.
    """

    running_s: list[float]
    waiting_s: list[float]
    prompts_s: float

    @classmethod
    def of(cls, batches: Iterable[tuple[list[float], float]], waiting_s: list[float]) -> "Remaining":
        """All batches of a node together; each tells its running jobs' seconds and its prompts'."""
        running_s: list[float] = []
        prompts_s = 0.0
        for batch_running_s, batch_prompts_s in batches:
            running_s += batch_running_s
            prompts_s = max(prompts_s, batch_prompts_s)
        return cls(running_s, waiting_s, prompts_s)

    @property
    def backlog_s(self) -> float:
        """Slot-seconds."""
        return sum(self.running_s) + sum(self.waiting_s)

    def wait_s(self, slots: int) -> float:
        """Seconds until one more job's prompt would begin on one of `slots`, first come, first served."""
        useful = min(slots, len(self.running_s) + len(self.waiting_s) + 1)
        free_at_s = self.running_s + [0.0] * (useful - len(self.running_s))
        heapify(free_at_s)
        for service_s in self.waiting_s:
            heapreplace(free_at_s, free_at_s[0] + service_s)
        return max(free_at_s[0], self.prompts_s)
