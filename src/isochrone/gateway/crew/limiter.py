"""Holds keys to their limits, together with the other workers."""

from dataclasses import dataclass
from math import ceil, inf

from isochrone.gateway.crew import gcra
from isochrone.gateway.crew.table import KeyState, SharedTable
from isochrone.model import Key, KeyLimits
from isochrone.wire.http_headers import Headers

_CONCURRENCY_WAIT_S = 1.0
"""Nobody knows when a request under way will end; so long is a client told to wait."""


@dataclass(frozen=True, slots=True)
class Shortage:
    """A request that a key's limits do not allow now.

    Attributes:
        limit: which of them: `requests`, `tokens` or `concurrency`.
        message: for the client.
        wait_s: until it would be allowed; infinite when it never is.
        headers: what is left of the key's limits, and when it is worth while to ask again.
    """

    limit: str
    message: str
    wait_s: float
    headers: Headers

    @property
    def retry_after_s(self) -> int | None:
        """What `Retry-After` says; None when trying again is no use."""
        return None if self.wait_s == inf else max(1, ceil(self.wait_s))


@dataclass(frozen=True, slots=True)
class Grant:
    """A request that counts against a key, until `Limiter.settle`.

    Attributes:
        key: the key, as it was at admission.
        tokens: what was taken in advance for the prompt and the answer.
        headers: what is left of the key's limits.
    """

    key: Key
    tokens: int
    headers: Headers


class Limiter:
    """Admits requests of keys that have limits."""

    def __init__(self, table: SharedTable) -> None:
        self._table = table

    def admit(self, key: Key, tokens: int, now_s: float) -> Grant | Shortage:
        """Count a request of about `tokens` against `key`, or tell what it lacks. A refusal costs nothing."""
        slot, limits, table = key.slot, key.limits, self._table
        if slot is None:
            return Grant(key, 0, ())
        table.lock(slot)
        try:
            state = table.read(slot, key.mark)
            shortage = _shortage(key, state, tokens, now_s)
            if shortage is None:
                requests_at_s, tokens_at_s = state.requests_at_s, state.tokens_at_s
                if limits.requests_per_min is not None:
                    requests_at_s = gcra.spend(requests_at_s, now_s, 1, limits.requests_per_min)
                if limits.tokens_per_min is not None:
                    tokens_at_s = gcra.spend(tokens_at_s, now_s, tokens, limits.tokens_per_min)
                table.spend(slot, requests_at_s, tokens_at_s)
                table.enter(slot)
                state = KeyState(requests_at_s, tokens_at_s)
        finally:
            table.unlock(slot)
        return shortage or Grant(key, tokens, _headers(limits, state, now_s))

    def settle(self, grant: Grant, tokens: int | None, now_s: float) -> None:
        """The request of `grant` has ended and took `tokens`; None: unknown, the estimate stands."""
        key, table = grant.key, self._table
        if key.slot is None:
            return
        per_min = key.limits.tokens_per_min
        if per_min is not None and tokens is not None and tokens != grant.tokens:
            table.lock(key.slot)
            try:
                state = table.read(key.slot, key.mark)
                at_s = gcra.spend(state.tokens_at_s, now_s, tokens - grant.tokens, per_min)
                table.spend(key.slot, state.requests_at_s, at_s)
            finally:
                table.unlock(key.slot)
        table.leave(key.slot, key.mark)


def _shortage(key: Key, state: KeyState, tokens: int, now_s: float) -> Shortage | None:
    limits = key.limits
    if (most := limits.concurrency) is not None and state.in_flight >= most:
        why = f"concurrent requests: Limit {most}, Used {state.in_flight}."
        return _told(key, "concurrency", why, _CONCURRENCY_WAIT_S, _headers(limits, state, now_s))
    if (rpm := limits.requests_per_min) is not None:
        wait_s = gcra.wait_s(state.requests_at_s, now_s, 1, rpm)
        if wait_s > 0:
            why = f"requests per min (RPM): Limit {rpm}."
            return _told(key, "requests", why, wait_s, _headers(limits, state, now_s))
    if (tpm := limits.tokens_per_min) is not None:
        wait_s = gcra.wait_s(state.tokens_at_s, now_s, tokens, tpm)
        if wait_s > 0:
            used = max(0, tpm - _whole(gcra.left(state.tokens_at_s, now_s, tpm)))
            why = f"tokens per min (TPM): Limit {tpm}, Used {used}, Requested about {tokens}."
            return _told(key, "tokens", why, wait_s, _headers(limits, state, now_s))
    return None


def _told(key: Key, limit: str, why: str, wait_s: float, headers: Headers) -> Shortage:
    message = f"Rate limit reached for the key '{key.name}' on {why}"
    if wait_s == inf:
        message += " The request is larger than the limit: make it smaller."
        return Shortage(limit, message, wait_s, (*headers, (b"x-should-retry", b"false")))
    retry = (b"retry-after-ms", b"%d" % ceil(wait_s * 1e3))
    return Shortage(limit, f"{message} Try again in {_duration(wait_s)}.", wait_s, (*headers, retry))


def _headers(limits: KeyLimits, state: KeyState, now_s: float) -> Headers:
    """What OpenAI's API tells of a key's limits, in its own words."""
    headers: Headers = ()
    if (per_min := limits.requests_per_min) is not None:
        headers = _three(b"requests", per_min, state.requests_at_s, now_s)
    if (per_min := limits.tokens_per_min) is not None:
        headers += _three(b"tokens", per_min, state.tokens_at_s, now_s)
    return headers


def _three(what: bytes, per_min: int, at_s: float, now_s: float) -> Headers:
    left = max(0, _whole(gcra.left(at_s, now_s, per_min)))
    full_in = _duration(gcra.full_in_s(at_s, now_s)).encode()
    return (
        (b"x-ratelimit-limit-" + what, b"%d" % per_min),
        (b"x-ratelimit-remaining-" + what, b"%d" % left),
        (b"x-ratelimit-reset-" + what, full_in),
    )


def _whole(units: float) -> int:
    return int(units + 1e-6)


def _duration(s: float) -> str:
    """As Go writes it, and OpenAI's API: `20ms`, `1.5s`, `2m3s`."""
    ms = ceil(s * 1e3)
    if ms < 1000:
        return f"{ms}ms"
    minutes, rest_ms = divmod(ms, 60_000)
    seconds = f"{rest_ms / 1e3:.3f}".rstrip("0").rstrip(".")
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"
