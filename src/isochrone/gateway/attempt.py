"""One attempt at one node: dispatch, relay, and an Outcome whatever happens."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from isochrone.fleet import LoadReported
from isochrone.gateway.membership import Membership
from isochrone.model import Load, OutcomeKind, Request, Timings, ready_in_s
from isochrone.ports import Clock, UpstreamError
from isochrone.relay import Exchange, Headers, HttpClient, Response
from isochrone.wire import WireError
from isochrone.wire.http_headers import told_number
from isochrone.wire.nodes import decode_load
from isochrone.wire.orca import decode_orca
from isochrone.wire.sse import split_done, split_events
from isochrone.wire.subjects import (
    HEADER_BALKED,
    HEADER_LOAD,
    HEADER_NODE,
    HEADER_PATIENCE_MS,
    HEADER_TIMEOUT_MS,
    TRAILER_LOAD,
    TRAILER_TIMINGS,
)
from isochrone.wire.timings import decode_timings

_REFUSALS = (404, 429, 503)
_BALKED = 503
_NODES_FAULT = (401, 403)
_QUOTED_MAX = 300
_QUOTED_BYTES_MAX = 64 * 1024
"""Of an error so much is read, that its connection may be used again; a longer one is cut."""
_REPLY_HEADERS = (b"content-type", b"content-encoding", b"cache-control", b"x-request-id")
"""What a node may tell a client. The rest is ours to say, or nobody's."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where an attempt goes, and what the client's answer carries.

    Attributes:
        node: the node's name.
        url: where it is reached.
        node_headers: what the node wants to be shown.
        reply_headers: what the client is told beside the node's own headers.
        stall_s_max: a silent node's stream that brings nothing for so long is given up.
        dispatched: called as the request goes there, once and before anything is waited for.
        patience_ms: where its prompt would begin later, the node is to say so at once; None to wait anyway.
    """

    node: str
    url: str
    node_headers: Headers
    reply_headers: Headers
    stall_s_max: float
    dispatched: Callable[[], None]
    patience_ms: float | None = None


@dataclass(slots=True)
class Attempt:
    """What happened so far. Times are on the gateway's clock."""

    kind: OutcomeKind = OutcomeKind.CANCELLED
    status: int = 0
    sent_s: float = 0.0
    first_byte_s: float | None = None
    timings: Timings | None = None
    detail: str = ""
    retry_after_s: int | None = None
    silent: bool = False
    ready_in_s: float = 0.0

    def balked(self, begins_ms: int, patience_ms: float, load: Load | None) -> None:
        """Its prompt would have begun too late; what of that is not the line is the model's load."""
        why = f"its prompt would have begun in {begins_ms} ms there, and was to within {patience_ms:.0f} ms"
        self.end(OutcomeKind.BALKED, why)
        line_s = load.begins_in_s if load is not None else 0.0
        self.ready_in_s = ready_in_s(begins_ms / 1e3, line_s)

    def end(self, kind: OutcomeKind, detail: str = "") -> None:
        """Note how it ended."""
        self.kind, self.detail = kind, detail


