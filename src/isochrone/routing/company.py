"""Company: which gateways tell each other what they send, so that together they act as one.

A gateway that knows what all others send knows each node as if it were alone. Telling costs messages, and a
word is late by its way: of what was sent meanwhile nobody knows, and two may choose the same node. So

- gateways of one region stand together in as few companies as keep both small;
- those that share nodes anyway, since there are too few to divide them, do so wherever they stand:
  late news is better than none.

    requests a second of a company <= requests_per_s_max
    requests a second * (told_after_s + mean way between them) <= unheard_max, unheard_shared_max

All gateways work this out alone, from what they tell of their traffic once a second, and come out nearly
alike: each knows its own traffic a second sooner. Gateways that name no region count as one place.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from isochrone.model import Company, FleetView, Peer, Places

Group = Sequence[Peer]


@dataclass(frozen=True, slots=True)
class CompanySettings:
    """How large a company may be.

    Attributes:
        requests_per_s_max: of all its gateways together: each hears of so many.
        unheard_max: requests that are on their way, on average, before the others know.
        unheard_shared_max: the same for gateways that share nodes whether they tell each other or not.
        gateways_max: in one company.
        told_after_s: how long a gateway gathers news before it tells them.
        refresh_s: how often companies are worked out anew.
    """

    requests_per_s_max: float = 500.0
    unheard_max: float = 0.75
    unheard_shared_max: float = 5.0
    gateways_max: int = 64
    told_after_s: float = 0.002
    refresh_s: float = 5.0


DEFAULT_COMPANY_SETTINGS = CompanySettings()


def find_company(
    view: FleetView, homes_max: int, settings: CompanySettings = DEFAULT_COMPANY_SETTINGS
) -> Company:
    """The companies of all gateways that send requests for the view's model.

    There are nodes for `homes_max` homes, 0 where there are too few for one. The last companies stay while
    they are fresh and nothing but traffic changed.
    """
    peers, homes_max = everybody(view), max(1, homes_max)
    made_of = hash((homes_max, *((peer.name, peer.region, peer.tells) for peer in peers)))
    last = view.plan.company if view.plan is not None else None
    if last is not None and last.made_of == made_of and view.now_s - last.made_at_s < settings.refresh_s:
        return last
    groups = _by_region(peers, view.places, settings)
    if len(groups) > homes_max:
        groups = []
        for shared in near_together(peers, homes_max, view.places):
            telling = [peer for peer in shared if peer.tells]
            if telling and _fits(telling, view.places, settings, settings.unheard_shared_max):
                groups += [telling, *([peer] for peer in shared if not peer.tells)]
            else:
                groups += _by_region(shared, view.places, settings)
    groups.sort(key=lambda group: group[0].name)
    ours = next(group for group in groups if any(peer.name == view.me.name for peer in group))
    mates = [peer for peer in ours if peer.name != view.me.name]
    return Company(
        mates=frozenset(peer.name for peer in mates),
        unheard=_requests_per_s(mates) * _late_s(ours, view.places, settings),
        groups=tuple(tuple(peer.name for peer in group) for group in groups),
        made_of=made_of,
        made_at_s=view.now_s,
    )


def _by_region(peers: Group, places: Places, settings: CompanySettings) -> list[list[Peer]]:
    """Companies of those that tell and stand in one region; each of the others alone."""
    groups = [[peer] for peer in peers if not peer.tells]
    regions: dict[str, list[Peer]] = {}
    for peer in sorted(peers, key=lambda peer: (peer.name_hash, peer.name)):
        if peer.tells:
            regions.setdefault(peer.region, []).append(peer)
    for there in regions.values():
        count = 1
        while True:
            parts = [there[at::count] for at in range(count)]
            if count == len(there) or all(_fits(p, places, settings, settings.unheard_max) for p in parts):
                break
            count = min(2 * count, len(there))
        groups += parts
    return groups


def everybody(view: FleetView) -> list[Peer]:
    """All gateways that send requests for the view's model, ourselves among them, by name."""
    me = view.me
    work_per_s, requests_per_s = view.own_work_per_s, view.own_requests_per_s
    ourselves = Peer(me.name, me.name_hash, me.region, work_per_s, requests_per_s, me.tells)
    others = (peer for peer in view.peers if peer.name != me.name)
    return sorted((ourselves, *others), key=lambda peer: peer.name)


def near_together(peers: Group, count: int, places: Places) -> list[list[Peer]]:
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


def _fits(group: Group, places: Places, settings: CompanySettings, unheard_max: float) -> bool:
    requests_per_s = _requests_per_s(group)
    return (
        len(group) <= settings.gateways_max
        and requests_per_s <= settings.requests_per_s_max
        and requests_per_s * _late_s(group, places, settings) <= unheard_max
    )


def _late_s(group: Group, places: Places, settings: CompanySettings) -> float:
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


def _requests_per_s(group: Group) -> float:
    return sum(peer.requests_per_s for peer in group)
