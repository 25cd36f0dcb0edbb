"""The front: the nodes that looked best at the last plan, kept in order as our own requests go there.

The plan scores nodes for a request of typical length. Where the last token counts, a longer one gains more by
a fast node and a shorter one by a free one: so the best of each kind of speed come first, then the second of
each.
"""

from bisect import bisect_left, insort

from isochrone.model import Plan

_Kind = list[tuple[float, int]]


class Front:
    """A short list of a model's nodes, best first, by the scores of a typical request.

    Between two plans only our own dispatches change it, and those that we are told of. News of the nodes
    is seen when the first few are looked at anew for each request.
    """

    def __init__(self, plan: Plan) -> None:
        kinds = plan.front_kinds.tolist() or [0] * len(plan.front)
        listed = zip(plan.front_s.tolist(), plan.front.tolist(), kinds, strict=True)
        by_kind: dict[int, _Kind] = {}
        self._listed: dict[int, tuple[float, _Kind]] = {}
        for score_s, index, number in sorted(listed):
            kind = by_kind.setdefault(number, [])
            kind.append((score_s, index))
            self._listed[index] = score_s, kind
        self._kinds = list(by_kind.values())

    def first(self, count: int) -> tuple[int, ...]:
        """The indices of the best `count`: the best of each kind, then the second of each, and so on."""
        if len(self._kinds) == 1:
            return tuple([index for _, index in self._kinds[0][:count]])
        found: _Kind = []
        for at in range(count):
            row = [kind[at] for kind in self._kinds if len(kind) > at]
            row.sort()
            found += row
            if len(found) >= count or not row:
                break
        return tuple([index for _, index in found[:count]])

    def worsen(self, index: int, by_s: float) -> None:
        """A request of ours went there: the next is later by `by_s`; no error when it is not listed."""
        listed = self._listed.get(index)
        if listed is not None:
            score_s, kind = listed
            del kind[bisect_left(kind, (score_s, index))]
            self._listed[index] = score_s + by_s, kind
            insort(kind, (score_s + by_s, index))
