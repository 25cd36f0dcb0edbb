"""Any server that speaks OpenAI's HTTP and is run by others: vLLM, SGLang, TGI, Ollama, a cloud."""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import msgspec

from isochrone.adapters.engines.metrics import MetricsPage
from isochrone.model import ModelCard
from isochrone.ports import Clock, EngineError, EngineMetrics, MonotonicClock, SettingError

_MODELS_BYTES_MAX = 4 << 20
_MODELS_COUNT_MAX = 1000
_MODELS_WAIT_S_MAX = 10.0


class OpenAIEngine:
    """A server that is not ours; fulfils `ports.Engine`."""

    memory_bytes = 0
    alive = True

    def __init__(self, url: str, client: httpx.AsyncClient, clock: Clock) -> None:
        self.url = url
        self._client = client
        self._page = MetricsPage(client, url, clock=clock)

    async def metrics(self) -> EngineMetrics:
        """Read its metrics once; empty where it has none. Raises EngineError when it can't be reached."""
        return await self._page.read()

    async def stop(self) -> None:
        """Leave the server alone."""
        await self._client.aclose()


class OpenAIHost:
    """Finds a server that runs already; fulfils `ports.EngineHost`.

    Attributes:
        url: where it is, without a trailing `/v1`.
        headers: what each request to it must carry: the authorisation, when there is a key.
    """

    name = "openai"
    loads = False

    def __init__(self, url: str, api_key: str | None = None, *, clock: Clock | None = None) -> None:
        """`url` with or without `/v1`. Raises SettingError when it is no http or https URL."""
        self.url = _normalise(url)
        self.headers: Mapping[str, str] = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._clock = clock or MonotonicClock()

    async def models(self) -> tuple[ModelCard, ...]:
        """What it lists, in order of name, with the context length where it tells. Raises EngineError."""
        async with self._client() as client:
            try:
                body = await self._get_models(client)
            except (httpx.RequestError, TimeoutError) as error:
                raise EngineError(
                    f"The engine can't be reached at {self.url}: {str(error) or type(error).__name__}. "
                    "Check the URL, and that it runs."
                ) from error
        try:
            listed = msgspec.json.decode(body)["data"]
            cards = {card.name: card for item in listed[:_MODELS_COUNT_MAX] if (card := _card(item))}
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise EngineError(
                f"{self.url}/v1/models does not list models as OpenAI does: is that the engine's URL?"
            ) from error
        return tuple(cards[name] for name in sorted(cards))

    async def start(
        self, model: ModelCard, weights: Path | None, progress: Callable[[float], None]
    ) -> OpenAIEngine:
        """A handle for the running server, whatever the model. Raises EngineError when it lacks `model`."""
        listed = [card.name for card in await self.models()]
        if model.name not in listed:
            raise EngineError(
                f"The engine at {self.url} does not serve {model.name}; it serves "
                f"{', '.join(listed[:10]) or 'nothing'}."
            )
        progress(1.0)
        return OpenAIEngine(self.url, self._client(), self._clock)

    def _client(self) -> httpx.AsyncClient:
        """A client that uses no proxy, as the node's relay uses none."""
        verify = ssl.create_default_context() if self.url.startswith("https:") else False
        return httpx.AsyncClient(headers=self.headers, verify=verify, trust_env=False)

    async def _get_models(self, client: httpx.AsyncClient) -> bytes:
        """The body of the list of models. Raises EngineError when it is refused or too long."""
        body = bytearray()
        url = f"{self.url}/v1/models"
        async with (
            asyncio.timeout(_MODELS_WAIT_S_MAX),
            client.stream("GET", url, timeout=_MODELS_WAIT_S_MAX) as response,
        ):
            if response.status_code != httpx.codes.OK:
                why = ": it wants another API key" if response.status_code in {401, 403} else ""
                raise EngineError(f"{url} answered {response.status_code}{why}. Check the URL and the key.")
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > _MODELS_BYTES_MAX:
                    raise EngineError(
                        f"{url} answered more than {_MODELS_BYTES_MAX} bytes: no list of models."
                    )
        return bytes(body)


def _normalise(url: str) -> str:
    try:
        parts = httpx.URL(url.strip())
    except httpx.InvalidURL as error:
        raise SettingError(f"The engine's URL {url!r} is not understood: {error}.") from error
    if parts.scheme not in {"http", "https"} or not parts.host or parts.query or parts.fragment:
        raise SettingError(f"The engine's URL {url!r} is not understood: write http://HOST:PORT.")
    if parts.userinfo:
        raise SettingError("The engine's URL holds a user name: give an API key instead.")
    return str(parts).rstrip("/").removesuffix("/v1").rstrip("/")


def _card(item: Any) -> ModelCard | None:
    """One entry of the list; None when it names no model."""
    if not isinstance(item, dict) or not isinstance(item.get("id"), str) or not item["id"]:
        return None
    meta = item.get("meta")
    told = item.get("max_model_len") or (meta.get("n_ctx") if isinstance(meta, dict) else None)
    context = told if isinstance(told, int) and not isinstance(told, bool) and told > 0 else 0
    return ModelCard(name=item["id"], context_tokens=context)
