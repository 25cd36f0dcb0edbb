"""nats-py's client, made to read in gulps and to hand messages over as soon as it has read them."""

import asyncio

from nats.aio.client import Client
from nats.aio.subscription import Subscription

from isochrone.adapters.nats_gulps import GulpingTransport
from isochrone.ports import Handler


class DirectClient(Client):
    """Calls the handlers of some subscriptions from the task that reads.

    By itself nats-py makes an object of each message, queues it, and wakes a task of the subscription, which
    calls the handler. With a handler that returns at once the queue holds nothing that the socket would not.
    Should a nats-py to come leave `_process_msg` uncalled, messages go that way and only cost more.

    Attributes:
        gulping: what reads and writes for it.
    """

    def __init__(self) -> None:
        """Not connected; see `Client.connect`."""
        super().__init__()
        self._transport = self.gulping = GulpingTransport(self.stats, asyncio.get_running_loop().time)
        self._direct: dict[int, tuple[Subscription, Handler]] = {}
        self._urgent: set[int] = set()

    def hand_over(self, subscription: Subscription, handler: Handler, *, urgent: bool = False) -> None:
        """From now on call `handler`, which must not raise, for what comes for `subscription`.

        After something `urgent` there are no gulps for a second; that itself may have waited in one.
        """
        self._direct[subscription._id] = (subscription, handler)
        if urgent:
            self._urgent.add(subscription._id)

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        # The server takes any bytes for a subject; what is no text would end nats-py's reading.
        told = subject.decode("utf-8", "replace")
        direct = self._direct.get(sid)
        if direct is None or direct[0].pending_msgs:  # what already waits goes first
            await super()._process_msg(sid, told.encode(), reply, data, headers)
            return
        self.stats["in_msgs"] += 1
        self.stats["in_bytes"] += len(data)
        if sid in self._urgent:
            self.gulping.hurry()
        direct[1](told, data)
