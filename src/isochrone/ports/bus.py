"""The message bus: fire-and-forget subjects, and a small key-value bucket for what changes slowly."""

from collections.abc import Callable
from typing import Protocol

Handler = Callable[[str, bytes], None]
"""Called with (subject, payload) for each message, on the event loop. Must not block or raise."""


class Bus(Protocol):
    """Core publish/subscribe and one key-value bucket. Survives the loss of its server by itself.

    While the server is away, `publish` drops what it is given (the next pulse says it again), `put` and
    `get` raise `BusError`, and subscriptions come back by themselves on reconnection.
    """

    @property
    def connected(self) -> bool:
        """Whether the server is reachable now."""
        ...

    def on_change(self, listener: Callable[[bool], None]) -> None:
        """Have `listener(connected)` called at each loss and each return of the server."""
        ...

    async def publish(self, subject: str, payload: bytes) -> None:
        """Send `payload` to whoever listens on `subject` now; dropped when the server is away."""
        ...

    async def publish_heard(self, subject: str, payload: bytes) -> bool:
        """As `publish`, and whether anybody listens: True comes half a second later."""
        ...

    async def subscribe(
        self, subject: str, handler: Handler, *, queue: str = "", urgent: bool = False
    ) -> None:
        """Have `handler` called for each message on `subject` (NATS wildcards allowed).

        While `urgent` messages come, all that comes is handed over as it comes, at whatever cost.

        Of all subscribers with the same `queue` each message reaches one, drawn by the server; with "" it
        reaches everybody.
        """
        ...

    async def put(self, key: str, value: bytes) -> None:
        """Keep `value` under `key`. Raises BusError while the server is away."""
        ...

    async def get(self, key: str) -> bytes | None:
        """The value under `key`, or None when there is none. Raises BusError while the server is away."""
        ...

    async def delete(self, key: str) -> None:
        """Forget `key`; no error when there is none. Raises BusError while the server is away."""
        ...

    async def close(self) -> None:
        """Send what is still to be sent and leave, within two seconds."""
        ...
