"""The message bus over NATS: `ports.Bus` for a server that comes and goes.

nats-py is used for one connection at a time, with its own reconnection off; this file holds a connection
for ever instead. Reasons: nats-py gives up for good on some errors that the server sends, has no jitter,
buffers while away, and cannot start without a server. A new connection is a new `Client`, and all that must
outlive it (subscriptions, listeners) is kept here.
"""

import asyncio
import contextlib
import logging
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import KeyValueConfig

from isochrone.adapters.nats_address import NatsAddress
from isochrone.adapters.nats_bucket import NatsBucket
from isochrone.adapters.nats_client import DirectClient
from isochrone.ports import BusError, Handler, SettingError

RETRY_S = 0.5
"""Pause between two tries to reach the server, times 0.5 to 1.5 so that a fleet does not come at once."""
PING_S = 2
"""A server that went silent without closing is noticed after three of these."""
PENDING_BYTES_MAX = 2 * 1024 * 1024
"""Bytes that wait for a slow server; beyond them `publish` drops. One message more may be on top."""
INBOX_MESSAGES_MAX = 16_384
INBOX_BYTES_MAX = 16 * 1024 * 1024
"""What one subscription holds of messages that could not be handed over at once; beyond it they are lost."""
BUCKET_BYTES_MAX = 64 * 1024 * 1024

_LOOK_S = 1.0
_HEARD_S = 0.5
_CANCEL_AGAIN_S = 0.1
_SETTLE_S_MAX = 1.0
_LEAVE_S_MAX = 0.8
_REASONS_MAX = 4
_YIELD_BYTES = 64 * 1024
_SUBJECT = re.compile(r"(?:(?:\*|[^\s.*>]+)\.)*(?:\*|>|[^\s.*>]+)")
_QUEUE = re.compile(r"[^\s.*>]+")
_BUCKET = re.compile(r"[a-zA-Z0-9_-]+")
_FAULTS = (nats.errors.Error, OSError, TimeoutError)

_log = logging.getLogger("isochrone.bus")


@dataclass(frozen=True, slots=True)
class _Subscription:
    """What every connection subscribes to."""

    subject: str
    handler: Handler
    queue: str
    urgent: bool = False


