"""One JetStream key-value bucket that is there whenever it is needed."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import nats.errors
import nats.js.errors as js_errors
from nats.aio.client import Client
from nats.js.api import KeyValueConfig
from nats.js.kv import KeyValue

from isochrone.adapters.nats_address import NatsAddress
from isochrone.ports import BusError

ANSWER_S_MAX = 2.0
"""Longest wait for one operation, the creation of the bucket included."""

_EXISTS_OTHERWISE = 10058
_T = TypeVar("_T")


class NatsBucket:
    """A bucket that is created when it is missing, also after the server came back with an empty store.

    It belongs to no connection: each operation is given the one to use, or None while there is none. All
    raise BusError while the server is away, when it does not answer in 2 s, or when it refuses.
    """

    def __init__(self, address: NatsAddress, config: KeyValueConfig) -> None:
        """Nothing is created before it is needed."""
        self._address = address
        self._config = config
        self._opened: tuple[Client, KeyValue] | None = None

    async def put(self, client: Client | None, key: str, value: bytes) -> None:
        """Keep `value` under `key`."""

        async def put(bucket: KeyValue) -> None:
            await bucket.put(key, value)

        await self._ask(client, f"keep '{key}'", put)

    async def get(self, client: Client | None, key: str) -> bytes | None:
        """The value under `key`, or None when there is none."""

        async def get(bucket: KeyValue) -> bytes | None:
            try:
                return (await bucket.get(key)).value or b""
            except js_errors.KeyNotFoundError:
                return None

        return await self._ask(client, f"read '{key}'", get)

    async def delete(self, client: Client | None, key: str) -> None:
        """Forget `key`, if it is there."""

        async def delete(bucket: KeyValue) -> None:
            await bucket.delete(key)

        await self._ask(client, f"forget '{key}'", delete)

    async def _ask(
        self, client: Client | None, what: str, operation: Callable[[KeyValue], Awaitable[_T]]
    ) -> _T:
        place = self._address.place
        if client is None or not client.is_connected:
            raise BusError(f"Could not {what}: NATS at {place} is away; try again when it is back.")
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                return await self._try_twice(client, operation)
        except TimeoutError as error:
            text = f"Could not {what}: no answer from NATS at {place} in {ANSWER_S_MAX:g} s; try again."
            raise BusError(text) from error
        except js_errors.ServiceUnavailableError as error:
            text = f"Could not {what}: JetStream is off or not ready at {place}; run nats-server with -js."
            raise BusError(text) from error
        except (nats.errors.Error, OSError) as error:
            text = f"Could not {what}: NATS at {place} says {self._address.describe(error)}."
            raise BusError(text) from error

    async def _try_twice(self, client: Client, operation: Callable[[KeyValue], Awaitable[_T]]) -> _T:
        """Do `operation`; once more on a new bucket when the one we knew has gone."""
        if self._opened is not None and self._opened[0] is client:
            try:
                return await operation(self._opened[1])
            except (js_errors.NoStreamResponseError, nats.errors.NoRespondersError):
                self._opened = None
        return await operation(await self._open(client))

    async def _open(self, client: Client) -> KeyValue:
        """The bucket: made when it is missing, taken as it is when somebody made it with other settings."""
        context = client.jetstream()
        try:
            bucket = await context.create_key_value(self._config)
        except js_errors.BadRequestError as error:
            if error.err_code != _EXISTS_OTHERWISE:
                raise
            bucket = await context.key_value(self._config.bucket)
        self._opened = (client, bucket)
        return bucket
