"""Where weights are kept on this machine."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

Progress = Callable[[int, int | None], None]
"""Called with (bytes done, bytes in all or None when unknown). May be called from another thread."""


@dataclass(frozen=True, slots=True)
class StoredModel:
    """Weights on this machine's disk.

    Attributes:
        name: the model's name in the store.
        path: the file, named by its digest.
        sha256: digest of the file, lower-case hex.
        size_bytes: size of the file.
        source: where it came from, as the user wrote it.
    """

    name: str
    path: Path
    sha256: str
    size_bytes: int
    source: str


class Store(Protocol):
    """A content-addressed store of weights: one blob for each digest, any number of names for it."""

    def get(self, name: str) -> StoredModel | None:
        """The model called `name`, or None when it is not on disk."""
        ...

    def list(self) -> tuple[StoredModel, ...]:
        """All models on disk, in order of name."""
        ...

    async def pull(self, name: str, source: str, progress: Progress) -> StoredModel:
        """Fetch `source` and keep it as `name`; at once when it is on disk already.

        A broken download is resumed or discarded, never kept under a name. Two pulls of one source at
        once, by any processes, download it once. Raises StoreError.
        """
        ...

    def remove(self, name: str) -> bool:
        """Forget `name`, and its blob when no other name needs it. False when there was none."""
        ...
