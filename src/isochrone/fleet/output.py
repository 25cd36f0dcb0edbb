"""How long answers are."""

from dataclasses import dataclass, field

from isochrone.fleet.learn import Average, Line

PRIOR_OUTPUT_TOKENS = 128.0
_MEMORY = 40.0
_MOST_OVER_MEAN = 4.0
"""No answer is expected to be longer than this many times the mean: limits far beyond all seen say little."""


@dataclass(slots=True)
class OutputLength:
    """Length of a model's answers, learned.

    Attributes:
        limited: tokens over the client's limit. Clients that always use their limit up give slope 1; those
            that set it far above their need give a base and little slope.
        mean: tokens of answers under a limit.
        unlimited: tokens of answers without one.
        answers: tokens of all answers; 0 before the first.
    """

    limited: Line = field(default_factory=lambda: Line(_MEMORY, prior_base=PRIOR_OUTPUT_TOKENS))
    mean: Average = field(default_factory=lambda: Average(_MEMORY))
    answers: Average = field(default_factory=lambda: Average(_MEMORY))
    unlimited: Average = field(default_factory=lambda: Average(_MEMORY, PRIOR_OUTPUT_TOKENS, 1.0))

    @property
    def most(self) -> float:
        """The longest answer that is expected, whatever the limit."""
        return max(PRIOR_OUTPUT_TOKENS, _MOST_OVER_MEAN * self.mean.value)

    def learn(self, limit: int | None, tokens: int) -> None:
        """Fold in one answer."""
        self.answers.add(tokens)
        if limit is None:
            self.unlimited.add(tokens)
        else:
            self.limited.add(limit, tokens)
            self.mean.add(tokens)

    def expect(self, limit: int | None) -> float:
        """Tokens of the next answer under this limit, at least 1."""
        if limit is None:
            return max(1.0, self.unlimited.value)
        return max(1.0, min(self.limited.at(limit), self.most, limit))