class NatsBus:
    """One NATS connection that is always being held or sought. See `ports.Bus` for what is promised."""

    def __init__(self, address: NatsAddress, name: str, bucket: NatsBucket, connect_s_max: float) -> None:
        """Use `NatsBus.connect`, which also checks the arguments."""
        self._address, self._place = address, address.place
        self._name = name
        self._bucket = bucket
        self._connect_s_max = connect_s_max
        self._client: DirectClient | None = None
        self._lost = asyncio.Event()
        self._subscriptions: list[_Subscription] = []
        self._listeners: list[Callable[[bool], None]] = []
        self._keeper: asyncio.Task[None] | None = None
        self._fault: Exception | None = None
        self._told: set[str] = set()
        self._dropped = 0
        self._overruns = 0
        self._handler_failures = 0

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        token: str | None,
        name: str,
        bucket: str = "isochrone_nodes",
        bucket_ttl_s: float = 3600,
        connect_s_max: float = 5.0,
        wait: bool = False,
    ) -> Self:
        """Connect to the server at `url` (`nats://host:port`) and hold the connection for ever.

        Args:
            url: where the server is; `tls://` for TLS.
            token: the server's token, or None when it wants none.
            name: shown in the server's list of clients.
            bucket: the JetStream key-value bucket, created when it is missing.
            bucket_ttl_s: seconds after which an entry that nobody renewed is forgotten.
            connect_s_max: longest time for one try.
            wait: with True, return at once and connect in the background, for as long as it takes.

        Raises:
            SettingError: `url` or `bucket` is malformed.
            BusError: no server answered, or it refused the token (only when `wait` is False).
        """
        if not _BUCKET.fullmatch(bucket):
            raise SettingError(f"The bucket name '{bucket}' is malformed; use letters, digits, _ and -.")
        address = NatsAddress.parse(url, token)
        config = KeyValueConfig(bucket=bucket, ttl=bucket_ttl_s, max_bytes=BUCKET_BYTES_MAX)
        bus = cls(address, name, NatsBucket(address, config), connect_s_max)
        if not wait:
            await bus._open()
        bus._keeper = asyncio.get_running_loop().create_task(bus._keep(), name="nats-bus")
        return bus

    @property
    def connected(self) -> bool:
        """Whether the server is reachable now."""
        return self._client is not None and self._client.is_connected

    @property
    def dropped(self) -> int:
        """Messages given to `publish` that were not sent: server away or too slow, or a message too large."""
        return self._dropped

    @property
    def overruns(self) -> int:
        """Messages received and lost because too many waited to be handed over."""
        return self._overruns

    @property
    def handler_failures(self) -> int:
        """Times that a handler or a listener raised."""
        return self._handler_failures

    def on_change(self, listener: Callable[[bool], None]) -> None:
        """Have `listener(connected)` called at each loss and each return of the server."""
        self._listeners.append(listener)

    async def publish(self, subject: str, payload: bytes) -> None:
        """Send `payload` to whoever listens on `subject` now; dropped and counted when it cannot be sent."""
        client = self._client
        if client is None or not client.is_connected or client.pending_data_size > PENDING_BYTES_MAX:
            self._dropped += 1
            return
        try:
            await client.publish(subject, payload)
            if client.pending_data_size > _YIELD_BYTES:
                await asyncio.sleep(0)  # let nats-py write: its `publish` never suspends
        except _FAULTS as error:
            self._dropped += 1
            self._warn_once(f"A message on {subject} was not sent: {self._address.describe(error)}.")

    async def publish_heard(self, subject: str, payload: bytes) -> bool:
        """As `publish`, and whether anybody listens: the server says at once when nobody does."""
        client = self._client
        if client is None or not client.is_connected or client.pending_data_size > PENDING_BYTES_MAX:
            self._dropped += 1
            return False
        try:
            await client.request(subject, payload, timeout=_HEARD_S)
        except TimeoutError:
            return client.is_connected
        except nats.errors.NoRespondersError:
            return False
        except _FAULTS as error:
            self._dropped += 1
            self._warn_once(f"A message on {subject} was not sent: {self._address.describe(error)}.")
            return False
        return True

    async def subscribe(
        self, subject: str, handler: Handler, *, queue: str = "", urgent: bool = False
    ) -> None:
        """Have `handler` called for each message on `subject`, on this connection and all that follow.

        For a second after an `urgent` message the connection is read as things come, not in gulps.

        With a `queue`, each message reaches one of the subscribers that name the same. Returns when the
        server knows of it, or at once while the server is away. Raises BusError when `subject` is no NATS
        subject, or `queue` no name of a queue group.
        """
        if not _SUBJECT.fullmatch(subject):
            raise BusError(f"'{subject}' is no NATS subject; use words joined by dots, without spaces.")
        if queue and not _QUEUE.fullmatch(queue):
            raise BusError(f"'{queue}' is no NATS queue group; use one word, without spaces.")
        subscription = _Subscription(subject, handler, queue, urgent)
        self._subscriptions.append(subscription)
        if self._client is not None:
            with contextlib.suppress(*_FAULTS):  # lost meanwhile: the next connection subscribes
                await self._attach(self._client, subscription)
                await _settle(self._client)

    async def put(self, key: str, value: bytes) -> None:
        """Keep `value` under `key`. Raises BusError while the server is away, or after 2 s."""
        with self._at_once():
            await self._bucket.put(self._client, key, value)

    async def get(self, key: str) -> bytes | None:
        """The value under `key`, or None. Raises BusError while the server is away, or after 2 s."""
        with self._at_once():
            return await self._bucket.get(self._client, key)

    async def delete(self, key: str) -> None:
        """Forget `key`, if it is there. Raises BusError while the server is away, or after 2 s."""
        with self._at_once():
            await self._bucket.delete(self._client, key)

    def _at_once(self) -> contextlib.AbstractContextManager[None]:
        """While an answer is waited for, what comes is read as it comes."""
        return contextlib.nullcontext() if self._client is None else self._client.gulping.at_once()

    async def close(self) -> None:
        """Send what is still to be sent and leave, within two seconds."""
        if self._keeper is not None:
            await _end(self._keeper)
        client, self._client = self._client, None
        if client is not None:
            await _leave(client)

    async def _keep(self) -> None:
        """Hold a connection for ever: watch it until it is lost, then try until there is a new one."""
        while True:
            if self._client is None:
                try:
                    await self._open()
                except BusError as error:
                    self._warn_once(str(error))
            else:
                await self._watch(self._client)
            if self._client is None:
                await asyncio.sleep(RETRY_S * random.uniform(0.5, 1.5))

    async def _open(self) -> None:
        """Connect once and subscribe to everything. Raises BusError."""
        client, self._lost = DirectClient(), asyncio.Event()
        try:
            async with contextlib.AsyncExitStack() as undo, asyncio.timeout(self._connect_s_max):
                undo.push_async_callback(_leave, client)
                await self._dial(client, self._lost)
                for subscription in self._subscriptions:  # also those added meanwhile
                    await self._attach(client, subscription)
                self._client = client
                undo.pop_all()
        except Exception as error:  # whatever nats-py makes of a peer that speaks no NATS
            raise BusError(self._address.why_not(self._fault or error, error)) from error
        await _settle(client)
        self._told.clear()
        _log.info("Connected to NATS at %s.", self._place)
        self._tell(connected=True)

    async def _dial(self, client: Client, lost: asyncio.Event) -> None:
        async def on_closed() -> None:
            lost.set()

        self._fault = None
        await client.connect(
            self._address.url,
            name=self._name,
            token=self._address.token,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            ping_interval=PING_S,
            pending_size=2 * PENDING_BYTES_MAX,
            error_cb=self._on_error,
            closed_cb=on_closed,
        )

    async def _watch(self, client: Client) -> None:
        """Return when `client` is lost. Looks by itself too: nats-py may hang before it says so."""
        while client.is_connected and not self._lost.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._lost.wait()
        self._client = None
        self._warn_once(f"Lost NATS at {self._place}; trying to come back.")
        self._tell(connected=False)
        await _leave(client)

    async def _attach(self, client: DirectClient, subscription: "_Subscription") -> None:
        def deliver(subject: str, payload: bytes) -> None:
            try:
                subscription.handler(subject, payload)
            except Exception as error:  # noqa: BLE001 - a handler's bug must not end the subscription
                self._count_failure(f"The handler of {subscription.subject}", error)

        async def take(message: Msg) -> None:
            deliver(message.subject, message.data)

        attached = await client.subscribe(
            subscription.subject,
            queue=subscription.queue,
            cb=take,
            pending_msgs_limit=INBOX_MESSAGES_MAX,
            pending_bytes_limit=INBOX_BYTES_MAX,
        )
        client.hand_over(attached, deliver, urgent=subscription.urgent)

    async def _on_error(self, error: Exception) -> None:
        self._fault = error
        if isinstance(error, nats.errors.SlowConsumerError):
            self._overruns += 1
        _log.debug("NATS at %s: %s", self._place, self._address.describe(error))

    def _tell(self, *, connected: bool) -> None:
        for listener in self._listeners:
            try:
                listener(connected)
            except Exception as error:  # noqa: BLE001 - a listener's bug must not end the connection
                self._count_failure("A listener", error)

    def _warn_once(self, text: str) -> None:
        """Log each text as a warning once, and a few of them, until the next connection."""
        again = text in self._told or len(self._told) >= _REASONS_MAX
        _log.log(logging.DEBUG if again else logging.WARNING, "%s", text)
        if not again:
            self._told.add(text)

    def _count_failure(self, who: str, error: Exception) -> None:
        self._handler_failures += 1
        if self._handler_failures == 1:
            _log.error("%s failed; what follows is only counted.", who, exc_info=error)


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel `task` until it ends: nats-py swallows a cancellation that meets a refused connection."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_CANCEL_AGAIN_S)


async def _leave(client: Client) -> None:
    """Close `client` in bounded time. What hangs beyond it ends when the server's socket does."""
    with contextlib.suppress(Exception):  # we are leaving: there is nobody to be told
        async with asyncio.timeout(_LEAVE_S_MAX):
            await client.close()


async def _settle(client: Client) -> None:
    """Wait until the server took what was sent, but not long.

    The flush itself is left running: nats-py's reader dies of a pong whose flush was given up.
    """
    flush = asyncio.get_running_loop().create_task(client.flush())
    flush.add_done_callback(lambda task: task.cancelled() or task.exception())
    await asyncio.wait([flush], timeout=_SETTLE_S_MAX)
