"""How long answers are."""

from dataclasses import dataclass, field

from isochrone.fleet.learn import Average, Line

_PRIOR_TOKENS = 128.0
_PRIOR_LIMITS = (1.0, 256.0)
_MEMORY = 40.0


def _new_line() -> Line:
    line = Line(_MEMORY)
    line.expect(0.0, 0.5, _PRIOR_LIMITS, 1.0)
    return line


@dataclass(slots=True)
class OutputLength:
    """Length of a model's answers, learned.

    Attributes:
        limited: tokens over the client's limit. Clients that always use their limit up give slope 1; those
            that set it far above their need give a base and little slope.
        unlimited: tokens of requests without a limit.
    """

    limited: Line = field(default_factory=_new_line)
    unlimited: Average = field(default_factory=lambda: Average(_MEMORY, _PRIOR_TOKENS, 1.0))

    def learn(self, limit: int | None, tokens: int) -> None:
        """Fold in one answer."""
        if limit is None:
            self.unlimited.add(tokens)
        else:
            self.limited.add(limit, tokens)

    def expect(self, limit: int | None) -> float:
        """Tokens of the next answer under this limit, at least 1."""
        if limit is None:
            return max(1.0, self.unlimited.value)
        return max(1.0, min(self.limited.at(limit), limit))
