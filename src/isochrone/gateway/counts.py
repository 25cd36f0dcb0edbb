"""Counters for Prometheus: to count with those of its own client takes up to eight times as long."""

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector


class Counts(Collector):
    """One counter, or one for each combination of labels that was ever counted.

    Read and written by the event loop's thread only, so it needs no lock.
    """

    def __init__(
        self, name: str, words: str, labels: tuple[str, ...] = (), *, registry: CollectorRegistry
    ) -> None:
        """`name` as it is told, `words` for people; without labels it is told from the beginning, as 0."""
        self._name, self._words, self._labels = name, words, labels
        self._counts: dict[tuple[str, ...], float] = {}
        self._since_s: dict[tuple[str, ...], float] = {}
        registry.register(self)
        if not labels:
            self.add(amount=0)

    def add(self, *labels: str, amount: float = 1) -> None:
        """Count `amount` (0 or more) more of these labels' values, in the order of their names."""
        if labels not in self._counts:
            self._counts[labels], self._since_s[labels] = 0, time.time()
        self._counts[labels] += amount

    def collect(self) -> Iterator[CounterMetricFamily]:
        """See `Collector`: the same as a `prometheus_client.Counter` tells."""
        family = CounterMetricFamily(self._name, self._words, labels=self._labels)
        for labels, count in self._counts.items():
            family.add_metric(labels, count, created=self._since_s[labels])
        yield family
