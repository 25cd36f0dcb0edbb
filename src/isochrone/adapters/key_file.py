"""Keys in one file, readable by its owner only, and how those who read it learn of a change."""

import contextlib
import fcntl
import mmap
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from isochrone.model import KEYS_MAX, Key, KeyLimits
from isochrone.ports import SettingError

_FILE, _LOCK, _COUNT = "keys.json", "keys.lock", "keys.count"
_BYTES_MAX = 1024 * 1024
_LOOK_S = 1.0
_COUNT_BYTES = 8
_NAME_MAX = 64


@dataclass(frozen=True, slots=True)
class _Entry:
    """A key as the file holds it: digest as hex."""

    name: str
    sha256: str
    slot: int
    made_unix_s: int
    expires_unix_s: int | None = None
    requests_per_min: int | None = None
    tokens_per_min: int | None = None
    concurrency: int | None = None

    @classmethod
    def of(cls, key: Key) -> "_Entry":
        """The entry of `key`."""
        limits = key.limits
        return cls(
            key.name,
            key.digest.hex(),
            key.slot or 0,
            key.made_unix_s,
            key.expires_unix_s,
            limits.requests_per_min,
            limits.tokens_per_min,
            limits.concurrency,
        )

    def key(self) -> Key:
        """The key. Raises ValueError when it is none."""
        limits = KeyLimits(self.requests_per_min, self.tokens_per_min, self.concurrency)
        numbers = (self.requests_per_min, self.tokens_per_min, self.concurrency)
        if any(number is not None and number < 1 for number in numbers):
            raise ValueError(f"a limit of the key {self.name!r} is below 1")
        if not 0 <= self.slot < KEYS_MAX:
            raise ValueError(f"the slot of the key {self.name!r} is not within 0 and {KEYS_MAX - 1}")
        digest = bytes.fromhex(self.sha256)
        if len(digest) != 32:
            raise ValueError(f"the digest of the key {self.name!r} is no SHA-256")
        check_key_name(self.name)
        slot = self.slot if limits.limited else None
        return Key(self.name, digest, slot, limits, self.made_unix_s, self.expires_unix_s)


@dataclass(frozen=True, slots=True)
class _Book:
    """The whole file. Slots are given in turn, so that one that was freed rests as long as it can."""

    entries: list[_Entry]
    next_slot: int = 0


class KeyFile:
    """The keys of a state folder (`ports.KeySource`), and how they are changed.

    Whoever changes the file counts one number up, in a small file that readers have in memory: so they see a
    change with their next request, at the price of a look. Once a second they look at the file itself, for a
    change that was made without us.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._path = folder, folder / _FILE
        self._count: mmap.mmap | None = None
        self._seen, self._stamp, self._looked_s = b"", (0, 0, 0), float("-inf")

    # -- KeySource -----------------------------------------------------------------------------------

    def changed(self, now_s: float) -> bool:
        """See `KeySource`."""
        if self._count is not None and self._count[:_COUNT_BYTES] != self._seen:
            return True
        if now_s - self._looked_s < _LOOK_S:
            return False
        self._looked_s = now_s
        return _stamp(self._path) != self._stamp

    def read(self) -> tuple[Key, ...] | None:
        """See `KeySource`."""
        self._count = self._count or _open_count(self._folder / _COUNT)
        if self._count is not None:
            self._seen = self._count[:_COUNT_BYTES]
        self._stamp = _stamp(self._path)
        book = self._load()
        return None if book is None else tuple(key for _, key in _keys(book, self._path))

    # -- changing ------------------------------------------------------------------------------------

    def change(self, edit: Callable[[tuple[Key, ...]], tuple[Key, ...]]) -> None:
        """Replace the keys by what `edit` makes of them, in effect everywhere when this returns.

        Each new key is given a slot. Raises SettingError, of `edit` too: nothing has changed then.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._alone():
            book = self._load() or _Book([])
            slots = {entry.name: entry.slot for entry, _ in _keys(book, self._path)}
            keys = edit(tuple(key for _, key in _keys(book, self._path)))
            if len(keys) > KEYS_MAX:
                raise SettingError(
                    f"there are {KEYS_MAX} keys, which is the most; revoke one that is not used"
                )
            kept = {slots[key.name] for key in keys if key.name in slots}
            turn, entries = book.next_slot, []
            for key in keys:
                if (slot := slots.get(key.name)) is None:
                    slot = next(
                        s % KEYS_MAX for s in range(turn, turn + KEYS_MAX) if s % KEYS_MAX not in kept
                    )
                    kept.add(slot)
                    turn = (slot + 1) % KEYS_MAX
                entries.append(_Entry.of(replace(key, slot=slot)))
            self._save(_Book(entries, turn))

    def _load(self) -> _Book | None:
        try:
            with self._path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                data = file.read(_BYTES_MAX + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SettingError(f"{self._path} can't be read: {error.strerror or error}") from error
        if mode & 0o077:
            raise SettingError(f"{self._path} is open to others than its owner: chmod 600 {self._path}")
        if len(data) > _BYTES_MAX:
            raise SettingError(f"{self._path} is longer than {_BYTES_MAX} bytes")
        try:
            return msgspec.json.decode(data, type=_Book)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise SettingError(f"{self._path} does not hold keys: {error}") from error

    def _save(self, book: _Book) -> None:
        new = self._folder / f"{_FILE}.{secrets.token_hex(4)}"
        try:
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(book)))
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._path)
        finally:
            new.unlink(missing_ok=True)
        count = _open_count(self._folder / _COUNT)
        if count is not None:
            number = int.from_bytes(count[:_COUNT_BYTES], "little") + 1
            count[:_COUNT_BYTES] = (number % 2**64).to_bytes(_COUNT_BYTES, "little")
            count.close()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with os.fdopen(os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def check_key_name(name: str) -> str:
    """`name`. Raises SettingError when it can't name a key: it stands in metrics, logs and on terminals."""
    if not 0 < len(name) <= _NAME_MAX or not all("!" <= c <= "~" and c not in "\"'\\" for c in name):
        raise SettingError(
            f"a key's name is 1 to {_NAME_MAX} printable ASCII characters; no spaces, quotes or backslashes"
        )
    return name


def _keys(book: _Book, path: Path) -> list[tuple[_Entry, Key]]:
    try:
        pairs = [(entry, entry.key()) for entry in book.entries]
    except ValueError as error:
        raise SettingError(f"{path}: {error}") from error
    for what, values in (
        ("name", {entry.name for entry in book.entries}),
        ("digest", {key.digest for _, key in pairs}),
        ("slot", {entry.slot for entry in book.entries}),
    ):
        if len(values) != len(pairs):
            raise SettingError(f"{path}: two keys have the same {what}")
    return pairs


def _stamp(path: Path) -> tuple[int, int, int]:
    """What changes when the file does; zeros when there is none."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0, 0
    return found.st_mtime_ns, found.st_ino, found.st_size


def _open_count(path: Path) -> mmap.mmap | None:
    """The number, made when it is not there; None where we may not write: the look once a second remains."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        return None
    try:
        if os.fstat(fd).st_size < _COUNT_BYTES:
            os.ftruncate(fd, _COUNT_BYTES)
        return mmap.mmap(fd, _COUNT_BYTES)
    finally:
        os.close(fd)
