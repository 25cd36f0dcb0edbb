"""HTTP headers between hops."""

from collections.abc import Iterable

Headers = tuple[tuple[bytes, bytes], ...]
"""Name and value of each; names in lower case."""

_HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"content-length",
        b"date",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"server",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
"""RFC 9110, section 7.6.1, with what each hop writes anew: length, date and server."""


def end_to_end(headers: Headers, without: Iterable[bytes] = ()) -> Headers:
    """`headers` that may be passed on: not hop by hop, not named by `connection`, not in `without`."""
    named = {
        token.strip().lower()
        for name, value in headers
        if name == b"connection"
        for token in value.split(b",")
    }
    dropped = _HOP_BY_HOP | named | frozenset(without)
    return tuple((name, value) for name, value in headers if name not in dropped)


def told_number(value: bytes | None) -> int | None:
    """The whole number that a header tells; None without one, and for anything but one to nine digits."""
    told = (value or b"").strip()
    return int(told) if told.isdigit() and len(told) <= 9 else None


def told_count(value: bytes | None) -> int:
    """The same, 0 for None."""
    return told_number(value) or 0


def bearer_token(authorization: bytes | None) -> str:
    """The token of an `authorization: Bearer ...` header, "" when there is none."""
    scheme, _, token = (authorization or b"").partition(b" ")
    return token.strip().decode("latin-1") if scheme.lower() == b"bearer" else ""
