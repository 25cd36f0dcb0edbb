"""Distance in user space: a TCP proxy whose bytes arrive late. For drills on one machine.

`tc netem` would need root and a kernel module; this needs neither. What it does as a long line does:

- every byte is delayed by the one-way delay of its direction, in order, and never waits for other bytes;
- the target is connected to one round trip after the client came, and nothing flows earlier;
- half-close and reset travel like bytes; a client that leaves is noticed by the target one delay later.

What it does not do: loss, jitter and TCP's slow start. Each direction holds at most `buffer_bytes_max` bytes
(and one read of up to 256 KiB) on the line, so its throughput is `buffer_bytes_max` / one-way delay: 1 MiB
over 20 ms is 52 MB/s. Timers round up to a millisecond; a delivery is up to about 1 ms late, never early.
"""

import asyncio
import contextlib
import socket
import struct
import time
from dataclasses import dataclass
from typing import cast

from isochrone.adapters.wan_line import Line, Mark
from isochrone.ports import SettingError

BUFFER_BYTES_MAX = 1024 * 1024
CONNECT_S_MAX = 5.0
"""How long the target may take to accept; then the client is reset."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class _Route:
    host: str
    port: int
    out_delay_s: float
    back_delay_s: float
    buffer_bytes_max: int

    @property
    def rtt_s(self) -> float:
        return self.out_delay_s + self.back_delay_s


class WanLink:
    """A listening socket that stands for a target far away."""

    def __init__(
        self,
        listen_host: str,
        listen_port: int,
        target_host: str,
        target_port: int,
        *,
        out_delay_s: float,
        back_delay_s: float,
        buffer_bytes_max: int = BUFFER_BYTES_MAX,
    ) -> None:
        """Start nothing yet.

        Args:
            listen_host: address to listen on.
            listen_port: port to listen on; 0 for any.
            target_host: where bytes go.
            target_port: its port.
            out_delay_s: seconds from client to target.
            back_delay_s: seconds from target to client.
            buffer_bytes_max: bytes on the line in one direction; more wait at the sender.

        Raises:
            SettingError: a delay or the buffer is out of range.
        """
        for delay_s in (out_delay_s, back_delay_s):
            if not 0 <= delay_s <= 60:
                raise SettingError(f"The delay {delay_s} s is out of range; choose 0 to 60 seconds.")
        if buffer_bytes_max < 1:
            raise SettingError(f"A buffer of {buffer_bytes_max} bytes is too small; choose 1 or more.")
        self._listen = listen_host, listen_port
        self._route = _Route(target_host, target_port, out_delay_s, back_delay_s, buffer_bytes_max)
        self._server: asyncio.Server | None = None
        self._open: set[_Connection] = set()

    @property
    def connections(self) -> int:
        """Connections that are open now."""
        return len(self._open)

    async def start(self) -> int:
        """Listen and return the port. Raises SettingError when the port is taken."""
        host, port = self._listen
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: _Connection(self._route, self._open).client, host, port
            )
        except OSError as error:
            raise SettingError(
                f"Cannot listen on {host}:{port} ({error.strerror}); choose another port."
            ) from error
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening and reset every connection."""
        if self._server is None:
            return
        self._server.close()
        for connection in list(self._open):
            connection.cut()
        await self._server.wait_closed()
        self._server = None


class _Connection:
    """A client, a target, and a line each way."""

    def __init__(self, route: _Route, among: set["_Connection"]) -> None:
        self._route, self._among = route, among
        opens_s = time.monotonic() + route.rtt_s
        out = Line(route.out_delay_s, opens_s, route.buffer_bytes_max)
        back = Line(route.back_delay_s, opens_s, route.buffer_bytes_max)
        self.client = _End(to_peer=out, from_peer=back, connection=self)
        self.target = _End(to_peer=back, from_peer=out, connection=self)
        self._dialling: asyncio.Task[None] | None = None

    def accepted(self) -> None:
        """The client is there: call the target, one round trip from now."""
        self._among.add(self)
        self._dialling = asyncio.get_running_loop().create_task(self._dial(), name="wan-dial")

    async def _dial(self) -> None:
        await asyncio.sleep(self._route.rtt_s)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_S_MAX):
                await loop.create_connection(lambda: self.target, self._route.host, self._route.port)
        except (OSError, TimeoutError):
            self.cut()

    def ended(self) -> None:
        """One end is closed; forget the connection when both are (until then the dialling goes on)."""
        if self.client.closed and self.target.closed:
            self._among.discard(self)

    def cut(self) -> None:
        """Reset both ends now."""
        if self._dialling is not None:
            self._dialling.cancel()
        for end in (self.client, self.target):
            end.reset()
        self._among.discard(self)


class _End(asyncio.Protocol):
    """The socket at one end: what is read here goes `to_peer`, what comes `from_peer` is written here."""

    def __init__(self, to_peer: Line, from_peer: Line, connection: _Connection) -> None:
        self._to_peer, self._from_peer, self._connection = to_peer, from_peer, connection
        self._transport: asyncio.Transport | None = None
        self._read_all = False
        self._wrote_all = False
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        self._to_peer.source = self._transport
        if self is self._connection.client:
            self._connection.accepted()
        self._from_peer.attach(self)

    def data_received(self, data: bytes) -> None:
        self._to_peer.send(data)

    def eof_received(self) -> bool:
        self._read_all = True
        self._to_peer.send(Mark.FIN)
        self._close_when_done()
        return True  # the other direction stays open

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._to_peer.source = None
        self._from_peer.close()
        if exc is not None or not self._read_all:
            self._to_peer.send(Mark.RESET)
        self._connection.ended()

    def pause_writing(self) -> None:
        self._from_peer.hold()

    def resume_writing(self) -> None:
        self._from_peer.release()

    def write(self, what: bytes | Mark) -> None:
        """Write what came off the line."""
        if self._transport is None or self.closed:
            return
        if isinstance(what, bytes):
            self._transport.write(what)
        elif what is Mark.RESET:
            self.reset()
        else:
            self._wrote_all = True
            self._transport.write_eof()
            self._close_when_done()

    def reset(self) -> None:
        """Close at once, so that the peer sees a reset and not an orderly end."""
        if self._transport is None or self.closed:
            return
        with contextlib.suppress(OSError):  # gone already
            self._transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE
            )
        self._transport.abort()

    def _close_when_done(self) -> None:
        if self._read_all and self._wrote_all and self._transport is not None:
            self._transport.close()
