"""The end of a stream, kept while it passes."""


class Tail:
    """The end of what was fed in, at least its last `bytes_max` bytes and at most twice that; and how many
    SSE events it was.

    Events are counted as occurrences of `data:` at the beginning of a line, also across feeds.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._kept = bytearray()
        self._before = b"\n"
        self.events = 0
        self.bytes = 0

    def feed(self, data: bytes) -> None:
        """Take the next piece of the stream."""
        self.events += (self._before + data).count(b"\ndata:")
        self._before = (self._before + data)[-5:]
        self.bytes += len(data)
        self._kept += data
        if len(self._kept) > 2 * self._bytes_max:
            del self._kept[: -self._bytes_max]

    @property
    def whole(self) -> bool:
        """Whether nothing was dropped: `value` is all there was."""
        return len(self._kept) == self.bytes

    @property
    def value(self) -> bytes:
        """The last bytes."""
        return bytes(self._kept)
