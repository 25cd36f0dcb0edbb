"""The keys that clients may show: found by digest, read anew as soon as they change."""

import hashlib
from collections.abc import Callable, Iterable
from hmac import compare_digest

from isochrone.gateway.crew import SharedFlag
from isochrone.model import Key
from isochrone.ports import Clock, KeySource, SettingError

_INDEX_BYTES = 8


class KeyRing:
    """What this worker knows of the keys.

    A key is found by the first bytes of its digest and compared in whole, in constant time: what the look-up
    takes tells at most of digests, and who knows a digest knows no secret.
    """

    def __init__(
        self,
        source: KeySource,
        fixed: Iterable[str],
        clock: Clock,
        *,
        asked_for: SharedFlag,
        log: Callable[[str], None],
    ) -> None:
        """`fixed`: digests (hex) of keys that hold as long as we run. Raises SettingError."""
        self._source, self._clock, self._log, self._asked_for = source, clock, log, asked_for
        self._fixed = tuple(
            Key(f"environment-{at}", bytes.fromhex(digest)) for at, digest in enumerate(sorted(fixed), 1)
        )
        self._by_index: dict[bytes, Key] = {}
        self._take(source.read())

    @property
    def asked_for(self) -> bool:
        """Whether clients must show a key; once that was so it stays so, in all workers, until all end."""
        self._refresh()
        return self._asked_for.is_set

    def find(self, secret: str) -> Key | None:
        """The key whose secret that is, unless it has expired; None when there is none."""
        self._refresh()
        digest = hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
        key = self._by_index.get(digest[:_INDEX_BYTES])
        if key is None or not compare_digest(key.digest, digest):
            return None
        return None if key.expired(self._clock.unix_ms() / 1e3) else key

    def _refresh(self) -> None:
        if not self._source.changed(self._clock.now_s()):
            return
        try:
            keys = self._source.read()
        except SettingError as error:
            self._log(f"the keys stay as they were: {error}")
            return
        self._take(keys)
        self._log(f"{len(self._by_index)} keys are in effect")

    def _take(self, keys: tuple[Key, ...] | None) -> None:
        if keys is not None or self._fixed:
            self._asked_for.set()
        self._by_index = {key.digest[:_INDEX_BYTES]: key for key in (*(keys or ()), *self._fixed)}
