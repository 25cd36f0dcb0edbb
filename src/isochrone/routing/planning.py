"""The plan: spread the requests of the next moments so that all of them begin equally soon.

Many gateways that act on the same old news and each choose the best node herd onto it. The remedy is to ask
how everybody's requests together should fall, and to draw from that. Let theta be the time between the news
and the end of the plan. In that time all gateways send `work * theta` slot-seconds. Poured over the nodes
like water, each node's bottom at the score it had when it last spoke, they stand at one level L:

    sum over nodes of room(L) = work * theta,    room(L) = slots * (L - score) + service * free slots

A node takes its room's share of all requests: the good ones much, the full ones nothing; and the older the
news, the higher the level and the nearer the shares to capacity, which is all that is known then. What the
others pour is also what is expected of them in the wait of each node from here on.

Source: water filling, as in Wardrop's equilibrium of parallel links ("Some theoretical aspects of road
traffic research", 1952): with stale news no rule that all follow can do better than to make the used nodes
equal.
"""

from dataclasses import dataclass

import numpy as np

from isochrone.model import NOWHERE, Bools, Columns, Company, FleetView, Floats, Homes, Indices, Plan, Request
from isochrone.routing.company import find_company
from isochrone.routing.estimate import EstimateWeights, ServiceColumns, typical
from isochrone.routing.gathering import gather
from isochrone.routing.homes import DEFAULT_HOME_SETTINGS, divide, homes_max
from isochrone.routing.meeting import find_meeting

_BISECTIONS = 24
_WORK_MIN_S = 1e-3
_SERVICE_MIN_S = 1e-6
_PRICED_RHO_MAX = 0.75
_FRONT_PER_REQUEST = 4.0
_KINDS_PER_OCTAVE = 2.0
_BUSY_MAX = 0.9
_SHARED_READY_MIN = 0.5


@dataclass(frozen=True, slots=True)
class PlanSettings:
    """How often to plan, and how boldly to draw.

    Attributes:
        refresh_s: a plan is good for so long.
        nodes_per_s: of large fleets no more nodes than this are planned in a second.
        draws_max: most nodes drawn for one request.
        front_min: nodes in the front at least, where there are so many.
        front_max: nodes in the front at most; between the two, four for each request of ours until the next.
        lots_per_unheard: of the front of a company, one node in so many is looked at for each request that is
            on its way unheard.
        looked_at_min: of the front so many are looked at all the same.
        unseen_one_draw: draws are this over the requests that others send, unseen, to a used node before it
            is heard again.
    """

    refresh_s: float = 0.2
    nodes_per_s: float = 20_000.0
    draws_max: float = 32.0
    front_min: int = 64
    front_max: int = 4096
    lots_per_unheard: float = 8.0
    looked_at_min: int = 12
    unseen_one_draw: float = 1.2


DEFAULT_PLAN_SETTINGS = PlanSettings()


def due(view: FleetView, settings: PlanSettings = DEFAULT_PLAN_SETTINGS) -> bool:
    """Whether a new plan is wanted before the next request is placed."""
    plan = view.plan
    return plan is None or view.now_s - plan.made_at_s >= plan.refresh_s


