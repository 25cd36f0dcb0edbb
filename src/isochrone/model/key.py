"""A client's key, as a gateway knows it: never the secret, only its digest."""

from dataclasses import dataclass

KEYS_MAX = 1024
"""Keys of one file: each has a slot in memory that the workers of a gateway share."""


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """What a key may ask for; None: as much as it likes.

    Attributes:
        requests_per_min: requests that may begin in a minute.
        tokens_per_min: tokens of prompts and answers in a minute.
        concurrency: requests under way at once.
    """

    requests_per_min: int | None = None
    tokens_per_min: int | None = None
    concurrency: int | None = None

    @property
    def limited(self) -> bool:
        """Whether there is something to keep count of."""
        limits = (self.requests_per_min, self.tokens_per_min, self.concurrency)
        return any(limit is not None for limit in limits)


NO_LIMITS = KeyLimits()


@dataclass(frozen=True, slots=True)
class Key:
    """One key.

    Attributes:
        name: for people, metrics and logs; unique.
        digest: SHA-256 of the secret, 32 bytes.
        slot: its place in shared memory, from 0 to `KEYS_MAX` - 1; None for a key without limits of its own.
        limits: what it may ask for.
        made_unix_s: when it was made.
        expires_unix_s: from when on it is refused, or None.
    """

    name: str
    digest: bytes
    slot: int | None = None
    limits: KeyLimits = NO_LIMITS
    made_unix_s: int = 0
    expires_unix_s: int | None = None

    @property
    def mark(self) -> bytes:
        """16 bytes by which a slot knows whose state it holds."""
        return self.digest[:16]

    def expired(self, unix_s: float) -> bool:
        """Whether it is past its time."""
        return self.expires_unix_s is not None and unix_s >= self.expires_unix_s
