"""Homes: which nodes a gateway looks after, so that few gateways act on one node unseen by each other.

Many gateways that share all nodes act on each other's old news. If each node has one gateway that sends most
of its work, that gateway's own ledger says nearly all there is to know of it, however old the node's last
word is. So the nodes are divided: each gateway, or each company of gateways that tell each other what they
send, gets capacity in proportion to the work it sends, near rather than far. All gateways work it out alone,
from what gateways and nodes tell, and come out nearly alike.

    home(node) = argmax over gateways of  (lift(gateway) - rtt(gateway, node)) / tau + gumbel(gateway, node)

`gumbel` is noise by hash, the same at every gateway: a node keeps its home while little changes. The lifts
are found by iteration, so that each gateway's share of the capacity is its share of the work.

Sources: the division is an optimal transport with entropy (Cuturi, "Sinkhorn distances", NIPS 2013) rounded
by weighted rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to increase hit rates",
1998).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from isochrone.model import Bools, Company, FleetView, Floats, Hashes, Homes, Indices, Peer
from isochrone.routing.company import everybody, near_together

_ITERATIONS = 24
_WORK_SHARE_MIN = 1e-4
_EXP_MAX = 60.0
_ROUNDING = 1e-9
_UNSURE_SHARE_MAX = 0.3


@dataclass(frozen=True, slots=True)
class HomeSettings:
    """How the nodes are divided.

    Attributes:
        nodes_min: a home has at least so many nodes: to balance needs some to choose from. Where there are
            fewer for each company, companies share homes.
        rtt_ms: `tau`, the difference in round trip that is worth about as much as luck.
        refresh_s: how often they are divided anew.
        share_gain: how much of a change in the gateways' shares of the work is followed each time.
    """

    nodes_min: int = 8
    rtt_ms: float = 20.0
    refresh_s: float = 5.0
    share_gain: float = 0.3


DEFAULT_HOME_SETTINGS = HomeSettings()


def homes_max(nodes: int, settings: HomeSettings = DEFAULT_HOME_SETTINGS) -> int:
    """How many homes there may be of so many nodes."""
    return nodes // settings.nodes_min


def divide(
    view: FleetView,
    company: Company,
    capacity: Floats,
    ready: Bools,
    settings: HomeSettings = DEFAULT_HOME_SETTINGS,
) -> Homes | None:
    """The nodes that are ours, or our company's; None where all gateways share them all.

    `capacity`: slot-seconds a second of each node, shape (nodes,); `ready`: those that count. Starts from the
    division before, which the view's plan holds, and changes the shares of the work only slowly.
    """
    nodes = np.flatnonzero(ready)
    groups = _groups(view, company, homes_max(len(nodes), settings))
    if len(groups) < 2:
        return None
    names = [group[0].name for group in groups]
    last = view.plan.homes if view.plan is not None else None
    shares = _shares(groups, last.shares if last is not None else {}, settings.share_gain)
    name_hash, likings = view.nodes.columns.name_hash[nodes], np.empty((len(nodes), len(groups)))
    for at, group in enumerate(groups):
        likings[:, at] = _gumbel(name_hash, group[0]) - _rtt_ms(view, group)[nodes] / settings.rtt_ms
    weights = capacity[nodes] / max(float(capacity[nodes].sum()), 1e-9)
    before = last.lifts_ms if last is not None else {}
    lifts = np.array([before.get(name, 0.0) for name in names]) / settings.rtt_ms
    favourites = _Favourites(likings)
    lifts = _balanced(favourites, weights, shares, lifts)
    owner = favourites.under(lifts)
    ours = next(at for at, group in enumerate(groups) if any(peer.name == view.me.name for peer in group))
    return Homes(
        own=nodes[owner == ours],
        lifts_ms=dict(zip(names, (lifts * settings.rtt_ms).tolist(), strict=True)),
        shares=dict(zip(names, shares.tolist(), strict=True)),
        made_at_s=view.now_s,
    )


def _shares(groups: list[list[Peer]], before: Mapping[str, float], gain: float) -> Floats:
    """Each group's share of the work, shape (groups,), near what it was."""
    now = np.array([sum(peer.work_per_s for peer in group) for group in groups])
    now = np.maximum(now / max(float(now.sum()), 1e-9), _WORK_SHARE_MIN)
    known = [before.get(group[0].name) for group in groups]
    shares = np.array(
        [share if was is None else was + gain * (share - was) for share, was in zip(now, known, strict=True)]
    )
    return np.asarray(shares / shares.sum())


