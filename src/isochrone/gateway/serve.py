"""The life of one request for tokens: admit, decide, try, recover, report."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil

from isochrone.demand import ArrivalRates
from isochrone.fleet import Dispatched, Finished
from isochrone.gateway.attempt import Attempt, Attempter, Route
from isochrone.gateway.membership import Membership
from isochrone.gateway.metrics import GatewayMetrics
from isochrone.gateway.records import Records
from isochrone.gateway.settings import GatewaySettings
from isochrone.independence import first_independent
from isochrone.model import Candidate, Decision, FleetView, NodeView, Outcome, OutcomeKind, Request
from isochrone.ports import Clock
from isochrone.relay import Exchange, Headers
from isochrone.routing import CATALOGUE, Router, route
from isochrone.wire import BadRequestError, openai
from isochrone.wire.explain import Record
from isochrone.wire.subjects import HEADER_DECISION, HEADER_POLICY, HEADER_TIMEOUT_MS


@dataclass(frozen=True, slots=True)
class ServeParts:
    """What serving needs of the gateway."""

    settings: GatewaySettings
    clock: Clock
    membership: Membership
    attempter: Attempter
    metrics: GatewayMetrics
    records: Records
    rates: ArrivalRates
    router: Router
    luck: random.Random
    node_headers: Headers
    publish: Callable[[Record], None]


class Serve:
    """Serves requests for tokens, a bounded number at once."""

    def __init__(self, parts: ServeParts) -> None:
        self._parts = parts
        self._in_flight = 0

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one request, with tokens or with an error object."""
        parts = self._parts
        if self._in_flight >= parts.settings.in_flight_max:
            why = f"The gateway has {self._in_flight} requests in flight, its most. Try again soon."
            return refuse(exchange, Refusal(503, why, "overloaded", retry_after_s=1))
        self._in_flight += 1
        try:
            await self._admitted(exchange)
        finally:
            self._in_flight -= 1
        return None

    async def _admitted(self, exchange: Exchange) -> None:
        parts, now_s = self._parts, self._parts.clock.now_s()
        request_id = f"req-{parts.luck.getrandbits(64):016x}"
        try:
            deadline_s = now_s + _timeout_s(exchange, parts.settings)
            router = _router(exchange, parts)
            ask = openai.Ask(request_id, exchange.path, deadline_s)
            request = openai.parse_request(ask, exchange.body)
            view = parts.membership.fleet.view(request.model, now_s)
            if not view.nodes:
                raise BadRequestError(
                    f"The model '{request.model[:128]}' does not exist here; GET /v1/models lists what does.",
                    param="model",
                    code="model_not_found",
                    status=404,
                )
        except BadRequestError as error:
            parts.metrics.requests.labels(str(error.status)).inc()
            body = openai.error_body(error.status, error.message, param=error.param, code=error.code)
            return exchange.reply(error.status, body)
        parts.rates.arrived(request.model, now_s)
        decision = route(view, request, parts.luck, router)
        parts.records.begin(Record(parts.settings.name, parts.clock.unix_ms(), request.stream, decision))
        try:
            return await _Course(parts, exchange, request, view, decision).run()
        finally:
            record = parts.records.end(request.id)
            if record is not None:
                parts.publish(record)


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error for the client."""

    status: int
    message: str
    code: str
    retry_after_s: int | None = None


def refuse(exchange: Exchange, refusal: Refusal, headers: Headers = ()) -> None:
    """Tell the client an error, with `Retry-After` where that helps."""
    if refusal.retry_after_s is not None:
        headers = (*headers, (b"retry-after", str(refusal.retry_after_s).encode()))
    body = openai.error_body(refusal.status, refusal.message, code=refusal.code)
    exchange.reply(refusal.status, body, headers=headers)


class _Course:
    """One request from its decision to its end."""

    def __init__(
        self, parts: ServeParts, exchange: Exchange, request: Request, view: FleetView, decision: Decision
    ) -> None:
        self._parts, self._exchange, self._request, self._decision = parts, exchange, request, decision
        self._nodes: dict[str, NodeView] = {node.node: node for node in view.nodes}
        self._headers: Headers = ((HEADER_DECISION, request.id.encode()),)
        self._attempts: list[Attempt] = []

    async def run(self) -> None:
        status = "499"
        try:
            await self._run()
            status = str(self._attempts[-1].status) if self._exchange.started else "503"
        finally:
            self._parts.metrics.requests.labels(status).inc()

    async def _run(self) -> None:
        refusal = self._hopeless()
        if refusal is not None:
            return refuse(self._exchange, refusal, self._headers)
        failed: list[str] = []
        while (candidate := self._next(failed)) is not None:
            attempt = await self._try(candidate)
            if attempt.kind is OutcomeKind.ANSWERED:
                return None
            if self._exchange.started:
                return await self._break_off(candidate.node, attempt)
            if attempt.kind is OutcomeKind.TIMED_OUT:
                break
            failed.append(candidate.node)
        return refuse(self._exchange, self._gave_up(), self._headers)

    # -- choosing ------------------------------------------------------------------------------------

    def _next(self, failed: list[str]) -> Candidate | None:
        """The next to try: best first, after a failure in another failure domain where there is one."""
        if len(failed) >= self._parts.settings.attempts_max:
            return None
        candidates = {candidate.node: candidate for candidate in self._decision.candidates}
        node = first_independent(list(candidates), failed, lambda n: self._nodes[n].failure_domains)
        return candidates[node] if node is not None else None

    def _hopeless(self) -> Refusal | None:
        """Why it is not even tried, or None."""
        if not self._decision.candidates:
            reasons = "; ".join(f"{e.node} {e.why}" for e in self._decision.exclusions)
            return Refusal(
                503, f"No node can serve '{self._request.model}' now: {reasons}.", "no_node_available", 1
            )
        left_ms = (self._request.deadline_s - self._decision.at_s) * 1e3
        soonest_ms = min(candidate.estimate.ttft_ms for candidate in self._decision.candidates)
        if soonest_ms <= left_ms:
            return None
        return Refusal(
            503,
            f"No node can begin to answer within {left_ms:.0f} ms; the soonest would take about "
            f"{soonest_ms:.0f} ms.",
            "deadline_unreachable",
            max(1, ceil((soonest_ms - left_ms) / 1e3)),
        )

    # -- trying --------------------------------------------------------------------------------------

    async def _try(self, candidate: Candidate) -> Attempt:
        parts, request, node = self._parts, self._request, self._nodes[candidate.node]
        attempt = Attempt()
        self._attempts.append(attempt)
        parts.membership.step(Dispatched(request, node.node, candidate.estimate))
        where = Route(node.node, node.url, parts.node_headers, self._headers, parts.settings.stall_s_max)
        try:
            await parts.attempter.run(self._exchange, request, where, attempt)
        finally:
            outcome = self._outcome(node.node, attempt)
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
        )

    # -- giving up -----------------------------------------------------------------------------------

    async def _break_off(self, node: str, attempt: Attempt) -> None:
        """The answer began and can't be ended well: say so in the stream, or cut a body that is not one."""
        if not self._request.stream:
            return self._exchange.abort()
        code = "deadline_exceeded" if attempt.kind is OutcomeKind.TIMED_OUT else "upstream_failed"
        event = openai.error_event(f"The answer broke off on node {node}: {attempt.detail}", code)
        await self._exchange.write(event)
        return self._exchange.end()

    def _gave_up(self) -> Refusal:
        last = self._attempts[-1]
        if last.kind is OutcomeKind.TIMED_OUT:
            return Refusal(504, "The deadline passed before an answer began.", "deadline_exceeded")
        hints = [a.retry_after_s for a in self._attempts if a.retry_after_s is not None]
        tried = len(self._attempts)
        return Refusal(
            503,
            f"{tried} node{'s' if tried > 1 else ''} tried, none answered; the last one: {last.detail}",
            "no_node_available",
            min(hints, default=1),
        )


def _timeout_s(exchange: Exchange, settings: GatewaySettings) -> float:
    told = exchange.header(HEADER_TIMEOUT_MS)
    if told is None:
        return settings.timeout_s
    name = HEADER_TIMEOUT_MS.decode()
    if not told.isdigit() or len(told) > 9 or int(told) < 1:
        raise BadRequestError(f"The header {name} must be a whole number of milliseconds.", param=name)
    return min(int(told) / 1e3, settings.timeout_s_max)


def _router(exchange: Exchange, parts: ServeParts) -> Router:
    told = exchange.header(HEADER_POLICY)
    if told is None or not parts.settings.policy_by_header:
        return parts.router
    policy = CATALOGUE.get(told.decode("latin-1"))
    if policy is None:
        name = HEADER_POLICY.decode()
        raise BadRequestError(f"The header {name} must be one of: {', '.join(CATALOGUE)}.", param=name)
    return replace(parts.router, policy=policy)
