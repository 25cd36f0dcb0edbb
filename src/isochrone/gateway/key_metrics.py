"""What is counted for each key, by its name: never by anything of the key itself."""

from prometheus_client import CollectorRegistry

from isochrone.gateway.counts import Counts
from isochrone.model import Key


class KeyMetrics:
    """Counters by key; there are at most as many as keys were ever made while this process ran."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._refused = Counts(
            "isochrone_key_refused_total",
            "Requests refused by the limits of their key",
            ("key", "limit"),
            registry=registry,
        )
        self._requests = Counts(
            "isochrone_key_requests_total", "Requests let in, by key", ("key",), registry=registry
        )
        self._tokens = Counts(
            "isochrone_key_tokens_total",
            "Tokens of prompts and answers, as nodes report them, by key",
            ("key",),
            registry=registry,
        )

    def refused(self, key: Key, limit: str) -> None:
        """Count a request that was more than one of its key's limits allows."""
        self._refused.add(key.name, limit)

    def served(self, key: Key, tokens: int | None) -> None:
        """Count a request that was let in, and the tokens it took where they are known."""
        self._requests.add(key.name)
        self._tokens.add(key.name, amount=tokens or 0)
