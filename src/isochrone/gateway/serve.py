"""The life of one request for tokens: admit, decide, try, recover, report."""

import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil

from isochrone.demand import ArrivalRates
from isochrone.fleet import Blamed, Dispatched, Finished
from isochrone.gateway.admission import Admission
from isochrone.gateway.attempt import Attempt, Attempter, Route
from isochrone.gateway.crew import Shortage
from isochrone.gateway.membership import Membership
from isochrone.gateway.metrics import GatewayMetrics
from isochrone.gateway.prober import Prober
from isochrone.gateway.records import Records
from isochrone.gateway.retries import RetryBudget
from isochrone.gateway.settings import GatewaySettings
from isochrone.independence import first_independent
from isochrone.model import Candidate, Decision, Key, NodeCard, Outcome, OutcomeKind, Request
from isochrone.ports import Clock
from isochrone.relay import Exchange, Headers, RepeatedHeaderError
from isochrone.routing import Router, find_policy, route
from isochrone.wire import BadRequestError, openai
from isochrone.wire.explain import Record
from isochrone.wire.objectives import read_objective
from isochrone.wire.subjects import HEADER_DECISION, HEADER_POLICY, HEADER_TIMEOUT_MS

CLIENT_LEFT = 499
"""Counted as the status of a request whose client left; nginx's custom."""

_REASONS_MAX = 8
_POLICY_BYTES_MAX = 512
_PAST_REASON = 3.0
_PAST_REASON_MS = 10_000.0


@dataclass(frozen=True, slots=True)
class ServeParts:
    """What serving needs of the gateway."""

    settings: GatewaySettings
    clock: Clock
    membership: Membership
    attempter: Attempter
    prober: Prober
    metrics: GatewayMetrics
    records: Records
    rates: ArrivalRates
    retries: RetryBudget
    router: Router
    luck: random.Random
    node_headers: Headers
    publish: Callable[[Record], None]
    admission: Admission


