"""What the node answers over HTTP."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from hmac import compare_digest
from itertools import count
from math import ceil
from secrets import token_bytes

import msgspec

from isochrone.model import Request
from isochrone.nodes.inference.desk import Job
from isochrone.nodes.inference.idle import IdleNews
from isochrone.nodes.inference.relay_job import Stopwatch, Task, finish, measure, relay
from isochrone.nodes.inference.shelf import ShelvedModel
from isochrone.nodes.inference.state import NodeState
from isochrone.nodes.inference.turns import Turns
from isochrone.ports import IsochroneError, UpstreamError
from isochrone.relay import Exchange
from isochrone.wire import BadRequestError, openai, orca, subjects
from isochrone.wire.http_headers import bearer_token, told_count, told_number

_Answer = Callable[[Exchange], Awaitable[None]]


class Service:
    """The node's HTTP handler: `handle` is given to the server."""

    def __init__(self, state: NodeState, turns: Turns, idle_news: IdleNews) -> None:
        self._state, self._turns, self._idle_news = state, turns, idle_news
        self._ids, self._salt = count(1), token_bytes(16)
        self._routes: dict[tuple[str, str], _Answer] = {
            ("POST", openai.CHAT_PATH): self._infer,
            ("POST", openai.COMPLETIONS_PATH): self._infer,
            ("GET", openai.MODELS_PATH): self._models,
            ("GET", "/health"): self._health,
            ("GET", "/metrics"): self._metrics,
            ("GET", subjects.PING_PATH): self._ping,
            ("GET", subjects.LOAD_PATH): self._load,
            ("GET", subjects.STATE_PATH): self._told,
        }

    async def handle(self, exchange: Exchange) -> None:
        """Answer one request."""
        if not self._allowed(exchange):
            return _error(exchange, 401, "This node wants its network's token.", code="invalid_api_key")
        answer = self._routes.get((exchange.method, exchange.path))
        if answer is None and exchange.method == "POST" and exchange.path.startswith(subjects.MODEL_PATH):
            answer = self._shelve
        if answer is None:
            return _error(exchange, 404, f"There is nothing at {exchange.method} {exchange.path}.")
        return await answer(exchange)

    def _allowed(self, exchange: Exchange) -> bool:
        token = self._state.settings.token
        if not token or exchange.path == "/health":
            return True
        given = bearer_token(exchange.header(b"authorization"))
        return compare_digest(given.encode(), token.encode())

    # -- tokens --------------------------------------------------------------------------------------

    async def _infer(self, exchange: Exchange) -> None:
        state, now_s = self._state, self._state.clock.now_s()
        try:
            ask = openai.Ask(f"job-{next(self._ids)}", exchange.path, prompt_salt=self._salt)
            request = openai.parse_request(ask, exchange.body)
        except BadRequestError as error:
            return _error(exchange, error.status, error.message, param=error.param, code=error.code)
        model = state.shelf.find(request.model)
        if model is None:
            return _error(
                exchange,
                404,
                f"The model '{request.model[:128]}' is not served here.",
                param="model",
                code="model_not_found",
            )
        job = _job(request, model, concurrency=state.desk.concurrency_next)
        if state.leaving or state.desk.full:
            state.metrics.refused.inc()
            return self._refuse(exchange)
        if self._balks(exchange, model, now_s):
            return None
        state.desk.admit(job, now_s)
        state.shelf.use(model)
        self._idle_news.look()
        try:
            await self._work(exchange, request, model, job)
        finally:
            state.desk.leave(job.id, state.clock.now_s())
            state.shelf.release(model)
            self._turns.changed()
            self._idle_news.look()
        return None

    def _refuse(self, exchange: Exchange) -> None:
        load = self._state.desk.load(self._state.clock.now_s())
        retry_after = str(max(1, ceil(load.wait_s))).encode()
        why = "The node is leaving." if self._state.leaving else "The node is full."
        body = openai.error_body(503, f"{why} Try again later or elsewhere.", code="node_full")
        headers = ((b"retry-after", retry_after), self._load_header())
        exchange.reply(503, body, headers=headers)

    def _balks(self, exchange: Exchange, model: ShelvedModel, now_s: float) -> bool:
        """Say how long it would wait here, when that is longer than it has patience for; whether it is."""
        if (patience_ms := told_number(exchange.header(subjects.HEADER_PATIENCE_MS))) is None:
            return False
        state = self._state
        begins_ms = 1e3 * (state.desk.load(now_s).begins_in_s + state.shelf.ready_in_s(model))
        if begins_ms <= patience_ms:
            return False
        state.metrics.balked.inc()
        why = f"The prompt would begin in {begins_ms:.0f} ms, and was to within {patience_ms}."
        headers = ((subjects.HEADER_BALKED, b"%d" % ceil(begins_ms)), self._load_header())
        exchange.reply(503, openai.error_body(503, why, code="balked"), headers=headers)
        return True

    async def _work(self, exchange: Exchange, request: Request, model: ShelvedModel, job: Job) -> None:
        state, watch = self._state, Stopwatch(admitted_s=job.admitted_at_s)
        try:
            engine = await state.shelf.engine(model)
        except IsochroneError as error:  # this model's trouble, not the node's: others can be served
            state.metrics.failed.inc()
            state.log(f"{request.model} could not be loaded: {error}")
            return self._unavailable(exchange, model)
        watch.model_ready_s = state.clock.now_s()
        await self._turns.wait_for(job)
        watch.started_s = state.clock.now_s()
        watch.busy_at_start = state.desk.busy_slot_s(watch.started_s)
        try:
            task = Task(job, request, engine, watch)
            tail = await relay(state.relay_parts, exchange, task)
        except UpstreamError as error:
            state.metrics.failed.inc()
            state.log(f"{request.model}: {error}")
            if exchange.started:
                return exchange.abort()
            return _error(exchange, 502, f"The engine failed: {error}", code="engine_failed")
        state.desk.leave(job.id, state.clock.now_s())
        if tail is None:
            state.metrics.failed.inc()
            return None
        timings = measure(state.desk, task, tail)
        if not timings.prompt_tokens:  # an engine that does not tell
            timings = replace(timings, prompt_tokens=round(model.speeds.tokens.at(request.prompt_bytes)))
        model.speeds.learn(request, timings)
        state.metrics.answered(request.model, timings)
        return finish(state.relay_parts, exchange, timings)

    def _unavailable(self, exchange: Exchange, model: ShelvedModel) -> None:
        left_s = model.retry_at_s - self._state.clock.now_s()
        name = model.card.name
        body = openai.error_body(
            503, f"The model '{name}' can't be loaded here now.", code="model_unavailable"
        )
        headers = ((b"retry-after", str(max(1, ceil(left_s))).encode()), self._load_header())
        exchange.reply(503, body, headers=headers)

    def _load_header(self) -> tuple[bytes, bytes]:
        load = self._state.desk.load(self._state.clock.now_s())
        return subjects.HEADER_LOAD, orca.encode_orca(load)

    # -- the rest ------------------------------------------------------------------------------------

    async def _models(self, exchange: Exchange) -> None:
        created = self._state.epoch // 1000
        exchange.reply(200, openai.models_body((m.card.name, created) for m in self._state.shelf.models()))

    async def _health(self, exchange: Exchange) -> None:
        status = "leaving" if self._state.leaving else "ok"
        exchange.reply(503 if self._state.leaving else 200, msgspec.json.encode({"status": status}))

    async def _metrics(self, exchange: Exchange) -> None:
        exchange.reply(200, self._state.metrics.exposition(self._state), "text/plain; version=0.0.4")

    async def _ping(self, exchange: Exchange) -> None:
        self._state.tempo.told(told_count(exchange.header(subjects.HEADER_NODES)))
        exchange.reply(204, b"")

    async def _load(self, exchange: Exchange) -> None:
        exchange.reply(204, b"", headers=(self._load_header(),))

    async def _told(self, exchange: Exchange) -> None:
        exchange.reply(200, msgspec.json.encode({"card": self._state.card(), "pulse": self._state.pulse()}))

    async def _shelve(self, exchange: Exchange) -> None:
        """`POST /isochrone/v1/models/NAME/load` or `.../unload`: for operators."""
        name, _, verb = exchange.path.removeprefix(subjects.MODEL_PATH).rpartition("/")
        model = self._state.shelf.find(name)
        if model is None or verb not in ("load", "unload"):
            return _error(exchange, 404, f"No model {name[:128]!r} here, or no such verb: load or unload it.")
        if verb == "unload":
            if not await self._state.shelf.unload(model):
                return _error(exchange, 409, f"{name} is in use, or not loaded; nothing was changed.")
        else:
            try:
                await self._state.shelf.engine(model)
            except IsochroneError as error:
                return _error(exchange, 502, str(error), code="engine_failed")
        return exchange.reply(200, msgspec.json.encode({"model": name, "state": model.state}))


def _job(request: Request, model: ShelvedModel, concurrency: int) -> Job:
    speeds = model.speeds
    return Job(
        id=request.id,
        model=request.model,
        prefill_s=speeds.prefill_s(request),
        tpot_s=speeds.decode.at(concurrency) / 1e3,
        output_tokens=speeds.output_tokens(request),
        output_tokens_max=request.output_tokens_max,
        streams=request.stream,
    )


def _error(
    exchange: Exchange, status: int, message: str, *, param: str | None = None, code: str | None = None
) -> None:
    exchange.reply(status, openai.error_body(status, message, param=param, code=code))
