"""An engine's `/metrics` page, read gently: a short wait, a bounded body, no insisting."""

import asyncio

import httpx

from isochrone.ports import Clock, EngineError, EngineMetrics
from isochrone.wire.engine_metrics import parse

_BODY_BYTES_MAX = 256 << 10
_WAIT_S_MAX = 1.0
_WHOLE_S_MAX = 2.0
_PLAIN = {"Accept-Encoding": "identity"}  # a bound on what is sent is then a bound on what is read
TIMEOUT = httpx.Timeout(_WAIT_S_MAX)


class MetricsPage:
    """The page of one engine.

    Where there is no page, or it fails, it is let be for `pause_s` and counts as an empty one meanwhile.
    """

    def __init__(self, client: httpx.AsyncClient, url: str, *, clock: Clock, pause_s: float = 60.0) -> None:
        self._client = client
        self._url = f"{url}/metrics"
        self._clock = clock
        self._pause_s = pause_s
        self._again_s = float("-inf")

    async def read(self) -> EngineMetrics:
        """What the page says; empty when there is none, or the engine is too busy to show it in a second.

        Raises EngineError only when no connection to the engine can be made.
        """
        if self._clock.now_s() < self._again_s:
            return EngineMetrics()
        try:
            text = await self._get()
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise EngineError(
                f"The engine can't be reached at {self._url}: {str(error) or 'no answer'}. Does it run?"
            ) from error
        except (httpx.RequestError, TimeoutError):
            text = None
        if text is None:
            self._again_s = self._clock.now_s() + self._pause_s
            return EngineMetrics()
        gauges = parse(text)
        return EngineMetrics(running=gauges.running, queued=gauges.queued, kv_used=gauges.kv_used)

    async def _get(self) -> str | None:
        """The page, cut off after the last whole line within the bound; None when there is none."""
        body = bytearray()
        async with (
            asyncio.timeout(_WHOLE_S_MAX),
            self._client.stream("GET", self._url, headers=_PLAIN, timeout=TIMEOUT) as response,
        ):
            if response.status_code != httpx.codes.OK:
                return None
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > _BODY_BYTES_MAX:
                    del body[body.rfind(b"\n", 0, _BODY_BYTES_MAX) + 1 :]
                    break
        return body.decode(errors="replace")
