"""Web pages of other origins: who may ask, and what browsers are told of it. Why: decision 0015.

Source: the Fetch standard's CORS protocol. https://fetch.spec.whatwg.org/#http-cors-protocol
"""

import re

from isochrone.relay import Exchange, Headers

ANY = "*"
_READABLE = b"*"
"""All headers of an answer; without cookies, as here, the star means that."""
_PREFLIGHT_S = b"600"
_NAMES = re.compile(rb"[\w!#$%&'*+.^`|~-]+(?:[ \t]*,[ \t]*[\w!#$%&'*+.^`|~-]+)*")
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.\[\]:_-]+")


def is_origin(text: str) -> bool:
    """Whether `text` is an origin as browsers write it, such as `https://example.org:8443`, or `*`."""
    return text == ANY or _ORIGIN.fullmatch(text) is not None


def admit(exchange: Exchange, origins: frozenset[str]) -> bool:
    """Whether whoever asks may; then the reply will carry what lets a page of another origin read it.

    Only browsers send `Origin`. A page of the gateway's own origin may always ask.
    """
    origin = exchange.header(b"origin")
    if origin is None:
        return True
    if ANY in origins:
        told: Headers = ((b"access-control-allow-origin", b"*"),)
    elif origin.decode("latin-1").lower() in origins:
        told = ((b"access-control-allow-origin", origin), (b"vary", b"origin"))
    else:
        return origin.lower().partition(b"://")[2] == (exchange.header(b"host") or b"").lower() != b""
    exchange.reply_headers += (*told, (b"access-control-expose-headers", _READABLE))
    return True


def preflight_headers(exchange: Exchange, methods: tuple[str, ...]) -> Headers:
    """What the answer to OPTIONS says of `methods`: to anybody, and to a browser that asks for a page."""
    listed = ", ".join((*methods, "OPTIONS")).encode()
    headers: Headers = ((b"allow", listed),)
    if exchange.header(b"access-control-request-method") is None or not exchange.reply_headers:
        return headers
    headers += ((b"access-control-allow-methods", listed), (b"access-control-max-age", _PREFLIGHT_S))
    asked = exchange.header(b"access-control-request-headers")
    if asked is not None and _NAMES.fullmatch(asked):
        headers += ((b"access-control-allow-headers", asked),)
    return headers
