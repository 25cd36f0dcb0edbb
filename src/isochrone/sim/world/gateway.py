"""A simulated gateway: the live gateway's beliefs, decisions and retries, with messages instead of sockets.

What `isochrone.gateway.serve` does with coroutines happens here message by message: the same `Fleet`, the
same `route`, the same retry budget and the same rules for the next attempt and for blame.
"""

import random
from collections import deque
from dataclasses import replace

from isochrone.fleet import (
    Blamed,
    Dispatched,
    Event,
    Finished,
    Fleet,
    IdleAnnounced,
    LedgerHeard,
    LoadReported,
    NodeForgotten,
    NodeSilent,
    Planned,
    ProbeAnswered,
    Teller,
    Tick,
    sent_work,
)
from isochrone.gateway.retries import RetryBudget
from isochrone.independence import first_independent
from isochrone.model import (
    NO_OBJECTIVE,
    Candidate,
    Decision,
    FleetView,
    GatewayPulse,
    LedgerNews,
    Me,
    Outcome,
    OutcomeKind,
    Request,
    Timings,
    ready_in_s,
)
from isochrone.routing import Policy, draw_probes, plan_if_due, route
from isochrone.sim.spec import BYTES_PER_TOKEN, Job
from isochrone.sim.world.flight import Flight, Message
from isochrone.sim.world.gateway_parts import Decide, GatewayPlan, Outside

_RETRIES_PER_REQUEST = 0.2
_RETRIES_SAVED_MAX = 100.0
_REFUSED = 503
_PAST_REASON = 3.0
_PAST_REASON_MS = 10_000.0