def make_plan(
    view: FleetView,
    request: Request,
    weights: EstimateWeights,
    settings: PlanSettings = DEFAULT_PLAN_SETTINGS,
) -> Plan:
    """A plan for requests like `request`, of the length that prompts lately had, of any client. Pure."""
    columns, refresh_s = view.nodes.columns, max(settings.refresh_s, len(view.nodes) / settings.nodes_per_s)
    service = ServiceColumns(view, typical(view, request), weights)
    usable, service_s = columns.available, np.maximum(service.service_s, _SERVICE_MIN_S)
    prefill_s = service.prefill_ms / 1e3
    basin = _Basin(
        usable=usable,
        slots=columns.slots,
        free=np.maximum(0.0, columns.slots - columns.running - columns.queued),
        service_s=service_s,
        prefill_s=np.maximum(prefill_s, _SERVICE_MIN_S),
        told_wait_s=columns.reported_wait_s,
        told_prefill_s=columns.reported_prefill_s,
    )
    bottom_s = service.score_ms / 1e3 - columns.wait_s
    ready = usable & (columns.ready_in_s <= 0.0)
    together = find_company(view, homes_max(int(ready.sum())))
    own, others = _work_per_s(view, together)
    ages_s = columns.age_s[usable]
    theta_s = refresh_s + (float(ages_s.mean()) if len(ages_s) else 0.0)
    work_s = max((own + others) * theta_s, _WORK_MIN_S)
    level_s, requests = basin.pour(bottom_s, work_s)
    _, requests_anywhere = basin.pour(bottom_s - columns.rtt_ms / 1e3, work_s)  # others stand elsewhere
    poured = requests_anywhere * service_s
    homes = _homes(view, together, service, ready)
    draws = _draws(settings, others * theta_s, service_s, requests)
    front_nodes = int(_FRONT_PER_REQUEST * own * refresh_s / max(_mean(service_s, requests), _SERVICE_MIN_S))
    most = min(max(settings.front_min, front_nodes), settings.front_max)
    all_ours = draws >= settings.draws_max
    front = _front(service.score_ms, usable, homes, all_ours=all_ours, most=most)
    ready_share = float(np.mean(ready[usable])) if usable.any() else 1.0
    shared = np.flatnonzero(ready & (homes is None and not all_ours and ready_share > _SHARED_READY_MIN))
    return Plan(
        made_at_s=view.now_s,
        refresh_s=refresh_s,
        edges=np.cumsum(requests),
        draws=draws,
        others_flow=_others_flow(columns, others, own + others, poured, homes),
        service_s=service_s,
        prefill_share=np.clip(prefill_s / service_s, 0.0, 1.0),
        token_price_ms=_price((own + others) * _mean(prefill_s / service_s, poured), int(usable.sum()))
        * _mean(service.prefill_ms_per_token, poured),
        level_s=level_s,
        company=together,
        homes=homes,
        ready_share=ready_share,
        gathering=gather(columns.name_hash, columns.slots / service_s, shared) if len(shared) else NOWHERE,
        front=front,
        front_s=service.score_ms[front] / 1e3,
        front_kinds=_kinds(service_s[front]) if request.wants_completion else front[:0],
        lots=_lots(together.unheard, len(front), settings),
        busy=_busy(own + others, columns.slots[usable]) if len(front) else 0.0,
        meeting=find_meeting(view, together, columns, service.score_ms, service.prefill_ms),
    )


def _homes(view: FleetView, together: Company, service: ServiceColumns, ready: Bools) -> Homes | None:
    """The division of the nodes: the last one while it is fresh and of the same companies."""
    plan = view.plan
    if plan is not None and plan.homes is not None:
        same = plan.company is not None and plan.company.groups == together.groups
        if same and view.now_s - plan.homes.made_at_s < DEFAULT_HOME_SETTINGS.refresh_s:
            return plan.homes
    capacity = view.nodes.columns.slots / np.maximum(service.service_s, _SERVICE_MIN_S)
    return divide(view, together, capacity, ready)


def _front(scores_ms: Floats, usable: Bools, homes: Homes | None, *, all_ours: bool, most: int) -> Indices:
    """The best `most` of our own nodes, or of all when they are `all_ours`, in no order."""
    nodes = np.flatnonzero(usable) if homes is None else homes.own[usable[homes.own]]
    if homes is None and not all_ours:
        return nodes[:0]
    if len(nodes) <= most:
        return nodes
    return np.asarray(nodes[np.argpartition(scores_ms[nodes], most)[:most]])


