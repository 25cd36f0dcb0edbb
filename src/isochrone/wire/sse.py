"""The end of an SSE stream of tokens."""

DONE = b"data: [DONE]\n\n"
_DONE_CRLF = b"data: [DONE]\r\n\r\n"
"""As some servers end their lines; held only when it comes in one piece."""


def split_done(data: bytes) -> tuple[bytes, bytes]:
    """(`data` up to a last event that is `[DONE]` or may yet become it, that event as far as it came).

    Clients close the connection as soon as they read `[DONE]`. A relay that holds it back until the sender
    has ended its message tells a client that has all it wanted from one that gave up. What is held goes
    before the next piece: call this with both joined.
    """
    if data.endswith(_DONE_CRLF):
        return data[: -len(_DONE_CRLF)], _DONE_CRLF
    if data.endswith(b"\n\n"):  # nearly always
        return (data[: -len(DONE)], DONE) if data.endswith(DONE) else (data, b"")
    for length in range(min(len(DONE) - 1, len(data)), 0, -1):
        if data.endswith(DONE[:length]):
            return data[:-length], data[-length:]
    return data, b""