class Serve:
    """Serves requests for tokens, a bounded number at once."""

    def __init__(self, parts: ServeParts) -> None:
        self._parts = parts
        self._in_flight = parts.admission.in_flight
        self._salt = secrets.token_bytes(16)
        self._prompt_salt = openai.prompt_salt(parts.settings.node_token)

    async def __call__(self, exchange: Exchange, key: Key | None) -> None:
        """Answer one request of `key`, with tokens or an error object, and count what the client was told."""
        in_flight = self._in_flight.enter()
        status = CLIENT_LEFT
        try:
            if in_flight > self._parts.settings.in_flight_max:
                why = f"The gateway has {in_flight - 1} requests in flight, its most. Try again soon."
                status = refuse(exchange, Refusal(503, why, "overloaded", retry_after_s=1))
            else:
                status = await self._admitted(exchange, key)
        finally:
            self._in_flight.leave()
            self._parts.metrics.answered(status)

    async def _admitted(self, exchange: Exchange, key: Key | None) -> int:
        parts, now_s = self._parts, self._parts.clock.now_s()
        request_id = f"{parts.admission.id_prefix}{parts.luck.getrandbits(64):016x}"
        try:
            ask = openai.Ask(
                request_id,
                exchange.path,
                now_s + _timeout_s(exchange, parts.settings),
                read_objective(exchange.once),
                openai.hidden(key.name, self._salt) if key is not None else "",
                self._salt,
                self._prompt_salt,
                json_depth_max=parts.settings.json_depth_max,
                json_brackets_max=parts.settings.json_brackets_max,
            )
            router = _router(exchange, parts)
            request = openai.parse_request(ask, exchange.body)
            if parts.membership.fleet.surely_unknown(request.model):
                raise BadRequestError(
                    f"The model '{request.model[:128]}' does not exist here; GET /v1/models lists what does.",
                    param="model",
                    code="model_not_found",
                    status=404,
                )
        except RepeatedHeaderError as error:
            why = f"The header {error} is there more than once."
            exchange.reply(400, openai.error_body(400, why, param=str(error), code="invalid_value"))
            return 400
        except BadRequestError as error:
            body = openai.error_body(error.status, error.message, param=error.param, code=error.code)
            exchange.reply(error.status, body)
            return error.status
        view = parts.membership.view(request, router)
        grant = parts.admission.grant(key, view, request)
        if isinstance(grant, Shortage):
            grant = await parts.admission.look_again(grant)
            if isinstance(grant, Shortage):
                refusal = Refusal(429, grant.message, "rate_limit_exceeded", grant.retry_after_s)
                return refuse(exchange, refusal, grant.headers)
            view = parts.membership.view(request, router)  # the other one is of before
        try:
            parts.rates.arrived(request.model, now_s)
            parts.retries.earn()
            decision = route(view, request, parts.luck, router)
            parts.metrics.decided(decision)
            parts.records.begin(Record(parts.settings.name, parts.clock.unix_ms(), request.stream, decision))
            headers = () if grant is None else grant.headers
            return await _Course(parts, exchange, request, _Plan(decision, router, headers)).run()
        finally:
            record = parts.records.end(request.id)
            if record is not None:
                parts.publish(record)
            parts.admission.settle(key, grant, record)


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error for the client."""

    status: int
    message: str
    code: str
    retry_after_s: int | None = None


def refuse(exchange: Exchange, refusal: Refusal, headers: Headers = ()) -> int:
    """Tell the client an error, with `Retry-After` where that helps; returns the status told."""
    if refusal.retry_after_s is not None:
        headers = (*headers, (b"retry-after", str(refusal.retry_after_s).encode()))
    body = openai.error_body(refusal.status, refusal.message, code=refusal.code)
    exchange.reply(refusal.status, body, headers=headers)
    return refusal.status


@dataclass(frozen=True, slots=True)
class _Plan:
    """What was decided, and by whom; and what the client is told beside the answer."""

    decision: Decision
    router: Router
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class _Failure:
    """An attempt that brought no answer."""

    node: str
    attempt: Attempt

    @property
    def by_engine(self) -> bool:
        """Whether the node answered, with an error that may be the request's fault as well as its own."""
        return self.attempt.kind is OutcomeKind.FAILED and self.attempt.status != 0


