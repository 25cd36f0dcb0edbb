"""The end of an SSE stream of tokens."""

HELD_BYTES_MAX = 64 * 1024
"""A longer event is passed on as it comes."""

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


def split_events(data: bytes) -> tuple[bytes, bytes]:
    """(the whole events in `data`, the rest), with `[DONE]` counted to the rest as in `split_done`.

    A relay that sends whole events only can end a stream that breaks off in the middle of one with an event
    of its own: after half an event nobody could read it. What is held goes before the next piece.
    """
    whole = data
    if data.endswith(b"\n\n"):  # nearly always
        if not data.endswith(DONE):
            return data, b""
        whole = data[: -len(DONE)]
        if not whole or whole.endswith(b"\n\n"):
            return whole, DONE
    elif data.endswith(_DONE_CRLF):
        whole = data[: -len(_DONE_CRLF)]
    end = max(whole.rfind(b"\n\n") + 2, whole.rfind(b"\r\n\r\n") + 4)
    if end < 4:  # neither was found, or at the very beginning, where it ends no event
        end = 0
    if len(data) - end > HELD_BYTES_MAX:
        return data, b""
    return data[:end], data[end:]
