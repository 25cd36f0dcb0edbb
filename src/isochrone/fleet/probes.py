"""The probe pool of Prequal: a few fresh answers, each used a few times.

Source: Wydrowski, Kleinberg, Rumble and Archer, "Load is not what you should balance", NSDI 2024, section
4: a bounded pool, an age limit, a reuse budget, removal of the worst and the oldest in turn, and the count of
our own request on top of an answer once it was used.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil, inf

from isochrone.model import ProbeSettings

_KEPT_MIN = 2
"""Answers kept at least, where there are so many nodes: with one there is nothing to compare."""

_SEEN_MAX = 128
"""Answers over which quantiles of requests in flight are taken."""


@dataclass(slots=True)
class Answer:
    """One answer: the node's row, what it told, when it came, how often it was used."""

    node: int
    in_flight: int
    latency_ms: float
    at_s: float
    uses: int = 0


@dataclass(slots=True)
class ProbePool:
    """Answers for one model, oldest first."""

    settings: ProbeSettings
    answers: list[Answer] = field(default_factory=list)
    seen: deque[int] = field(default_factory=lambda: deque(maxlen=_SEEN_MAX))
    _removals_due: float = 0.0
    _oldest_next: bool = False

    def add(self, answer: Answer, nodes: int) -> None:
        """Take an answer of one of `nodes` in; one of the same node, or the oldest of too many, gives way."""
        self.seen.append(answer.in_flight)
        self.answers = [kept for kept in self.answers if kept.node != answer.node]
        self.answers.append(answer)
        del self.answers[: -self.pool_max(nodes)]

    def pool_max(self, nodes: int) -> int:
        """How many answers are kept: fewer than set where the reuse budget would have no end.

        The budget's formula needs `pool_max < nodes * (1 - removals / probes)`: 16 want more than 24 nodes.
        """
        settings = self.settings
        if settings.per_request <= settings.removals_per_request:
            return settings.pool_max
        most = nodes * (1.0 - settings.removals_per_request / settings.per_request)
        return max(min(nodes, _KEPT_MIN), min(settings.pool_max, ceil(most) - 1))

    def forget(self, node: int) -> None:
        """The node's row may be another's soon."""
        self.answers = [answer for answer in self.answers if answer.node != node]

    def fresh(self, now_s: float) -> Sequence[Answer]:
        """What may be used now."""
        oldest_s = now_s - self.settings.age_max_s
        if self.answers and self.answers[0].at_s < oldest_s:
            self.answers = [answer for answer in self.answers if answer.at_s >= oldest_s]
        return self.answers

    def used(self, node: int, nodes: int) -> None:
        """A request went to `node`, one of `nodes`: count it, and take answers out as due."""
        uses_max = self._uses_max(nodes)
        for answer in self.answers:
            if answer.node == node:
                answer.in_flight += 1
                answer.uses += 1
        self.answers = [answer for answer in self.answers if answer.uses < uses_max]
        self._removals_due += self.settings.removals_per_request
        while self._removals_due >= 1.0 and self.answers:
            self._removals_due -= 1.0
            self._remove_one()
        self._removals_due = min(self._removals_due, 1.0)

    def _uses_max(self, nodes: int) -> float:
        settings = self.settings
        left = (1.0 - self.pool_max(nodes) / nodes) * settings.per_request - settings.removals_per_request
        return max(1.0, (1.0 + settings.delta) / left) if left > 0 else inf

    def _remove_one(self) -> None:
        """The oldest, or the worst: the most in flight, of equals the slowest; in turn."""
        if self._oldest_next:
            self.answers.pop(0)
        else:
            self.answers.remove(max(self.answers, key=lambda answer: (answer.in_flight, answer.latency_ms)))
        self._oldest_next = not self._oldest_next
