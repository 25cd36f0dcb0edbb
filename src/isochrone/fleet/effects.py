"""What the shell is to do, or to tell people, after an event."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CardWanted:
    """Fetch the card of `node` from the key-value bucket and send it in as CardReceived."""

    node: str


@dataclass(frozen=True, slots=True)
class NodeJoined:
    """A node is known now: its card and its first pulse are here."""

    node: str


@dataclass(frozen=True, slots=True)
class NodeSilent:
    """No news of `node` for `age_s`: give up attempts on it that have no first byte yet."""

    node: str
    age_s: float


@dataclass(frozen=True, slots=True)
class NodeReturned:
    """A silent node spoke again."""

    node: str


@dataclass(frozen=True, slots=True)
class NodeEjected:
    """`node` failed too often in a row and is put aside for `eject_s`; `why` quotes the last failure."""

    node: str
    eject_s: float
    why: str


@dataclass(frozen=True, slots=True)
class NodeForgotten:
    """`node` said goodbye or was silent for long, and is no longer known."""

    node: str


Effect = CardWanted | NodeJoined | NodeSilent | NodeReturned | NodeEjected | NodeForgotten
