"""One connection of a server: its requests in turn, its clock, its end."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from isochrone.relay.alarm import Alarm
from isochrone.relay.exchange import Exchange, Handler
from isochrone.relay.half_close import HalfCloseWatch, reset
from isochrone.relay.head import CONTINUE, Refusal, reply_head
from isochrone.relay.limits import ServerLimits
from isochrone.relay.request_reader import Request, RequestReader, Stage
from isochrone.relay.tally import OwnTally, Tally


@dataclass(slots=True)
class Service:
    """What all connections of a server share.

    Attributes:
        tally: counts connections against `connections_max`, with those of other servers that share it.
        connections: those alive, and those gone whose handler still runs.
        of_clients: how many of them each address has.
        empty: set while there are none.
        closing: no exchange is begun any more.
    """

    handler: Handler
    limits: ServerLimits
    error_body: Callable[[int, str], bytes]
    on_crash: Callable[[BaseException], None]
    tally: Tally = field(default_factory=OwnTally)
    connections: set["Connection"] = field(default_factory=set)
    of_clients: Counter[str] = field(default_factory=Counter)
    empty: asyncio.Event = field(default_factory=asyncio.Event)
    closing: bool = False


class Connection(asyncio.Protocol):
    """Serves one client, one exchange at a time.

    Reading goes on while an exchange runs, for that is how we learn that the client has gone; it pauses
    only for a client that sends far ahead, whose going is then noticed late. A client that ends its side
    (EOF) while replies are owed is watched: it gets them unless it has left altogether (`half_close`).

    Attributes:
        has_room: the client reads as fast as we write, and is still there.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._limits = service.limits
        self._reader = RequestReader(service.limits)
        self._transport: asyncio.Transport
        self._alarm: Alarm
        self._peer = self._host = ""
        self._watch: HalfCloseWatch | None = None
        self._exchange: Exchange | None = None
        self._task: asyncio.Task[None] | None = None
        self._awaited: Stage | None = None
        self._ahead_bytes = 0
        self._writable = asyncio.Event()
        self._writable.set()
        self._leaving = False
        self._lost = False
        self.has_room = True

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a client, or tell it that there are too many."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=self._limits.write_buffer_bytes_max)
        self._alarm = Alarm(asyncio.get_running_loop(), self._on_alarm)
        self._host, self._peer = _address(transport.get_extra_info("peername"))
        refusal = self._crowded(self._service.tally.enter())
        self._service.connections.add(self)
        self._service.of_clients[self._host] += 1
        self._service.empty.clear()
        if refusal is not None:
            self._send_refusal(refusal)
            self._leave()
        else:
            self._advance()

    def data_received(self, data: bytes) -> None:
        """Read on, and begin what is whole."""
        if self._leaving:
            return
        self._reader.feed(data)
        if self._exchange is not None or not self._writable.is_set():
            self._ahead_bytes += len(data)
            if self._ahead_bytes > self._limits.read_ahead_bytes_max:
                self._transport.pause_reading()
        else:
            self._advance()

    def eof_received(self) -> bool:
        """The client has left, or only says no more; True keeps the connection, until that is known."""
        owed = self._busy or (self._reader.ready and not self._leaving)
        if owed and self._can_tell_who_left:
            self._watch = HalfCloseWatch(
                self._transport,
                ack_s_max=self._limits.write_s_max,
                provoke=self._provoke,
                gone=self._cut_now,
            )
            return True
        if owed:
            self._cut_now()
        else:
            self._leave()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the work that nobody waits for any more."""
        self._lost = self._leaving = True
        self.has_room = False
        self._alarm.close()
        if self._watch is not None:
            self._watch.close()
        self._writable.set()
        if self._busy and self._task is not None:
            self._task.cancel()
        self._forget()

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        self.has_room = False
        self._writable.clear()
        self._alarm.set(self._limits.write_s_max)

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.has_room = not self._lost
        self._writable.set()
        if not self._leaving:
            self._alarm.clear()
            self._advance()

    # The exchange's side (ReplySink).

    @property
    def persistent(self) -> bool:
        """Whether the connection may take another request after this one."""
        if self._watch is not None and not self._reader.ready and self._reader.refusal is None:
            return False
        return not (self._service.closing or self._leaving)

    def send(self, data: bytes) -> None:
        """Send or buffer `data`; thrown away when the client has gone."""
        if not self._transport.is_closing():
            self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the buffer has room. Raises ConnectionResetError when the client has gone."""
        if not self._writable.is_set():
            await self._writable.wait()
        if self._lost:
            await asyncio.sleep(0)  # lets the cancellation through, which says it better
            raise ConnectionResetError(f"{self._peer} has gone")

    def reply_ended(self, *, keep_alive: bool) -> None:
        """The last byte was sent."""
        if not (keep_alive and self.persistent):
            self._leave()

    def cut(self, *, by_reset: bool) -> None:
        """Close with the reply unfinished; by a reset where a plain end would pass for a whole body."""
        if by_reset:
            reset(self._transport)
        self._leave()

    # The server's side.

    def retire(self) -> None:
        """Close now when idle, else after the exchange that runs."""
        if self._exchange is None:
            self._leave()

    def drop(self) -> None:
        """Cut the connection now and cancel the handler."""
        if self._task is not None:
            self._task.cancel()
        self._cut_now()

    # Inside.

    @property
    def _busy(self) -> bool:
        """Whether a reply is owed."""
        return self._exchange is not None and not self._exchange.ended

    @property
    def _can_tell_who_left(self) -> bool:
        """Whether a client that left can be told from one that only ended its side, by sending something.

        Not over TLS, whose end closes both sides; nor before a reply on HTTP/1.0, which knows no interim one.
        """
        if self._transport.get_extra_info("ssl_object") is not None:
            return False
        exchange = self._exchange
        return exchange is None or exchange.started or exchange.takes_interim

    def _provoke(self) -> None:
        if self._exchange is not None:
            self._exchange.nudge()

    def _crowded(self, connections: int) -> Refusal | None:
        """Why this connection, with which there are so many, can't be taken, or None."""
        service, limits = self._service, self._limits
        if service.closing or connections > limits.connections_max:
            return Refusal(503, "Too many connections.")
        if self._host and service.of_clients[self._host] >= limits.connections_per_client_max:
            most = limits.connections_per_client_max
            return Refusal(429, f"Too many connections from {self._host}: it may have {most} at once.")
        return None

    def _advance(self) -> None:
        """Begin the next exchange, or refuse, or wait for more; nothing while the last reply is stuck."""
        if self._exchange is not None or self._leaving or not self._writable.is_set():
            return
        if self._reader.ready:
            self._begin(self._reader.ready.popleft())
        elif self._reader.refusal is not None:
            self._refuse(self._reader.refusal)
        elif self._watch is not None:
            self._leave()
        else:
            self._await_more()

    def _await_more(self) -> None:
        self._read_on()
        if self._reader.continue_wanted:
            self._reader.continue_wanted = False
            self.send(CONTINUE)
        stage, limits = self._reader.stage, self._limits
        if stage is self._awaited:
            return
        self._awaited = stage
        if stage is Stage.IDLE:
            self._alarm.set(limits.idle_s_max)
        else:
            self._alarm.set(limits.head_s_max if stage is Stage.HEAD else limits.body_s_max)

    def _begin(self, request: Request) -> None:
        self._alarm.clear()
        self._awaited = None
        if not self._reader.ready:
            self._read_on()
        self._exchange = Exchange(request, self._peer, self)
        self._task = asyncio.get_running_loop().create_task(self._service.handler(self._exchange))
        self._task.add_done_callback(self._on_handled)

    def _on_handled(self, task: asyncio.Task[None]) -> None:
        """Make good what the handler left undone, and go on."""
        exchange = cast(Exchange, self._exchange)
        self._exchange = self._task = None
        error = None if task.cancelled() else task.exception()
        if error is None and not (exchange.ended or task.cancelled()):
            error = RuntimeError(f"the handler left {exchange.method} {exchange.path} without an end")
        if exchange.started or self._leaving:
            exchange.abort()
        elif not exchange.ended:
            exchange.reply(500, self._service.error_body(500, "Something went wrong here."))
        if self._lost:
            self._forget()
        elif self._service.closing:
            self._leave()
        else:
            self._advance()
        if error is not None and not (self._lost and isinstance(error, ConnectionError)):
            self._service.on_crash(error)  # last: it may raise itself

    def _refuse(self, refusal: Refusal) -> None:
        """Answer, and throw away for a while what the client is still sending.

        Closing at once would reset the connection under bytes on their way, and the client might lose
        the reply that tells it why.
        """
        self._send_refusal(refusal)
        if self._watch is not None:  # and will send no more
            return self._leave()
        self._leaving = True
        self._alarm.set(self._limits.linger_s_max)
        if not self._transport.is_closing():
            if self._transport.can_write_eof():  # TLS can't end one side
                self._transport.write_eof()
            self._read_on()
        return None

    def _send_refusal(self, refusal: Refusal) -> None:
        body = self._service.error_body(refusal.status, refusal.message)
        framing = (
            b"connection: close",
            b"content-type: application/json",
            b"content-length: %d" % len(body),
        )
        self.send(reply_head(refusal.status, (), framing) + body)

    def _leave(self) -> None:
        """Close when what was written is sent, within `write_s_max`."""
        self._leaving = True
        if not self._lost:
            self._alarm.set(self._limits.write_s_max)
            self._transport.close()

    def _cut_now(self) -> None:
        """Close without sending the rest; `connection_lost` then cancels a handler that owes a reply."""
        self._leaving = True
        self._transport.abort()

    def _read_on(self) -> None:
        self._ahead_bytes = 0
        if self._watch is None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _on_alarm(self) -> None:
        if self._leaving or not self._writable.is_set():
            self._cut_now()
        elif self._awaited is Stage.IDLE:
            self._leave()
        else:
            self._refuse(Refusal(408, "The request took too long to arrive."))

    def _forget(self) -> None:
        if self._lost and self._task is None:
            self._service.connections.discard(self)
            self._service.of_clients[self._host] -= 1
            if not self._service.of_clients[self._host]:
                del self._service.of_clients[self._host]
            self._service.tally.leave()
            if not self._service.connections:
                self._service.empty.set()


def _address(peername: object) -> tuple[str, str]:
    """(address, `address:port`) of a peer; without an address the first is ""."""
    if not isinstance(peername, tuple):
        return "", "unknown"
    host, port = peername[:2]
    return host, f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