def _lots(unheard: float, front: int, settings: PlanSettings) -> int:
    """One in how many nodes of a front of so many is looked at, when so many requests are unheard of."""
    return max(1, min(round(settings.lots_per_unheard * unheard), front // settings.looked_at_min))


def _kinds(service_s: Floats) -> Indices:
    """A number for each node, the same for those about as fast; shape as `service_s`."""
    return np.asarray(np.rint(_KINDS_PER_OCTAVE * np.log2(service_s)).astype(np.intp))


def _busy(work_per_s: float, slots: Floats) -> float:
    """Work offered over the slots that there are, at most so much that later tokens still count."""
    return min(_BUSY_MAX, work_per_s / max(float(slots.sum()), 1.0))


def _others_flow(columns: Columns, others: float, all_: float, poured: Floats, homes: Homes | None) -> Floats:
    """Slot-seconds a second that everybody but us is expected to send to each node, shape (nodes,).

    The other gateways pour as we do, on nodes that are not our home; of those, what each node tells is better
    known, as far as it is for this model. What users of a node's own send is not counted: the node tells its
    backlog, and what comes in a second is little beside it.
    """
    flow = others * poured / max(float(poured.sum()), _WORK_MIN_S)
    if homes is not None:
        strange = poured.copy()
        strange[homes.own] = 0.0
        flow = others * strange / max(float(strange.sum()), _WORK_MIN_S)
        ours = min(1.0, all_ / max(float(columns.inflow.sum()), _WORK_MIN_S))
        flow[homes.own] = ours * columns.others_inflow[homes.own]
    return np.asarray(flow)


def _work_per_s(view: FleetView, together: Company) -> tuple[float, float]:
    """(our own and our mates', the other gateways') slot-seconds a second for the view's model."""
    ours, others = view.own_work_per_s, 0.0
    for peer in view.peers:
        if peer.name in together.mates:
            ours += peer.work_per_s
        else:
            others += peer.work_per_s
    return ours, others


def _mean(values: Floats, weights: Floats) -> float:
    total = float(weights.sum())
    return float((values * weights).sum()) / total if total > 0.0 else 0.0


def _draws(settings: PlanSettings, unseen_s: float, service_s: Floats, requests: Floats) -> float:
    """How many nodes to draw: one where news is worthless, many where nobody else acts unseen.

    `unseen_s`: slot-seconds that others send before a node is heard again.
    """
    used, mean_s = float(np.count_nonzero(requests)), _mean(service_s, requests)
    unseen = unseen_s / (mean_s * used) if used and mean_s > 0.0 else 0.0
    if unseen * settings.draws_max <= settings.unseen_one_draw:
        return settings.draws_max
    return max(1.0, settings.unseen_one_draw / unseen)


def _price(prompt_work_per_s: float, nodes: int) -> float:
    """What a second of prompt processing costs those behind it, in seconds, at this load of `nodes` lines.

    The time that counts is that of the fleet, not of the node: a token takes a slow node longer, but fewer
    come there who would wait for it.

    In a line at load rho a second more makes everybody later by it who comes before the line is empty again:
    rho / (1 - rho) of them on average (Kleinrock, "Queueing Systems", vol. 2, section 3.3: the busy period).
    """
    rho = min(_PRICED_RHO_MAX, prompt_work_per_s / max(1, nodes))
    return rho / (1.0 - rho)


@dataclass(frozen=True, slots=True)
class _Basin:
    """What requests are poured into; arrays of shape (nodes,)."""

    usable: Bools
    slots: Floats
    free: Floats
    service_s: Floats
    prefill_s: Floats
    told_wait_s: Floats
    told_prefill_s: Floats

    def pour(self, bottom_s: Floats, work_s: float) -> tuple[float, Floats]:
        """(level in seconds, requests for each node) of `work_s` slot-seconds.

        `bottom_s`: score of a typical request on each node without its wait, in seconds.
        """
        usable = self.usable
        if not usable.any():
            return 0.0, np.zeros(len(usable))
        by_slot_s = np.where(usable, bottom_s + np.where(self.free > 0, 0.0, self.told_wait_s), np.inf)
        by_prompt_s = np.where(usable, bottom_s + self.told_prefill_s, np.inf)
        low_s = float(np.min(np.maximum(by_slot_s, by_prompt_s)[usable]))
        high_s = float(np.max(np.maximum(by_slot_s, by_prompt_s)[usable]))
        slots = float(self.slots[usable].sum())
        high_s += work_s * float(np.max(self.service_s[usable])) / max(slots * _SERVICE_MIN_S, 1.0) + 1.0
        while self._work(self._room(high_s, by_slot_s, by_prompt_s)) < work_s:
            high_s = low_s + 2.0 * (high_s - low_s)
        for _ in range(_BISECTIONS):
            middle_s = (low_s + high_s) / 2
            if self._work(self._room(middle_s, by_slot_s, by_prompt_s)) < work_s:
                low_s = middle_s
            else:
                high_s = middle_s
        return high_s, self._room(high_s, by_slot_s, by_prompt_s)

    def _work(self, requests: Floats) -> float:
        return float((requests * self.service_s).sum())

    def _room(self, level_s: float, by_slot_s: Floats, by_prompt_s: Floats) -> Floats:
        """Requests that each node takes before the next would score above the level."""
        slots = self.slots * (level_s - by_slot_s) / self.service_s + self.free
        prompts = (level_s - by_prompt_s) / self.prefill_s + 1.0
        room = np.minimum(slots, prompts)
        room[(by_slot_s >= level_s) | (by_prompt_s >= level_s)] = 0.0
        return np.maximum(0.0, room)
