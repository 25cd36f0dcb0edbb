"""The front: the nodes that looked best at the last plan, kept in order as our own requests go there."""

from bisect import bisect_left, insort

from isochrone.model import Plan


class Front:
    """A short list of a model's nodes, best first, by the scores of a typical request.

    Between two plans only our own dispatches change it. News of the nodes is seen when the first few are
    looked at anew for each request.
    """

    def __init__(self, plan: Plan) -> None:
        scores = zip(plan.front_s.tolist(), plan.front.tolist(), strict=True)
        self._order: list[tuple[float, int]] = sorted(scores)
        self._score_s = {index: score_s for score_s, index in self._order}

    def first(self, count: int) -> tuple[int, ...]:
        """The indices of the best `count`."""
        return tuple([index for _, index in self._order[:count]])

    def worsen(self, index: int, by_s: float) -> None:
        """A request of ours went there: the next is later by `by_s`; no error when it is not listed."""
        score_s = self._score_s.get(index)
        if score_s is not None:
            del self._order[bisect_left(self._order, (score_s, index))]
            self._score_s[index] = score_s + by_s
            insort(self._order, (score_s + by_s, index))
