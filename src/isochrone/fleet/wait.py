"""How long a request that arrives now would wait: in closed form, for one node or for all at once.

    fluid   = begun + (own + others') work since the report / slots + idle before our own - age
    chance  = service / slots * rho**(sqrt(2 * (slots + 1)) - 1) * g / (1 - rho * g)
    prompts = prefill told + (own + others') prefill since the report + idle before our own - age
    wait    = max(0, fluid while no slot is free, chance, prompts)

`fluid` drains what was told and adds what came since. A node that told free slots is full only if more came
than were free and became free: `running**2 * age / (backlog + running * age)` became, as a running answer
has `backlog / running` left on average. With `over` more the next one waits for `over + 1` answers to end,
and so for the part (over + 1) / (over + slots) of `fluid`; with one slot that is all of it.

`chance` is what fluid can't see: arrivals bunch, so a node that has room on average still lets some wait. It
is the mean wait of a queue with `slots` servers at the load `rho` that others put on it (Sakasegawa, "An
approximation formula L_q = alpha * rho**beta / (1 - rho)", Ann. Inst. Statist. Math. 29, 1977; exact for
M/M/1), reached with the service time as time constant after the work told has drained:
g = 1 - exp(-time since / service).

`prompts` is the line before the engine's prompt processing, where a request waits even when a slot is free.

Exact for one slot and one gateway.
"""

from math import exp, sqrt
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from isochrone.model import Floats

_TINY_S = 1e-9
_RHO_MAX = 0.97
"""Beyond this load the mean of an endless queue says nothing of the next seconds."""


Number = TypeVar("Number", float, Floats)


class Waiting(NamedTuple, Generic[Number]):
    """What is known of the work before a node, as numbers of one node or arrays of all.

    Attributes:
        slots, running, queued, told_wait_s, backlog_s, prefill_s: as in `Load`, when last heard.
        own_unseen: dispatches of ours, and those we were told of, that the report can't know of.
        own_unseen_s: their slot-seconds.
        own_unseen_prefill_s: of these, seconds of prompt processing.
        own_idle_s: how long the slots had no work between the report and those dispatches.
        own_prompt_idle_s: and how long there was no prompt.
        service_s: of a typical request there; 0 when unknown, and then chance is left out.
        prefill_share: of that, the share of prompt processing.
        age_s: seconds since the report.
        others_flow: slot-seconds a second that others send there.
        others_s: slot-seconds that they are expected to have sent since the report.
    """

    slots: Number
    running: Number
    queued: Number
    told_wait_s: Number
    backlog_s: Number
    prefill_s: Number
    own_unseen: Number
    own_unseen_s: Number
    own_unseen_prefill_s: Number
    own_idle_s: Number
    own_prompt_idle_s: Number
    service_s: Number
    prefill_share: Number
    age_s: Number
    others_flow: Number
    others_s: Number

    @property
    def free(self) -> Number:
        """Slots that were free, below 0 for requests that waited."""
        return self.slots - self.running - self.queued


def wait_s(told: tuple[float, ...], age_s: float, others_flow: float, others_s: float) -> float:
    """Seconds until the prompt of a request that arrives now would begin, on one node; as in `Waiting`.

    `told`: the fields before `age_s`, in order.
    """
    (slots, running, queued, told_wait_s, backlog_s, prefill_s, own_unseen, own_s, own_prefill_s,
     idle_s, prompt_idle_s, service_s, prefill_share) = told  # fmt: skip
    free = slots - running - queued
    left_s = (backlog_s / slots if free > 0 else told_wait_s) + own_s / slots + idle_s - age_s
    fluid_s = left_s + others_s / slots
    # Comparisons in place of max() and min() spare a third of this function, which runs for each candidate.
    wait_s = prefill_s + own_prefill_s + prompt_idle_s + others_s * prefill_share - age_s
    if wait_s <= 0.0:  # noqa: PLR1730
        wait_s = 0.0
    if free > 0.0:
        over = own_unseen - free
        if service_s > 0.0:
            over += others_s / service_s
        if running > 0.0:
            over -= running * running * age_s / (backlog_s + running * age_s + _TINY_S)
        if over < 0.0:
            fluid_s, left_s = 0.0, -age_s
        else:
            fluid_s *= (over + 1.0) / (over + slots)
    if others_flow > 0.0 and left_s < 0.0 < service_s:
        reached = 1.0 - exp(left_s / service_s)
        rho = others_flow / slots
        if rho > _RHO_MAX:  # noqa: PLR1730
            rho = _RHO_MAX
        many = rho ** (sqrt(2.0 * (slots + 1.0)) - 1.0)
        chance_s = service_s / slots * many * reached / (1.0 - rho * reached)
        if chance_s > wait_s:  # noqa: PLR1730
            wait_s = chance_s
    return fluid_s if fluid_s > wait_s else wait_s


def waits_s(nodes: Waiting[Floats]) -> Floats:
    """The same for all nodes, shape (nodes,)."""
    slots, age_s, free = nodes.slots, nodes.age_s, nodes.free
    begun_s = np.where(free > 0, nodes.backlog_s / slots, nodes.told_wait_s)
    left_s = begun_s + nodes.own_unseen_s / slots + nodes.own_idle_s - age_s
    fluid_s = left_s + nodes.others_s / slots
    own_prompts_s = nodes.own_unseen_prefill_s + nodes.own_prompt_idle_s
    prompts_s = nodes.prefill_s + own_prompts_s + nodes.others_s * nodes.prefill_share - age_s
    known = nodes.service_s > 0
    service_s = np.where(known, nodes.service_s, 1.0)
    work_s = nodes.running * age_s
    over = nodes.own_unseen + np.where(known, nodes.others_s / service_s, 0.0) - free
    over -= nodes.running * work_s / (nodes.backlog_s + work_s + _TINY_S)
    room, over = (free > 0) & (over < 0), np.maximum(0.0, over)
    fluid_s = np.where(free > 0, fluid_s * (over + 1.0) / (over + slots), fluid_s)
    fluid_s[room] = 0.0
    left_s = np.where(room, -age_s, left_s)
    reached = 1.0 - np.exp(np.minimum(0.0, left_s) / service_s)
    rho = np.minimum(_RHO_MAX, nodes.others_flow / slots)
    many = rho ** (np.sqrt(2.0 * (slots + 1.0)) - 1.0)
    chance_s = np.where(known, service_s / slots * many * reached / (1.0 - rho * reached), 0.0)
    return np.asarray(np.maximum(np.maximum(0.0, fluid_s), np.maximum(chance_s, prompts_s)))
