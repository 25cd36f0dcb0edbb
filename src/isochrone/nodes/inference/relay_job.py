"""One admitted request, from the desk to the engine and back to the gateway."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from isochrone.model import Request, Timings
from isochrone.nodes.inference.desk import Desk, Job
from isochrone.ports import Clock, Engine, UpstreamError
from isochrone.relay import Exchange, Headers, HttpClient, Response
from isochrone.wire import orca, subjects
from isochrone.wire.http_headers import end_to_end
from isochrone.wire.nodes import encode_load
from isochrone.wire.sse import split_done
from isochrone.wire.tail import Tail
from isochrone.wire.timings import encode_timings, report_from_body, report_from_tail

_STREAM_TAIL_BYTES = 16 * 1024
_WHOLE_TAIL_BYTES = 4 * 1024 * 1024
"""A whole answer longer than this is relayed all the same; only its usage is then not read."""

_SSE = b"text/event-stream"


@dataclass(slots=True)
class Stopwatch:
    """When what happened to one request, on the node's clock; 0 for not yet."""

    admitted_s: float = 0.0
    model_ready_s: float = 0.0
    started_s: float = 0.0
    first_byte_s: float = 0.0
    ended_s: float = 0.0
    busy_at_start: float = 0.0


@dataclass(frozen=True, slots=True)
class Relay:
    """What relaying needs of the agent."""

    desk: Desk
    client: HttpClient
    clock: Clock
    engine_headers: Headers
    silence_s_max: float
    prompt_done: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Task:
    """One request at its engine."""

    job: Job
    request: Request
    engine: Engine
    watch: Stopwatch


async def relay(parts: Relay, exchange: Exchange, task: Task) -> Tail | None:
    """Send the request to its engine and the answer to the gateway, all but the end of the answer.

    Returns the end of the answer as it passed, or None when the engine answered with an error (which was
    passed on whole). Raises UpstreamError when the engine broke off or fell silent; nothing is ended then.
    """
    headers = ((b"content-type", b"application/json"), *parts.engine_headers)
    url, silence_s_max = task.engine.url, _silence_s_max(parts, exchange, task)
    try:
        async with asyncio.timeout(silence_s_max) as patience:
            response = await parts.client.request("POST", url + exchange.path, headers, exchange.body)
            try:
                if response.status != 200:
                    await _pass_error_on(parts, exchange, response)
                    return None
                return await _pass_on(parts, exchange, task, _Arriving(response, patience, silence_s_max))
            finally:
                response.close()
    except TimeoutError as timeout:
        raise UpstreamError(f"the engine at {url} sent nothing for {silence_s_max:.0f} s") from timeout


def _silence_s_max(parts: Relay, exchange: Exchange, task: Task) -> float:
    """How long the engine may send nothing; a whole answer comes all at once, however late."""
    told = exchange.header(subjects.HEADER_TIMEOUT_MS) or b""
    if task.request.stream or not told.isdigit() or len(told) > 9:
        return parts.silence_s_max
    return max(parts.silence_s_max, int(told) / 1e3)


@dataclass(frozen=True, slots=True)
class _Arriving:
    """An answer on its way in, and how long we wait for its next byte."""

    response: Response
    patience: asyncio.Timeout
    silence_s_max: float

    def heard(self) -> None:
        """Bytes came in."""
        if not self.patience.expired():
            self.patience.reschedule(asyncio.get_running_loop().time() + self.silence_s_max)

    async def drained(self, exchange: Exchange) -> None:
        """Wait for a client that reads slowly, which is not the engine's silence."""
        self.patience.reschedule(None)
        await exchange.drained()
        self.heard()


def _load_header(parts: Relay) -> tuple[bytes, bytes]:
    return subjects.HEADER_LOAD, orca.encode_orca(parts.desk.load(parts.clock.now_s()))


async def _pass_error_on(parts: Relay, exchange: Exchange, response: Response) -> None:
    body = await response.read()
    kind = (response.header(b"content-type") or b"application/json").decode("latin-1")
    headers: Headers = (_load_header(parts),)
    if (retry_after := response.header(b"retry-after")) is not None:
        headers = (*headers, (b"retry-after", retry_after))
    exchange.reply(response.status, body, kind, headers)


async def _pass_on(parts: Relay, exchange: Exchange, task: Task, arriving: _Arriving) -> Tail:
    response, watch, job = arriving.response, task.watch, task.job
    streams = (response.header(b"content-type") or b"").startswith(_SSE)
    tail, done = Tail(_STREAM_TAIL_BYTES if streams else _WHOLE_TAIL_BYTES), b""

    def take(data: bytes) -> bool:
        nonlocal done
        arriving.heard()
        tail.feed(data)
        if streams:
            job.tokens_out = tail.events
        now, done = split_done(done + data)
        return exchange.push(now)

    if first := await anext(response, b""):
        watch.first_byte_s = parts.clock.now_s()
        if streams:
            parts.desk.first_token(job, watch.first_byte_s)
            parts.prompt_done()
    exchange.start(200, (*end_to_end(response.headers), _load_header(parts)))
    drained = partial(arriving.drained, exchange)
    if first and not take(first):
        await drained()
    await response.forward(take, drained)
    watch.ended_s = parts.clock.now_s()
    await exchange.write(done)
    return tail


def finish(parts: Relay, exchange: Exchange, timings: Timings) -> None:
    """End a relayed answer, with what was measured and the load that is left in the trailer."""
    load = encode_load(parts.desk.load(parts.clock.now_s()))
    exchange.end(((subjects.TRAILER_TIMINGS, encode_timings(timings)), (subjects.TRAILER_LOAD, load)))


def measure(desk: Desk, task: Task, tail: Tail) -> Timings:
    """What one answer took: by our own clock where we saw it, by the engine's report where we did not.

    A stream shows its first token to our clock. A whole answer does not: there only the engine knows how its
    time divides into prefill and decode; when it does not tell, all of it counts as decode. Prompts that the
    engine computed before this one count as waiting, not as prefill.
    """
    request, watch, job = task.request, task.watch, task.job
    report = report_from_tail(tail.value) if request.stream else report_from_body(tail.value)
    output_tokens = report.output_tokens
    if output_tokens is None:
        output_tokens = max(0, tail.events - 2) if request.stream else 0
    first_token_s = prompt_from_s = watch.started_s
    if request.stream:
        first_token_s = watch.first_byte_s
    elif report.prefill_ms is not None and report.decode_ms is not None:
        first_token_s = max(watch.started_s, watch.ended_s - report.decode_ms / 1e3)
        desk.first_token(job, first_token_s)
    if job.prompt_from_s is not None:
        prompt_from_s = job.prompt_from_s
    work_s, busy_slot_s = max(watch.ended_s - watch.started_s, 1e-9), desk.busy_slot_s(watch.ended_s)
    return Timings(
        queue_ms=max(0.0, prompt_from_s - watch.model_ready_s) * 1e3,
        load_ms=max(0.0, watch.model_ready_s - watch.admitted_s) * 1e3,
        prefill_ms=max(0.0, first_token_s - prompt_from_s) * 1e3,
        decode_ms=max(0.0, watch.ended_s - first_token_s) * 1e3,
        prompt_tokens=report.prompt_tokens or 0,
        cached_tokens=report.cached_tokens or 0,
        output_tokens=output_tokens,
        concurrency=max(1.0, (busy_slot_s - watch.busy_at_start) / work_s),
    )
