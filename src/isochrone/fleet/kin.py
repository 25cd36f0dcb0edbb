"""What all nodes that answered for one model have shown: there beliefs begin of one that has not."""

from dataclasses import dataclass, field

from isochrone.fleet.learn import Average, Line
from isochrone.model import NodeCard, Timings

Kind = str
"""Nodes of one kind are expected to be alike in speed."""

Point = tuple[float, float]

_MEMORY = 40.0
_KINDS_MAX = 64
_ONE_IN = 8
"""Of a kind that is known well, so many answers teach little more than one does."""


@dataclass(slots=True)
class _Speeds:
    """Both lines of a speed, over the answers of several nodes."""

    prefill: Line = field(default_factory=lambda: Line(_MEMORY))
    decode: Line = field(default_factory=lambda: Line(_MEMORY))
    answers: int = 0

    def wants_more(self) -> bool:
        """Whether to take in the next answer: the first ones all, then one in some, for they are alike."""
        self.answers += 1
        return self.answers <= _MEMORY or self.answers % _ONE_IN == 0

    def learn(self, prefill: Point | None, decode: Point | None) -> None:
        if prefill is not None:
            self.prefill.add(*prefill)
        if decode is not None:
            self.decode.add(*decode)


@dataclass(slots=True)
class Kin:
    """Errors, first tokens and speeds of one model on all nodes, and speeds on each kind of them.

    Attributes:
        error: how far first tokens were from their prediction, milliseconds.
        service: how long requests that we sent were expected to hold a slot, milliseconds.
        scarce: most nodes would have to load the model, by the last plan. Then a trial is mild: who shuns
            the few that have it makes others load it, and evict what is wanted there.
    """

    error: Average = field(default_factory=lambda: Average(_MEMORY))
    service: Average = field(default_factory=lambda: Average(_MEMORY))
    scarce: bool = False
    _any: _Speeds = field(default_factory=_Speeds)
    _kinds: dict[Kind, _Speeds] = field(default_factory=dict)

    def learn_speeds(self, kind: Kind, timings: Timings) -> None:
        """Take in what one answer of a node of this kind told."""
        speeds = self._kinds.get(kind)
        if speeds is None and len(self._kinds) < _KINDS_MAX:
            speeds = self._kinds[kind] = _Speeds()
        if speeds is not None and not speeds.wants_more():
            return
        prefill, decode = prefill_sample(timings), decode_sample(timings)
        self._any.learn(prefill, decode)
        if speeds is not None:
            speeds.learn(prefill, decode)

    def trial_ms(self, share: float) -> float:
        """What a node's `caution` is counted in, `share` as `trial_share`."""
        return share * self.service.value

    def prefill(self, kind: Kind) -> Point:
        """(base, milliseconds a token) to expect of a node of this kind; zeros when nobody answered yet."""
        speeds = self._kinds.get(kind)
        line = speeds.prefill if speeds is not None and speeds.prefill.count else self._any.prefill
        return line.fit()

    def decode(self, kind: Kind) -> Point:
        """(milliseconds a token, slope over concurrency), likewise."""
        speeds = self._kinds.get(kind)
        line = speeds.decode if speeds is not None and speeds.decode.count else self._any.decode
        return line.fit()


def kind_of(card: NodeCard) -> Kind:
    """The node's class of hardware, else its kind of engine and its slots."""
    return card.hardware or f"{card.engine}/{card.slots}"


def prefill_sample(timings: Timings) -> Point | None:
    """(computed tokens, milliseconds) of a prompt, None when the node did not tell."""
    if timings.prefill_ms <= 0 or timings.prompt_tokens <= 0:
        return None
    return max(0, timings.prompt_tokens - timings.cached_tokens), timings.prefill_ms


def decode_sample(timings: Timings) -> Point | None:
    """(concurrency, milliseconds a token) of an answer, None when the node did not tell."""
    if timings.output_tokens <= 1 or timings.decode_ms <= 0:
        return None
    return timings.concurrency, timings.decode_ms / (timings.output_tokens - 1)
