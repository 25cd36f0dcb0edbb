"""Where a gateway finds its clients' keys."""

from typing import Protocol

from isochrone.model import Key


class KeySource(Protocol):
    """Keys that others make, change and revoke while we read them."""

    def changed(self, now_s: float) -> bool:
        """Whether there may be something new since the last `read`. Asked with each request: it is quick."""
        ...

    def read(self) -> tuple[Key, ...] | None:
        """All keys; None when none was ever made, so that none is asked for. Raises SettingError."""
        ...


class NoKeys:
    """A gateway for everybody."""

    def changed(self, now_s: float) -> bool:
        """See `KeySource`."""
        return False

    def read(self) -> tuple[Key, ...] | None:
        """See `KeySource`."""
        return None