class _Favourites:
    """For each node the gateway that it likes best, asked again and again under lifts that change little.

    A node can only change its mind when the lifts moved, against each other, by more than what its favourite
    was ahead; the others are not looked at again. That spares four fifths of a division.
    """

    def __init__(self, likings: Floats) -> None:
        """`likings`: shape (nodes, groups)."""
        self._likings = likings
        self._lifts, self._owner = np.full(likings.shape[1], np.nan), np.empty(0, np.intp)
        self._ahead = np.zeros(len(likings))

    def under(self, lifts: Floats) -> Indices:
        """The favourite of each node, an index of a group, shape (nodes,)."""
        moved = float(np.ptp(lifts - self._lifts)) + _ROUNDING
        unsure = np.flatnonzero(~(self._ahead > moved))  # all of them the first time
        if len(unsure) > _UNSURE_SHARE_MAX * len(self._ahead):
            return self._look(lifts)
        owner = self._owner.copy()
        owner[unsure] = np.argmax(self._likings[unsure] + lifts, axis=1)
        return owner

    def _look(self, lifts: Floats) -> Indices:
        liked = self._likings + lifts
        self._lifts, self._owner = lifts, np.argmax(liked, axis=1)
        first_two = np.partition(liked, -2, axis=1)[:, -2:]
        self._ahead = first_two[:, 1] - first_two[:, 0]
        return self._owner


def _balanced(favourites: _Favourites, weights: Floats, shares: Floats, lifts: Floats) -> Floats:
    """Lifts, shape (groups,), at which each group owns its share of the weights, as nearly as can be."""
    best, least = lifts, np.inf
    step = 1.0
    for _ in range(_ITERATIONS):
        owner = favourites.under(lifts)
        got = np.bincount(owner, weights, minlength=len(shares))
        off = float(np.max(np.abs(got - shares) / shares))
        if off <= least:
            best, least = lifts, off
        lifts = lifts + step * np.log(shares / np.maximum(got, shares / 4.0))
        lifts = np.clip(lifts - lifts.mean(), -_EXP_MAX, _EXP_MAX)
        step *= 0.9
    return best


def _groups(view: FleetView, company: Company, most: int) -> list[list[Peer]]:
    """The companies of gateways, each with a home of its own where these are at most `most`.

    Else those near each other share a home, and each hears of a part of what goes there.
    """
    peers = everybody(view)
    if len(company.groups) > most:
        return near_together(peers, most, view.places)
    named = {peer.name: peer for peer in peers}
    return [[named[name] for name in group] for group in company.groups]


def _rtt_ms(view: FleetView, group: list[Peer]) -> Floats:
    """Round trip from a group of gateways to each node, by the region table, shape (nodes,)."""
    by_region = np.mean([view.places.rtt_ms_from(peer.region) for peer in group], axis=0)
    return np.asarray(by_region[view.nodes.columns.region])


def _gumbel(nodes: Hashes, peer: Peer) -> Floats:
    """Standard Gumbel noise by hash, shape (nodes,); mixed as SplitMix64 does (Steele et al., 2014)."""
    mixed = nodes ^ np.uint64(peer.name_hash)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed = mixed ^ (mixed >> np.uint64(31))
    uniform = ((mixed >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
    return np.asarray(-np.log(-np.log(uniform)))
