"""The plan: what share of the coming requests each node should get, from one gateway's view."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from isochrone.model.columns import Floats, Indices

NOWHERE: Indices = np.empty((0, 0), np.intp)
"""The gathering where nothing is gathered."""


@dataclass(frozen=True, slots=True, eq=False)
class Homes:
    """The division of a model's nodes among the gateways, from one gateway's view.

    Attributes:
        own: indices of the nodes that are ours, in order.
        lifts_ms: what made each gateway's share fit, by name: where the next division starts.
        shares: of the work, by name, smoothed.
        made_at_s: when.
    """

    own: Indices
    lifts_ms: Mapping[str, float]
    shares: Mapping[str, float]
    made_at_s: float

    def without(self, gone: int, last: int) -> "Homes":
        """The same after node `gone` left and `last` took its index."""
        return replace(self, own=_moved(self.own, gone, last))


@dataclass(frozen=True, slots=True)
class Company:
    """Which gateways tell each other what they send for a model, from one gateway's view.

    Attributes:
        mates: names of those that we tell, and who tell us.
        unheard: requests of the mates that are on their way, on average, and we do not know of yet.
        groups: names of all gateways that send for it, by company; each in one.
        made_of: a digest of these gateways: names, regions, whether they tell, and of how many homes there
            may be.
        made_at_s: when.
    """

    mates: frozenset[str]
    unheard: float
    groups: tuple[tuple[str, ...], ...]
    made_of: int
    made_at_s: float


@dataclass(frozen=True, slots=True, eq=False)
class Meeting:
    """What it costs to choose a node that others choose before they hear of it; arrays of shape (nodes,).

    Attributes:
        before_ms: how long a request is expected to wait for those that come there before it, unheard.
        behind: how many are expected to come there behind it whose gateways did not hear of it.
    """

    before_ms: Floats
    behind: Floats

    def without(self, gone: int, last: int) -> "Meeting":
        """The same after node `gone` left and `last` took its index."""
        return Meeting(_filled(self.before_ms, gone, last), _filled(self.behind, gone, last))


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Draw weights for one model, and what is expected of everybody else; good for some tenths of a second.

    All arrays have shape (nodes,), in the order of the view that it was made from. Nodes that came since are
    behind those and wait for the next plan.

    Attributes:
        made_at_s: when, on the gateway's monotonic clock.
        refresh_s: how long it is good for.
        edges: running sum of the weights of a draw, in requests; the last is the sum of all.
        draws: how many nodes to draw for one request, on average: the fewer, the older the news and the more
            others act on it.
        others_flow: slot-seconds a second that everybody else is expected to send to each node.
        service_s: what a typical request takes on a slot of each node.
        prefill_share: of that, the share before the first token, 0 to 1.
        token_price_ms: what each prompt token that must be computed takes from those who come after; 0 on an
            idle fleet.
        level_s: the score, in seconds, up to which nodes get work.
        ready_share: of the usable nodes, the share that has the model ready, 0 to 1.
        company: which gateways tell each other what they send; None for a plan of before there were any.
        homes: the nodes that are ours, or our company's; None where all gateways share all.
        gathering: where all gateways share all, to which few nodes go the prompts that begin alike, shape
            (shelves, few), -1 for one that left; a prompt's shelf is its beginning's hash modulo shelves.
            Only nodes that have the model ready count. Empty elsewhere, and where most usable nodes would
            have to load it, since then other models' work decides.
        front: indices of the best nodes of those that nobody sends much to unheard by us: of our own, or of
            all where no other gateway does; empty where many gateways share all unheard.
        front_s: their scores, in seconds, for a typical request; the same shape.
        front_kinds: nodes of the front with the same number are about as fast; the same shape. Empty: of one
            kind all, or speed hardly counts.
        lots: one in so many of the front is looked at for each request, drawn by lot: where others choose
            from the same front before we hear of it, not all should see the same one best.
        busy: work that everybody offers over the slots of the usable nodes, 0 to 0.9; 0 where many gateways
            share all: what is believed of waits there is too old to pay a slower node for.
        meeting: what it costs to meet the company's other requests; None where they are heard of at once.
    """

    made_at_s: float
    refresh_s: float
    edges: Floats
    draws: float
    others_flow: Floats
    service_s: Floats
    prefill_share: Floats
    token_price_ms: float
    level_s: float
    company: Company | None = None
    homes: Homes | None = None
    ready_share: float = 1.0
    gathering: Indices = field(default_factory=lambda: NOWHERE)
    front: Indices = field(default_factory=lambda: np.empty(0, np.intp))
    front_s: Floats = field(default_factory=lambda: np.empty(0))
    front_kinds: Indices = field(default_factory=lambda: np.empty(0, np.intp))
    lots: int = 1
    busy: float = 0.0
    meeting: Meeting | None = None

    def without(self, gone: int, last: int) -> "Plan":
        """The same after node `gone` left and `last`, the last of the view, took its index."""
        if gone >= len(self.edges):
            return self
        return replace(
            self,
            edges=np.cumsum(_filled(np.diff(self.edges, prepend=0.0), gone, last)),
            others_flow=_filled(self.others_flow, gone, last),
            service_s=_filled(self.service_s, gone, last),
            prefill_share=_filled(self.prefill_share, gone, last),
            homes=self.homes.without(gone, last) if self.homes is not None else None,
            meeting=self.meeting.without(gone, last) if self.meeting is not None else None,
            gathering=_renamed(self.gathering, gone, last),
            front=_moved(self.front, gone, last),
            front_s=self.front_s[self.front != gone],
            front_kinds=self.front_kinds[self.front != gone] if len(self.front_kinds) else self.front_kinds,
        )


def _moved(indices: Indices, gone: int, last: int) -> Indices:
    """`indices` without `gone`, and with `gone` in place of `last`, in the same order."""
    return _renamed(indices[indices != gone], gone, last)


def _renamed(indices: Indices, gone: int, last: int) -> Indices:
    """`indices` with -1 in place of `gone`, and with `gone` in place of `last`; any shape."""
    return np.where(indices == gone, -1, np.where(indices == last, gone, indices))


def _filled(values: Floats, gone: int, last: int) -> Floats:
    """`values` with that of `last` in the place of `gone`: nothing for a node that came since the plan."""
    values = values.copy()
    values[gone] = values[last] if last < len(values) else 0.0
    return values[:last]