@dataclass(frozen=True, slots=True)
class Attempter:
    """Makes attempts."""

    client: HttpClient
    clock: Clock
    membership: Membership

    async def run(self, exchange: Exchange, request: Request, route: Route, attempt: Attempt) -> None:
        """Send the request to `route.node` and relay the answer; `attempt` tells how that ended.

        What is to be done for each dispatch, `route.dispatched`, is done with the request on its way.
        Nothing was sent to the client when the attempt did not end ANSWERED and `exchange.started` is false:
        another node may be tried. Only cancellation is raised; `attempt` then says CANCELLED.
        """
        attempt.sent_s = self.clock.now_s()
        limit = asyncio.timeout(request.deadline_s - attempt.sent_s)
        way = _Way(request, route, attempt, limit)
        self.membership.listen(route.node, way.heard_of)
        try:
            async with limit:
                await self._converse(exchange, way)
        except TimeoutError:
            if attempt.silent and self.clock.now_s() < request.deadline_s:
                attempt.end(OutcomeKind.SILENT, "fell silent while it worked on the request")
            else:
                attempt.end(OutcomeKind.TIMED_OUT, "the deadline passed")
        except UpstreamError as error:
            attempt.end(OutcomeKind.FAILED, str(error))
        finally:
            self.membership.unlisten(route.node, way.heard_of)

    async def _converse(self, exchange: Exchange, way: "_Way") -> None:
        route, attempt = way.route, way.attempt
        left_ms = max(1, int((way.request.deadline_s - attempt.sent_s) * 1e3))
        headers = (
            (b"content-type", b"application/json"),
            (b"te", b"trailers"),
            (HEADER_TIMEOUT_MS, str(left_ms).encode()),
            *route.node_headers,
        )
        if route.patience_ms is not None:
            headers += ((HEADER_PATIENCE_MS, str(int(route.patience_ms)).encode()),)
        url = f"{route.url}{exchange.path}"
        response = await self.client.request("POST", url, headers, exchange.body, route.dispatched)
        try:
            status = attempt.status = response.status
            load = None
            if not _tells_later(response):
                load = self._hear_load(route.node, response.header(HEADER_LOAD), decode_orca)
            begins_ms = way.balked_ms(response) if status == _BALKED else None
            if begins_ms is not None:
                await _quote(response)  # so that the connection may be used again
                attempt.balked(begins_ms, route.patience_ms or 0.0, load)
            elif status in _REFUSALS:
                attempt.retry_after_s = _whole(response.header(b"retry-after"))
                attempt.end(OutcomeKind.REFUSED, await _quote(response))
            elif status in _NODES_FAULT or not 200 <= status < 500:
                attempt.end(OutcomeKind.FAILED, await _quote(response))
            elif 300 <= status < 400:
                attempt.end(OutcomeKind.FAILED, f"status {status}: redirects are not followed")
            else:
                await self._relay(exchange, way, response)
        finally:
            response.close()

    async def _relay(self, exchange: Exchange, way: "_Way", response: Response) -> None:
        route, attempt = way.route, way.attempt
        headers = (
            *[header for header in response.headers if header[0] in _REPLY_HEADERS],
            (HEADER_NODE, route.node.encode()),
            *route.reply_headers,
        )
        held = await anext(response, b"")
        attempt.first_byte_s = self.clock.now_s()
        exchange.start(response.status, headers)
        if not response.complete:  # an answer that came in one piece leaves in one
            held = await _forward(exchange, way, response, held)
        attempt.end(OutcomeKind.ANSWERED)
        try:
            await exchange.drained()
            exchange.end(last=held)
        finally:  # the client has its answer first
            self._read_trailers(route.node, response, attempt)

    def _read_trailers(self, node: str, response: Response, attempt: Attempt) -> None:
        trailers = dict(response.trailers)
        self._hear_load(node, trailers.get(TRAILER_LOAD), decode_load)
        if (told := trailers.get(TRAILER_TIMINGS)) is not None:
            try:
                attempt.timings = decode_timings(told)
            except WireError:
                self.membership.undecodable += 1

    def _hear_load(self, node: str, told: bytes | None, decode: Callable[[bytes], Load]) -> Load | None:
        if told is None:
            return None
        try:
            load = decode(told)
        except WireError:
            self.membership.undecodable += 1
            return None
        self.membership.step(LoadReported(node, load))
        return load


class _Way:
    """One attempt under way, and how long we wait for a node that stopped speaking on the bus.

    Before the first byte a silent node is given up at once: another can still answer. After it the stream is
    the better witness: a silent node is given up only when its stream stalls as well.
    """

    def __init__(self, request: Request, route: Route, attempt: Attempt, limit: asyncio.Timeout) -> None:
        self.request, self.route, self.attempt = request, route, attempt
        self._limit, self._deadline_s = limit, limit.when()

    def balked_ms(self, response: Response) -> int | None:
        """When its prompt would have begun, where the node was asked and that is too late; else None."""
        patience_ms, begins_ms = self.route.patience_ms, told_number(response.header(HEADER_BALKED))
        if patience_ms is None or begins_ms is None or begins_ms <= int(patience_ms):
            return None
        return begins_ms

    def heard_of(self, *, silent: bool) -> None:
        """The node has been silent for too long, or speaks again."""
        self.attempt.silent = silent
        if silent:
            began = self.attempt.first_byte_s is not None
            self._give_up_in(self.route.stall_s_max if began else 0.0)
        elif not self._limit.expired():
            self._limit.reschedule(self._deadline_s)

    def heard(self) -> None:
        """Bytes came in from a node that is silent on the bus."""
        self._give_up_in(self.route.stall_s_max)

    def _give_up_in(self, patience_s: float) -> None:
        if self._limit.expired():
            return
        when_s = asyncio.get_running_loop().time() + patience_s
        self._limit.reschedule(when_s if self._deadline_s is None else min(when_s, self._deadline_s))


def _tells_later(response: Response) -> bool:
    """Whether the load in the trailer is here already, which is newer than the one in the head."""
    return response.complete and any(name == TRAILER_LOAD for name, _ in response.trailers)


async def _forward(exchange: Exchange, way: _Way, response: Response, first: bytes) -> bytes:
    """Hand the body on as it arrives, beginning with its `first` bytes; returns what goes with its end."""
    held, split, attempt = b"", split_events if way.request.stream else split_done, way.attempt

    def take(data: bytes) -> bool:
        nonlocal held
        if attempt.silent:
            way.heard()
        now, held = split(held + data if held else data)
        return exchange.push(now)

    if not take(first):
        await exchange.drained()
    await response.forward(take, exchange.drained)
    return held


async def _quote(response: Response) -> str:
    """What a node said, for people who look into the record; never for clients."""
    read_bytes, begun = 0, b""
    async for piece in response:
        read_bytes += len(piece)
        begun = (begun + piece)[:_QUOTED_MAX]
        if read_bytes > _QUOTED_BYTES_MAX:
            break
    words = begun.decode("utf-8", "replace")
    return f"status {response.status}: {''.join(c if c.isprintable() else ' ' for c in words)}"


def _whole(value: bytes | None) -> int | None:
    return int(value) if value is not None and value.isdigit() and len(value) < 6 else None
