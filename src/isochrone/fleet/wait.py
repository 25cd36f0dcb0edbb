"""How long a request that arrives now would wait for a slot."""

from dataclasses import dataclass

from isochrone.model import Load


@dataclass(frozen=True, slots=True)
class SinceReport:
    """What happened to a node since it reported its load.

    Attributes:
        age_s: seconds since.
        unseen_requests: our own dispatches that the report did not know of.
        unseen_work_s: slot-seconds of work left in these.
        others_flow: work that others offer to the node, slot-seconds a second.
    """

    age_s: float = 0.0
    unseen_requests: int = 0
    unseen_work_s: float = 0.0
    others_flow: float = 0.0


def wait_s(load: Load, since: SinceReport) -> float:
    """Seconds to a free slot: as reported, less what drained, plus our own and others' work since.

    First come, first served over `load.slots` servers. Exact for one slot and one gateway; with several slots
    the work beyond the free ones is taken as spread evenly over all of them.
    """
    drained_s = since.age_s * max(0.0, 1.0 - since.others_flow / load.slots)
    free_slots = load.slots - load.running - load.queued
    if free_slots <= 0:
        return max(0.0, load.wait_s - drained_s) + since.unseen_work_s / load.slots
    if since.unseen_requests < free_slots:
        return 0.0
    backlog_s = max(0.0, load.backlog_s - drained_s * load.running)
    return (backlog_s + since.unseen_work_s) / load.slots
