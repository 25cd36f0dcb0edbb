"""Where a NATS server is and what opens it; what of that may be said in errors and logs."""

import os
import re
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import SplitResult, urlsplit

from isochrone.ports import SettingError

_PORT_DEFAULT = 4222
_SCHEMES = ("nats", "tls")
_TOKEN_REFUSED = re.compile("authorization", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class NatsAddress:
    """A NATS server to be connected to.

    Attributes:
        url: `nats://host:port`, or `tls://`; may hold a user and a password.
        token: the server's token, or None when it wants none.
        place: `host:port`, the only part of the above that is ever shown.
    """

    url: str = field(repr=False)
    token: str | None = field(repr=False)
    place: str

    @classmethod
    def parse(cls, url: str, token: str | None) -> Self:
        """Check `url`. Raises SettingError when it is not the address of a NATS server."""
        try:
            parts = urlsplit(url)
            port = parts.port or _PORT_DEFAULT
        except ValueError:
            parts, port = SplitResult("", "", "", "", ""), 0
        if parts.scheme not in _SCHEMES or not parts.hostname:
            raise SettingError("The NATS URL is malformed; write it as nats://host:port.")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        return cls(url, token, f"{host}:{port}")

    def describe(self, error: Exception) -> str:
        """`error` in a few words, without any secret."""
        text = str(error).removeprefix("nats: ")
        if isinstance(error, TimeoutError):
            text = "no answer in time"
        elif isinstance(error, OSError) and error.errno is not None and error.errno > 0:
            text = os.strerror(error.errno)
        for secret in self._secrets():
            text = text.replace(secret, "***")
        return text or type(error).__name__

    def why_not(self, *errors: Exception) -> str:
        """One sentence for a connection that these prevented, and what to do.

        A server that refuses a token says so and hangs up: of the two errors, either may come first.
        """
        text = self.describe(errors[0])
        if any(_TOKEN_REFUSED.search(self.describe(error)) for error in errors):
            return f"NATS at {self.place} refused our token; give the token it was started with."
        return f"No NATS server answers at {self.place} ({text}); start one there or correct the URL."

    def _secrets(self) -> tuple[str, ...]:
        parts = urlsplit(self.url)
        return tuple(word for word in (self.token, parts.password, parts.username) if word)
