"""Bytes to nouns and back, and nothing else: no sockets, no clocks, no decisions.

Whatever comes off a wire is untrusted. Each decoder either returns a checked noun or raises `WireError` (a
peer's nonsense: counted and dropped) or `BadRequestError` (the client's to mend), with one clear sentence.
"""

from isochrone.wire.errors import BadRequestError, WireError

__all__ = ["BadRequestError", "WireError"]