class SimGateway:
    """One gateway.

    Attributes:
        index: its number.
        alive: whether it is up.
        fleet: its beliefs.
        retries, balks, probes, dispatched: counts.
    """

    def __init__(
        self,
        index: int,
        plan: GatewayPlan,
        outside: Outside,
        *,
        luck: random.Random,
        decide: Decide | None = None,
    ) -> None:
        self.index, self.alive = index, True
        self._plan, self._outside, self._luck = plan, outside, luck
        self._decide = decide or self._route
        tells = decide is None and plan.router.policy.told  # a reference that sees all needs no telling
        self._me = Me.of(self.name, plan.region, tells=tells)
        self.fleet = self._new_fleet()
        self._budget = RetryBudget(_RETRIES_PER_REQUEST, _RETRIES_SAVED_MAX)
        self._by_node: dict[str, dict[int, Flight]] = {}
        self._deadlines: deque[Flight] = deque()
        self._probing = plan.router.policy.probing.per_request
        self._pulses = 0
        self.teller = Teller(self._me, 0)
        self.retries = self.balks = self.probes = self.dispatched = 0

    def _new_fleet(self) -> Fleet:
        return Fleet(self._plan.settings, self._me, self._plan.rtt_between)

    @property
    def name(self) -> str:
        """As the other gateways know it."""
        return f"gateway-{self.index}"

    def pulse(self, now_s: float) -> GatewayPulse:
        """Its traffic, for the other gateways."""
        self._pulses += 1
        return GatewayPulse(
            self.name,
            0,
            self._pulses,
            self._plan.region,
            self.fleet.flows(now_s),
            tells=self._me.tells,
        )

    def use(self, policy: Policy) -> None:
        """Decide by another policy from now on, and keep all beliefs: what a request's header does live."""
        self._plan = replace(self._plan, router=replace(self._plan.router, policy=policy))
        self._probing = policy.probing.per_request

    # -- requests ------------------------------------------------------------------------------------

    def admit(self, job: Job, now_s: float) -> Flight:
        """A request arrived at the gateway."""
        request = Request(
            id=str(job.id),
            model=job.model,
            prompt_bytes=job.prompt_tokens * BYTES_PER_TOKEN,
            blocks=job.blocks,
            output_tokens_max=job.output_tokens_max,
            stream=self._plan.stream,
            deadline_s=now_s + self._plan.timeout_s,
            objective=self._plan.slo if job.slo else NO_OBJECTIVE,
            client=str(job.client),
        )
        return Flight(job, request, self.index, admitted_s=now_s, deadline_s=request.deadline_s)

    def serve(self, flight: Flight, now_s: float) -> None:
        """Decide for the first time, and try."""
        self._deadlines.append(flight)
        self._budget.earn()
        self._outside.look(self.index, now_s)
        decision = self._decide(self._view(flight, now_s), flight, now_s)
        candidate = decision.chosen
        if candidate is None or self._hopeless(decision, flight, now_s):
            flight.decision = None if candidate is None else decision
            return self._end(flight, "refused", now_s)
        return self._try(flight, decision, candidate, now_s)

    def _view(self, flight: Flight, now_s: float) -> FleetView:
        """What is believed now, with a plan that is fresh enough."""
        request = flight.request
        view = self.fleet.view(request.model, now_s)
        plan = plan_if_due(view, request, self._plan.router)
        if plan is None:
            return view
        self.step(Planned(request.model, plan), now_s)
        return self.fleet.view(request.model, now_s)

    def _route(self, view: FleetView, flight: Flight, now_s: float) -> Decision:
        request = flight.request
        if (flight.failed or flight.balks) and request.objective.has_slo:
            left = request.objective.after((now_s - flight.admitted_s) * 1e3)
            request = replace(request, objective=left)
        return route(view, request, self._luck, self._plan.router)

    def _try(self, flight: Flight, decision: Decision, candidate: Candidate, now_s: float) -> None:
        belief = self.fleet.belief(candidate.node)
        if belief is None:  # only a reference that sees the truth can name a node that we do not know
            return self._end(flight, "refused", now_s)
        may_balk = candidate is decision.chosen and flight.balks < self._plan.router.policy.balks
        flight.patience_ms = decision.patience_ms if may_balk else None
        if candidate is not decision.chosen:  # who is tried stands first, as in every decision
            others = (other for other in decision.candidates if other is not candidate)
            decision = replace(decision, candidates=(candidate, *others))
        flight.decision, flight.sent_s, flight.head_s = decision, now_s, None
        flight.attempt += 1
        flight.node_name = candidate.node
        flight.age_s, flight.rtt_ms = now_s - belief.load_at_s, belief.rtt_ms
        self.dispatched += 1
        self._by_node.setdefault(candidate.node, {})[flight.job.id] = flight
        self.step(Dispatched(flight.request, candidate.node, candidate.estimate), now_s)
        self._outside.send(flight, now_s)
        self._tell(flight, candidate, now_s)
        if self._probing:
            view = self.fleet.view(flight.request.model, now_s)
            for node in draw_probes(view, self._luck, self._probing):
                self.probes += 1
                self._outside.probe(self.index, node, flight.request.model, now_s)
        return None

    def _tell(self, flight: Flight, candidate: Candidate, now_s: float) -> None:
        """The others of our company are to know what we sent."""
        request, company = flight.request, self.fleet.company(flight.request.model)
        if company is not None:
            work = sent_work(request.id, candidate.node, request.model, candidate.estimate)
            if self.teller.sent(work, company.mates, now_s):
                self._outside.gathered(self.index, now_s)

    def hear_ledger(self, now_s: float, news: LedgerNews) -> None:
        """Another gateway told what it sent."""
        if self.alive:
            self.step(LedgerHeard(news), now_s)

    def _try_next(self, flight: Flight, now_s: float) -> None:
        """After a failure: the best by then, in another failure domain if any; or the end."""
        if len(flight.failed) >= self._plan.attempts_max or len(flight.failed_by_engine) > 1:
            return self._end(flight, "failed", now_s)
        decision = self._decide_anew(flight, now_s)
        candidate = self._best(decision, flight)
        if candidate is None or not self._budget.spend():
            return self._end(flight, "failed", now_s)
        self.retries += 1
        return self._try(flight, decision, candidate, now_s)

    def _failure_domains(self, node: str) -> tuple[str, ...]:
        belief = self.fleet.belief(node)
        return belief.card.failure_domains if belief is not None else ()

    # -- what comes back -----------------------------------------------------------------------------

    def head(self, now_s: float, message: Message) -> None:
        """The first token is here."""
        flight = message.flight
        if self._too_late(message, now_s):
            return
        if message.load is not None:
            self.step(LoadReported(flight.node_name, message.load), now_s)
        flight.head_s = now_s
        self._outside.first_token(flight, now_s)

    def tail(self, now_s: float, message: Message) -> None:
        """The answer is complete."""
        flight = message.flight
        if self._too_late(message, now_s):
            return
        if flight.head_s is None:  # nobody reads along, or a cut swallowed it: all comes at once
            self._outside.first_token(flight, now_s)
            flight.head_s = now_s if self._plan.stream else None
        if message.load is not None:
            self.step(LoadReported(flight.node_name, message.load), now_s)
        self._finish(flight, OutcomeKind.ANSWERED, 200, now_s, timings=message.timings)
        for node in flight.failed_by_engine:
            self.step(Blamed(node, "failed what another answered"), now_s)
        self._end(flight, "answered", now_s, message.timings)

    def failure(self, now_s: float, message: Message) -> None:
        """The node refused, answered with an error, or the connection was lost."""
        flight = message.flight
        if self._too_late(message, now_s):
            return
        if message.load is not None:
            self.step(LoadReported(flight.node_name, message.load), now_s)
        kind = OutcomeKind.REFUSED if message.status == _REFUSED else OutcomeKind.FAILED
        if message.begins_in_s is not None:
            self._balked(flight, message, now_s)
        else:
            self._failed(flight, kind, message.status, now_s)

    def _balked(self, flight: Flight, message: Message, now_s: float) -> None:
        """It would have waited there for too long: decide anew, by what is known now."""
        line_s = message.load.begins_in_s if message.load is not None else 0.0
        loads_s = ready_in_s(message.begins_in_s or 0.0, line_s)
        self._finish(flight, OutcomeKind.BALKED, _REFUSED, now_s, ready_in_s=loads_s)
        flight.balks += 1
        self.balks += 1
        decision = self._decide_anew(flight, now_s)
        candidate, failed = self._best(decision, flight), bool(flight.failed)
        if candidate is None or (not failed and self._hopeless(decision, flight, now_s)):
            return self._end(flight, "failed" if failed else "refused", now_s)
        return self._try(flight, decision, candidate, now_s)

    def _hopeless(self, decision: Decision, flight: Flight, now_s: float) -> bool:
        """Whether no candidate would begin to answer in time."""
        return all(c.estimate.ttft_ms > (flight.deadline_s - now_s) * 1e3 for c in decision.candidates)

    def _best(self, decision: Decision, flight: Flight) -> Candidate | None:
        """The choice; after a failure the best in another failure domain, if there is any."""
        if not flight.failed:
            return decision.chosen
        candidates = {candidate.node: candidate for candidate in decision.candidates}
        node = first_independent(list(candidates), flight.failed, self._failure_domains)
        return None if node is None else candidates[node]

    def _decide_anew(self, flight: Flight, now_s: float) -> Decision:
        self._outside.look(self.index, now_s)
        view = self._view(flight, now_s).without(frozenset(flight.failed))
        return self._decide(view, flight, now_s)

    def _too_late(self, message: Message, now_s: float) -> bool:
        """Whether nobody waits for it any more; a deadline that passed is noted at the next tick."""
        return message.stale or not self.alive or now_s >= message.flight.deadline_s

    def _failed(self, flight: Flight, kind: OutcomeKind, status: int, now_s: float) -> None:
        self._finish(flight, kind, status, now_s)
        if flight.head_s is not None:
            return self._end(flight, "lost", now_s)
        flight.failed.append(flight.node_name)
        if kind is OutcomeKind.FAILED and status:
            flight.failed_by_engine.append(flight.node_name)
        return self._try_next(flight, now_s)

    def probed(self, now_s: float, answer: ProbeAnswered) -> None:
        """A probe came back."""
        if self.alive:
            self.step(answer, now_s)

    def idle(self, now_s: float, news: IdleAnnounced) -> None:
        """A node told that it has room again."""
        if self.alive:
            self.step(news, now_s)

    # -- time ----------------------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        """Once a second: deadlines, and silence."""
        while self._deadlines and (self._deadlines[0].done or self._deadlines[0].deadline_s <= now_s):
            flight = self._deadlines.popleft()
            if not flight.done:
                self._outside.cancel(flight, now_s)
                self._finish(flight, OutcomeKind.TIMED_OUT, 0, now_s)
                self._blame_if_past_reason(flight, now_s)
                self._end(flight, "timed_out", now_s)
        self._outside.look(self.index, now_s)
        self.step(Tick(), now_s)

    def _blame_if_past_reason(self, flight: Flight, now_s: float) -> None:
        """No answer began by the deadline: the node's fault, when that is far past its own estimate."""
        chosen = flight.decision.chosen if flight.decision is not None else None
        if chosen is None or flight.head_s is not None:
            return
        waited_ms = (flight.deadline_s - flight.sent_s) * 1e3
        if waited_ms > _PAST_REASON * chosen.estimate.total_ms + _PAST_REASON_MS:
            self.step(Blamed(flight.node_name, "no answer by the deadline"), now_s)

    def crash(self, now_s: float) -> None:
        """All requests are lost, and all that was believed."""
        self.alive = False
        for flight in list(self._deadlines):
            if not flight.done:
                self._outside.cancel(flight, now_s)
                self._end(flight, "lost", now_s)
        self._deadlines.clear()
        self._by_node.clear()
        self.fleet = self._new_fleet()
        self.teller = Teller(self.teller.me, self.teller.epoch + 1)

    def give_up_all(self, now_s: float) -> None:
        """The end of the world: what is still under way stays unanswered."""
        for flight in list(self._deadlines):
            if not flight.done:
                self._end(flight, "timed_out", now_s)

    def step(self, event: Event, now_s: float) -> None:
        """Fold an event in, and do what comes of it."""
        for effect in self.fleet.step(event, now_s):
            if isinstance(effect, NodeSilent):
                self._fell_silent(effect.node, now_s)
            elif isinstance(effect, NodeForgotten):
                self._outside.forgotten(self.index, effect.node)

    def _fell_silent(self, node: str, now_s: float) -> None:
        """Before the first token another node can still answer; after it the stream is the better witness."""
        for flight in list(self._by_node.get(node, {}).values()):
            if flight.head_s is not None and not self._outside.cut_off(flight):
                continue
            self._outside.cancel(flight, now_s)
            self._failed(flight, OutcomeKind.SILENT, 0, now_s)

    # -- the end -------------------------------------------------------------------------------------

    def _finish(
        self,
        flight: Flight,
        kind: OutcomeKind,
        status: int,
        now_s: float,
        *,
        timings: Timings | None = None,
        ready_in_s: float = 0.0,
    ) -> None:
        """One attempt ended."""
        self._by_node.get(flight.node_name, {}).pop(flight.job.id, None)
        ttft_ms = None if flight.head_s is None else (flight.head_s - flight.sent_s) * 1e3
        outcome = Outcome(
            request_id=flight.request.id,
            node=flight.node_name,
            kind=kind,
            status=status,
            ttft_ms=ttft_ms,
            total_ms=(now_s - flight.sent_s) * 1e3,
            timings=timings,
            ready_in_s=ready_in_s,
        )
        self.step(Finished(flight.request, outcome), now_s)
        untaken = kind is OutcomeKind.BALKED
        if self.teller.ended(flight.request.id, flight.node_name, untaken=untaken):
            self._outside.gathered(self.index, now_s)

    def _end(self, flight: Flight, kind: str, now_s: float, timings: Timings | None = None) -> None:
        flight.done = True
        self._outside.end(flight, kind, now_s, timings)

    @property
    def open_flights(self) -> int:
        """Requests under way."""
        return sum(not flight.done for flight in self._deadlines)