class _Course:
    """One request from its decision to its end."""

    def __init__(self, parts: ServeParts, exchange: Exchange, request: Request, plan: _Plan) -> None:
        self._parts, self._exchange, self._request, self._plan = parts, exchange, request, plan
        self._begun_s = plan.decision.at_s
        self._headers: Headers = ((HEADER_DECISION, request.id.encode()), *plan.headers)
        self._failures: list[_Failure] = []
        self._balks = 0
        self._cards: dict[str, NodeCard] = {}

    async def run(self) -> int:
        """Try node after node until one answers or none is left; returns the status told to the client."""
        refusal = self._hopeless()
        if refusal is not None:
            return refuse(self._exchange, refusal, self._headers)
        candidate = self._plan.decision.chosen
        while candidate is not None:
            attempt = await self._try(candidate)
            if attempt.kind is OutcomeKind.ANSWERED:
                self._blame_those_before()
                return attempt.status
            if self._exchange.started:
                await self._break_off(candidate.node, attempt)
                return attempt.status
            if attempt.kind is OutcomeKind.BALKED:
                self._balks += 1
                candidate = self._best(self._decide_anew())
                if not self._failures and (refusal := self._hopeless()) is not None:
                    return refuse(self._exchange, refusal, self._headers)
                continue
            self._failures.append(_Failure(candidate.node, attempt))
            if attempt.kind is OutcomeKind.TIMED_OUT:
                self._blame_if_past_reason(candidate, attempt)
                break
            candidate = self._next()
        return refuse(self._exchange, self._gave_up(), self._headers)

    # -- choosing ------------------------------------------------------------------------------------

    def _hopeless(self) -> Refusal | None:
        """Why it is not even tried, or None."""
        decision, model = self._plan.decision, self._request.model[:128]
        if not decision.candidates:
            reasons = "; ".join(f"{e.node} {e.why}" for e in decision.exclusions[:_REASONS_MAX])
            why = reasons or "the gateway has not heard of a node that has it, and may soon"
            return Refusal(503, f"No node can serve '{model}' now: {why}.", "no_node_available", 1)
        left_ms = max(0.0, (self._request.deadline_s - decision.at_s) * 1e3)
        if decision.candidates[0].estimate.ttft_ms <= left_ms:
            return None  # nearly always: the others' estimates are not even made
        soonest_ms = min(candidate.estimate.ttft_ms for candidate in decision.candidates)
        if soonest_ms <= left_ms:
            return None
        return Refusal(
            503,
            f"No node can begin to answer within {left_ms:.0f} ms; the soonest would take about "
            f"{soonest_ms:.0f} ms.",
            "deadline_unreachable",
            max(1, ceil((soonest_ms - left_ms) / 1e3)),
        )

    def _next(self) -> Candidate | None:
        """The next to try after a failure: the best by then, in another failure domain if any."""
        if len(self._failures) >= self._parts.settings.attempts_max:
            return None
        if sum(failure.by_engine for failure in self._failures) > 1:
            return None  # two engines failed it: the third would too
        candidate = self._best(self._decide_anew())
        return candidate if candidate is not None and self._parts.retries.spend() else None

    def _best(self, decision: Decision) -> Candidate | None:
        """The choice; after a failure the best in another failure domain, if there is any."""
        if not self._failures:
            return decision.chosen
        candidates = {candidate.node: candidate for candidate in decision.candidates}
        failed = [failure.node for failure in self._failures]
        node = first_independent(list(candidates), failed, self._failure_domains)
        return None if node is None else candidates[node]

    def _decide_anew(self) -> Decision:
        """Decide by what is believed now, without the nodes that failed."""
        failed = frozenset(failure.node for failure in self._failures)
        view = self._parts.membership.view(self._request, self._plan.router).without(failed)
        left = self._request.objective.after((view.now_s - self._begun_s) * 1e3)
        request = replace(self._request, objective=left)
        decision = route(view, request, self._parts.luck, self._plan.router)
        self._plan = _Plan(decision, self._plan.router)
        return decision

    def _patience_ms(self, candidate: Candidate) -> float | None:
        """How long to wait there; however long for one that is not the choice, or after some balks."""
        decision, policy = self._plan.decision, self._plan.router.policy
        may_balk = candidate is decision.chosen and self._balks < policy.balks
        return decision.patience_ms if may_balk else None

    def _failure_domains(self, node: str) -> tuple[str, ...]:
        card = self._cards.get(node) or self._parts.membership.fleet.card(node)
        return card.failure_domains

    # -- trying --------------------------------------------------------------------------------------

    async def _try(self, candidate: Candidate) -> Attempt:
        parts, request, node = self._parts, self._request, candidate.node
        attempt = Attempt()
        card = self._cards[node] = parts.membership.fleet.card(node)

        def dispatched() -> None:
            parts.membership.step(Dispatched(request, node, candidate.estimate))
            parts.membership.telling.dispatched(request, node, candidate.estimate)
            parts.prober.dispatched(request.model, self._plan.router.policy.probing.per_request)

        stall_s_max = parts.settings.stall_s_max
        patience_ms = self._patience_ms(candidate)
        where = Route(node, card.url, parts.node_headers, self._headers, stall_s_max, dispatched, patience_ms)
        try:
            await parts.attempter.run(self._exchange, request, where, attempt)
        finally:
            untaken = attempt.kind is OutcomeKind.BALKED
            parts.membership.telling.finished(request, node, untaken=untaken)
            outcome = self._outcome(node, attempt)
            parts.records.add(outcome)
            parts.metrics.attempted(outcome, candidate.estimate)
            parts.membership.step(Finished(request, outcome))
        return attempt

    def _outcome(self, node: str, attempt: Attempt) -> Outcome:
        now_s = self._parts.clock.now_s()
        first_byte_s = attempt.first_byte_s if self._request.stream else None
        return Outcome(
            request_id=self._request.id,
            node=node,
            kind=attempt.kind,
            status=attempt.status,
            ttft_ms=None if first_byte_s is None else (first_byte_s - attempt.sent_s) * 1e3,
            total_ms=(now_s - attempt.sent_s) * 1e3,
            timings=attempt.timings,
            detail=attempt.detail,
            ready_in_s=attempt.ready_in_s,
        )

    # -- blaming -------------------------------------------------------------------------------------

    def _blame_those_before(self) -> None:
        """One node failed what another has answered: it was not the request's fault."""
        for failure in self._failures:
            if failure.by_engine:
                self._parts.membership.step(Blamed(failure.node, failure.attempt.detail))

    def _blame_if_past_reason(self, candidate: Candidate, attempt: Attempt) -> None:
        """The deadline passed. Whose fault was it? The node's, when it was far past its own estimate."""
        waited_ms = (self._parts.clock.now_s() - attempt.sent_s) * 1e3
        if waited_ms > _PAST_REASON * candidate.estimate.total_ms + _PAST_REASON_MS:
            why = f"no answer after {waited_ms / 1e3:.0f} s"
            self._parts.membership.step(Blamed(candidate.node, why))

    # -- giving up -----------------------------------------------------------------------------------

    async def _break_off(self, node: str, attempt: Attempt) -> None:
        """The answer began and can't be ended well: say so in the stream, or cut a body that is not one."""
        if not self._request.stream:
            return self._exchange.abort()
        timed_out = attempt.kind is OutcomeKind.TIMED_OUT
        code = "deadline_exceeded" if timed_out else "upstream_failed"
        why = "the deadline passed" if timed_out else "the node was lost"
        await self._exchange.write(openai.error_event(f"The answer broke off on node {node}: {why}.", code))
        return self._exchange.end()

    def _gave_up(self) -> Refusal:
        last = self._failures[-1]
        if last.attempt.kind is OutcomeKind.TIMED_OUT:
            return Refusal(504, "The deadline passed before an answer began.", "deadline_exceeded")
        tried = "; ".join(f"{failure.node} {_words(failure.attempt)}" for failure in self._failures)
        why = f"No node answered for '{self._request.model[:128]}': {tried}."
        if last.by_engine:
            return Refusal(502, why, "upstream_failed")
        hints = [f.attempt.retry_after_s for f in self._failures if f.attempt.retry_after_s is not None]
        return Refusal(503, why, "no_node_available", min(hints, default=1))


