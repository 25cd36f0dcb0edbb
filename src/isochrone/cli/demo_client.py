"""The demo's client: sends a request, measures it, and asks the gateway what it had predicted."""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from isochrone.cli.network_file import NetworkFile
from isochrone.cli.reach import auth_headers
from isochrone.model import Timings
from isochrone.ports import IsochroneError, UpstreamError
from isochrone.relay import Headers, HttpClient, Response
from isochrone.sim.live.workload import Arrival
from isochrone.wire.subjects import (
    DECISIONS_PATH,
    HEADER_DECISION,
    HEADER_NODE,
    HEADER_POLICY,
    MODEL_PATH,
    STATUS_PATH,
)
from isochrone.wire.tail import Tail
from isochrone.wire.timings import report_from_tail

_RESET_TRIES = 200
_RESET_PAUSE_S = 0.05


@dataclass(frozen=True, slots=True)
class DemoTarget:
    """What a request is for: which policy, in which round (0: warming up)."""

    policy: str
    round: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One request, measured by the client.

    Attributes:
        policy: that decided.
        round: of the demo.
        at_s: arrival, since the series began.
        node: that answered, "" for none.
        status: HTTP status, 0 when the connection failed.
        ttft_ms: send to first token; None when there was no answer.
        total_ms: send to last token; None likewise.
        predicted_ttft_ms: the gateway's estimate for the node it chose.
        candidates_ttft_ms: its estimate for each node that it considered.
        dispatch_ttft_ms: what the gateway measured from its dispatch to the first token.
        prompt_tokens: length of the prompt as the engine counts it; None when it did not tell.
        cached_tokens: of these, found in its prefix cache; None likewise.
        output_tokens: length of the answer; None likewise.
        timings: what the node measured; None when it did not tell.
        error: what went wrong, "" for nothing.
    """

    policy: str
    round: int
    at_s: float
    node: str = ""
    status: int = 0
    ttft_ms: float | None = None
    total_ms: float | None = None
    predicted_ttft_ms: float | None = None
    dispatch_ttft_ms: float | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    timings: Timings | None = None
    candidates_ttft_ms: dict[str, float] = field(default_factory=dict)
    error: str = ""


class DemoClient:
    """A client of one gateway; `network` lets it also put the nodes back into their state."""

    def __init__(self, url: str, network: NetworkFile | None) -> None:
        self._url, self._network = url, network
        self._client = HttpClient(tls=network.tls() if network is not None else None)
        self._key: Headers = tuple((n.encode(), v.encode()) for n, v in auth_headers().items())

    async def __aenter__(self) -> "DemoClient":
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._client.close()

    async def check(self, model: str) -> None:
        """Raises IsochroneError when the gateway can't be reached or does not know the model."""
        try:
            listed = await self._get_json(f"{self._url}/v1/models")
        except UpstreamError as error:
            raise IsochroneError(f"the gateway at {self._url} can't be reached: {error}") from error
        names = [each["id"] for each in listed.get("data", ())]
        if model not in names:
            raise IsochroneError(f"the gateway does not know {model!r}; it has: {', '.join(names) or 'none'}")

    async def ask(self, target: DemoTarget, arrival: Arrival) -> Sample:
        """Send one request and measure it."""
        body = msgspec.json.encode(
            {
                "model": arrival.model,
                "messages": [
                    {"role": "system", "content": arrival.system},
                    {"role": "user", "content": arrival.prompt},
                ],
                "max_tokens": arrival.output_tokens_max,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
        )
        headers = (*self._key, (HEADER_POLICY, target.policy.encode()))
        loop = asyncio.get_running_loop()
        sent_s, first_s = loop.time(), None
        blank = Sample(target.policy, target.round, arrival.at_s)
        try:
            response = await self._client.request("POST", f"{self._url}/v1/chat/completions", headers, body)
        except UpstreamError as error:
            return _failed(blank, 0, str(error))
        tail = Tail(4096)
        try:
            async for data in response:
                if first_s is None:
                    first_s = loop.time()
                tail.feed(data)
        except UpstreamError as error:
            return _failed(blank, response.status, str(error))
        finally:
            response.close()
        if response.status != 200 or first_s is None or b'"error"' in tail.value:
            return _failed(blank, response.status, tail.value.decode("utf-8", "replace")[-300:])
        ended_s = loop.time()
        told = report_from_tail(tail.value)
        sample = replace(
            blank,
            status=response.status,
            ttft_ms=(first_s - sent_s) * 1e3,
            total_ms=(ended_s - sent_s) * 1e3,
            prompt_tokens=told.prompt_tokens,
            cached_tokens=told.cached_tokens,
            output_tokens=told.output_tokens,
        )
        return await self._with_decision(sample, response)

    async def _with_decision(self, sample: Sample, response: Response) -> Sample:
        """The sample with what the gateway had predicted, and what it and the node measured."""
        node = (response.header(HEADER_NODE) or b"").decode()
        decision = (response.header(HEADER_DECISION) or b"").decode()
        record = await self._get_json(f"{self._url}{DECISIONS_PATH}{decision}")
        predicted = {c["node"]: c["ttft_ms"] for c in record.get("candidates", ())}
        measured = {o["node"]: o["ttft_ms"] for o in record.get("outcomes", ())}
        timings = {o["node"]: o["timings"] for o in record.get("outcomes", ()) if o["timings"]}
        return replace(
            sample,
            node=node,
            predicted_ttft_ms=predicted.get(node),
            dispatch_ttft_ms=measured.get(node),
            candidates_ttft_ms=predicted,
            timings=msgspec.convert(timings[node], Timings) if node in timings else None,
        )

    async def reset(self, model: str, nodes: tuple[str, ...]) -> None:
        """Unload `model` on `nodes`, and wait until the gateway has heard of it."""
        if self._network is None:
            return
        token: Headers = ((b"authorization", f"Bearer {self._network.token}".encode()),)
        for node in nodes:
            url = self._network.nodes.get(node)
            if url is None:
                continue
            response = await self._client.request("POST", f"{url}{MODEL_PATH}{model}/unload", token)
            await response.read()
            await self._until_not_ready(node, model)

    async def _until_not_ready(self, node: str, model: str) -> None:
        for _ in range(_RESET_TRIES):
            status = await self._get_json(f"{self._url}{STATUS_PATH}")
            states = {
                (each["node"], m["model"]): m["state"] for each in status["nodes"] for m in each["models"]
            }
            if states.get((node, model)) != "ready":
                return
            await asyncio.sleep(_RESET_PAUSE_S)
        raise IsochroneError(f"{model} on {node} could not be unloaded: somebody else uses it")

    async def _get_json(self, url: str) -> Any:
        response = await self._client.request("GET", url, self._key)
        return msgspec.json.decode(await response.read())


def _failed(blank: Sample, status: int, error: str) -> Sample:
    return Sample(blank.policy, blank.round, blank.at_s, status=status, error=error or "no answer")
