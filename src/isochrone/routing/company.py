"""Company: which gateways tell each other what they send, so that together they act as one.

A gateway that knows what all others send knows each node as if it were alone. Telling costs messages, and a
word is late by its way: of what was sent meanwhile nobody knows, and two may choose the same node. So the
gateways stand together in as few companies as keep both small, those near each other in one:

    requests a second of a company <= requests_per_s_max
    requests a second * (told_after_s + mean way between them) <= unheard_max

All gateways work this out alone, from what they tell of their traffic once a second, and come out alike.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from isochrone.model import Company, FleetView, Peer, Places


@dataclass(frozen=True, slots=True)
class CompanySettings:
    """How large a company may be.

    Attributes:
        requests_per_s_max: of all its gateways together: each hears of so many.
        unheard_max: requests that are on their way, on average, before the others know.
        gateways_max: in one company.
        told_after_s: how long a gateway gathers news before it tells them.
        refresh_s: how often companies are worked out anew.
    """

    requests_per_s_max: float = 500.0
    unheard_max: float = 3.0
    gateways_max: int = 64
    told_after_s: float = 0.002
    refresh_s: float = 5.0


DEFAULT_COMPANY_SETTINGS = CompanySettings()


def find_company(view: FleetView, settings: CompanySettings = DEFAULT_COMPANY_SETTINGS) -> Company:
    """The companies of all gateways that send requests for the view's model; the last ones while fresh."""
    last = view.plan.company if view.plan is not None else None
    if last is not None and view.now_s - last.made_at_s < settings.refresh_s:
        return last
    peers, count = everybody(view), 1
    while count < len(peers):
        groups = near_together(peers, count, view.places)
        if all(_fits(group, view.places, settings) for group in groups):
            return _seen_from(view, groups, settings)
        count *= 2
    return _seen_from(view, [[peer] for peer in peers], settings)


def no_company(view: FleetView) -> Company:
    """The same where gateways do not tell each other: each is alone."""
    return _seen_from(view, [[peer] for peer in everybody(view)], DEFAULT_COMPANY_SETTINGS)


def everybody(view: FleetView) -> list[Peer]:
    """All gateways that send requests for the view's model, ourselves among them, by name."""
    me = view.me
    ourselves = Peer(me.name, me.name_hash, me.region, view.own_work_per_s, view.own_requests_per_s)
    others = (peer for peer in view.peers if peer.name != me.name)
    return sorted((ourselves, *others), key=lambda peer: peer.name)


def near_together(peers: Sequence[Peer], count: int, places: Places) -> list[list[Peer]]:
    """`peers` in `count` groups at most, none empty: around those of the least hashes, near ones together."""
    if count < 2:
        return [list(peers)] if peers else []
    seeds = sorted(peers, key=lambda peer: (peer.name_hash, peer.name))[:count]
    groups = {seed.name: [seed] for seed in seeds}
    for peer in peers:
        if peer.name not in groups:
            fit = [(places.rtt_ms(peer.region, seed.region), len(groups[seed.name])) for seed in seeds]
            groups[seeds[fit.index(min(fit))].name].append(peer)
    return list(groups.values())


def _fits(group: Sequence[Peer], places: Places, settings: CompanySettings) -> bool:
    requests_per_s = _requests_per_s(group)
    return (
        len(group) <= settings.gateways_max
        and requests_per_s <= settings.requests_per_s_max
        and requests_per_s * _late_s(group, places, settings) <= settings.unheard_max
    )


def _late_s(group: Sequence[Peer], places: Places, settings: CompanySettings) -> float:
    """How long the others of a group do not know of a request: the mean way, after it was gathered.

    Within a region there is no way.
    """
    regions = Counter(peer.region for peer in group)
    pairs = len(group) * (len(group) - 1)
    ways_ms = sum(
        regions[one] * regions[other] * places.rtt_ms(one, other) / 2
        for one in regions
        for other in regions
        if one != other
    )
    return settings.told_after_s + (ways_ms / pairs / 1e3 if pairs else 0.0)


def _requests_per_s(group: Sequence[Peer]) -> float:
    return sum(peer.requests_per_s for peer in group)


def _seen_from(view: FleetView, groups: Sequence[Sequence[Peer]], settings: CompanySettings) -> Company:
    name = view.me.name
    ours = next(group for group in groups if any(peer.name == name for peer in group))
    mates = [peer for peer in ours if peer.name != name]
    return Company(
        mates=frozenset(peer.name for peer in mates),
        unheard=_requests_per_s(mates) * _late_s(ours, view.places, settings),
        groups=tuple(tuple(peer.name for peer in group) for group in groups),
        made_at_s=view.now_s,
    )