def _words(attempt: Attempt) -> str:
    """What a client is told of an attempt; the node's own words stay in the record."""
    status = f" with status {attempt.status}" if attempt.status else ""
    return f"{attempt.kind.value}{status}"


def _timeout_s(exchange: Exchange, settings: GatewaySettings) -> float:
    told = exchange.once(HEADER_TIMEOUT_MS)
    if told is None:
        return min(settings.timeout_s, settings.timeout_s_max)
    name = HEADER_TIMEOUT_MS.decode()
    if not told.isdigit() or len(told) > 9 or int(told) < 1:
        raise BadRequestError(f"The header {name} must be a whole number of milliseconds.", param=name)
    return min(int(told) / 1e3, settings.timeout_s_max)


def _router(exchange: Exchange, parts: ServeParts) -> Router:
    told = exchange.once(HEADER_POLICY)
    if told is None or not parts.settings.policy_by_header:
        return parts.router
    name = HEADER_POLICY.decode()
    if len(told) > _POLICY_BYTES_MAX:
        raise BadRequestError(f"The header {name} is longer than {_POLICY_BYTES_MAX} bytes.", param=name)
    try:
        return replace(parts.router, policy=find_policy(told.decode("latin-1")))
    except KeyError as error:
        raise BadRequestError(f"The header {name}: {error.args[0]}.", param=name) from error
