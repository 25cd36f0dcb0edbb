"""Every bound of the relay. What happens at each of them is told here."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Bounds of a server, each for one connection unless told otherwise.

    Attributes:
        head_bytes_max: request line and headers; beyond it 431. Also the bytes of chunk framing and
            trailers that may follow one another without a byte of body.
        headers_max: header fields of a request; beyond it 431.
        body_bytes_max: body of a request; beyond it 413, at once when the length was announced.
        head_s_max: from the first byte of a head to its last; beyond it 408.
        body_s_max: from the end of the head to the end of the body; beyond it 408.
        idle_s_max: without a request; beyond it the connection is closed.
        write_s_max: with the write buffer full, or with bytes still to be sent on a connection that is
            being closed; beyond it the connection is cut, and with it the handler.
        linger_s_max: a refused client may still be sending; so long is what it sends thrown away, that
            it may read why it was refused before the connection is reset.
        connections_max: connections of the whole server; beyond it 503 and close.
        connections_per_client_max: connections from one address; beyond it 429 and close. As many as there
            are at all unless told otherwise: a proxy in front is one address.
        write_buffer_bytes_max: high-water mark of bytes waiting to be sent; beyond it `Exchange.write` waits.
        read_ahead_bytes_max: bytes taken while an exchange runs; beyond it reading pauses until it is over.
        pipelined_max: requests waiting their turn; beyond it those are answered, then 503 and close.
    """

    head_bytes_max: int = 32 * 1024
    headers_max: int = 100
    body_bytes_max: int = 8 * 1024 * 1024
    head_s_max: float = 10.0
    body_s_max: float = 60.0
    idle_s_max: float = 75.0
    write_s_max: float = 60.0
    linger_s_max: float = 2.0
    connections_max: int = 4096
    connections_per_client_max: int = 4096
    write_buffer_bytes_max: int = 256 * 1024
    read_ahead_bytes_max: int = 64 * 1024
    pipelined_max: int = 64


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """Bounds of a client.

    Attributes:
        connect_s_max: name look-up, TCP and TLS together; beyond it UpstreamError.
        head_bytes_max: status line and headers of a reply, with any 1xx before it; also its trailers with
            chunk framing. Beyond it UpstreamError.
        idle_per_origin_max: connections kept for one origin; the oldest is closed for the next.
        idle_s_max: a connection is kept so long without work. Keep it below the servers' `idle_s_max`.
        read_buffer_bytes_max: body bytes that wait for the consumer; beyond it reading pauses. One read of
            the socket (256 KiB) may come on top.
        body_bytes_max: longest body that `Response.read` takes; beyond it UpstreamError.
    """

    connect_s_max: float = 5.0
    head_bytes_max: int = 64 * 1024
    idle_per_origin_max: int = 64
    idle_s_max: float = 30.0
    read_buffer_bytes_max: int = 256 * 1024
    body_bytes_max: int = 64 * 1024 * 1024
