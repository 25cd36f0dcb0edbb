"""What is counted for each key, by its name: never by anything of the key itself."""

from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter

from isochrone.model import KEYS_MAX, Key


class KeyMetrics:
    """Counters by key; there are at most as many as keys were ever made while this process ran."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._refused = Counter(
            "isochrone_key_refused_total",
            "Requests refused by the limits of their key",
            ["key", "limit"],
            registry=registry,
        )
        self._requests = Counter(
            "isochrone_key_requests_total", "Requests let in, by key", ["key"], registry=registry
        )
        self._tokens = Counter(
            "isochrone_key_tokens_total",
            "Tokens of prompts and answers, as nodes report them, by key",
            ["key"],
            registry=registry,
        )
        self._of_key = lru_cache(maxsize=KEYS_MAX)(self._counters)

    def refused(self, key: Key, limit: str) -> None:
        """Count a request that was more than one of its key's limits allows."""
        self._refused.labels(key.name, limit).inc()

    def served(self, key: Key, tokens: int | None) -> None:
        """Count a request that was let in, and the tokens it took where they are known."""
        requests, taken = self._of_key(key.name)
        requests.inc()
        if tokens:
            taken.inc(tokens)

    def _counters(self, name: str) -> tuple[Counter, Counter]:
        """Looked up once: `labels` takes longer than counting."""
        return self._requests.labels(name), self._tokens.labels(name)
