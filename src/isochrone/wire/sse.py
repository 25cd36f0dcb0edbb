"""The end of an SSE stream of tokens."""

DONE = b"data: [DONE]\n\n"


def split_done(data: bytes) -> tuple[bytes, bytes]:
    """(`data` up to the last event, the last event) when that event is `[DONE]`, else (`data`, nothing).

    Clients close the connection as soon as they read `[DONE]`. A relay that holds it back until the sender
    has ended its message tells a client that has all it wanted from one that gave up.
    """
    return (data[: -len(DONE)], DONE) if data.endswith(DONE) else (data, b"")
