"""How long a request that arrives now would wait for a slot."""

from dataclasses import dataclass

from isochrone.model import Load


@dataclass(frozen=True, slots=True)
class Unseen:
    """A dispatch of ours that the node's last report did not know of.

    Attributes:
        arrived_s: when it reached the node, in seconds after the report; below 0 counts as 0.
        service_s: how long it holds a slot.
    """

    arrived_s: float
    service_s: float


@dataclass(frozen=True, slots=True)
class SinceReport:
    """What happened to a node since it reported its load.

    Attributes:
        age_s: seconds since.
        unseen: our own dispatches since, in the order in which they were made.
        others_flow: work that others offer to the node, slot-seconds a second.
    """

    age_s: float = 0.0
    unseen: tuple[Unseen, ...] = ()
    others_flow: float = 0.0


def wait_s(load: Load, since: SinceReport) -> float:
    """Seconds to a free slot: as reported, less what drained, plus our own and others' work since.

    Replays what arrived since the report, first come, first served over `load.slots` servers. Exact for one
    slot and one gateway; with several, work beyond the free slots is taken as spread evenly over all.
    """
    drain = max(0.0, 1.0 - since.others_flow / load.slots)
    free_slots = max(0, load.slots - load.running - load.queued)
    left_s = 0.0 if free_slots else load.wait_s
    at_s, ends_s = 0.0, list[float]()
    for arrival in since.unseen:
        arrived_s = min(max(at_s, arrival.arrived_s), since.age_s)
        left_s = max(0.0, left_s - (arrived_s - at_s) * drain)
        at_s = arrived_s
        if not free_slots:
            left_s += arrival.service_s / load.slots
            continue
        busy_until_s = [end_s for end_s in ends_s if end_s > at_s]
        free_slots += len(ends_s) - len(busy_until_s) - 1
        ends_s = [*busy_until_s, at_s + arrival.service_s]
        if not free_slots:  # that was the last one: from now on there is a wait, for the slots then in use
            backlog_s = max(0.0, load.backlog_s - load.running * at_s * drain)
            left_s = (backlog_s + sum(end_s - at_s for end_s in ends_s)) / load.slots
    return 0.0 if free_slots else max(0.0, left_s - (since.age_s - at_s) * drain)
