"""The gateway: puts its parts together, and answers what is not tokens."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from hmac import compare_digest
from urllib.parse import unquote

import msgspec
from prometheus_client import CollectorRegistry

from isochrone.demand import ArrivalRates
from isochrone.fleet import Fleet
from isochrone.gateway.admission import Admission
from isochrone.gateway.announcer import Announcer
from isochrone.gateway.attempt import Attempter
from isochrone.gateway.capacity import CapacityDesk
from isochrone.gateway.cors import admit, preflight_headers
from isochrone.gateway.crew import Crew
from isochrone.gateway.keys import KeyRing
from isochrone.gateway.lookup import Lookup, Told
from isochrone.gateway.membership import Membership
from isochrone.gateway.metrics import GatewayMetrics
from isochrone.gateway.prober import Prober, ProberParts
from isochrone.gateway.records import LAST, Records
from isochrone.gateway.retries import RetryBudget
from isochrone.gateway.serve import Serve, ServeParts
from isochrone.gateway.settings import GatewaySettings
from isochrone.model import Key
from isochrone.ports import Bus, Clock, KeySource, NoKeys
from isochrone.relay import Exchange, Headers, HttpClient, HttpServer, Listening
from isochrone.routing import Router, find_policy
from isochrone.wire import openai
from isochrone.wire.explain import Record
from isochrone.wire.http_headers import bearer_token
from isochrone.wire.openapi import OPENAPI_PATH, methods_of, openapi_body
from isochrone.wire.subjects import DECISIONS_PATH, decision_subject

_TEXT = "text/plain; version=0.0.4"

Page = Callable[[], bytes | Awaitable[bytes]]
"""A read-only page of JSON, made when asked for, at once or after a while."""


class Gateway:
    """One gateway, or one worker of it. `start`, then `stop`; the bus may come and go in between.

    Made of: `pages` by path, what other workers may ask beside the gateway's own (`told`, by line), `keys`
    beside those of the settings, and the `crew` of workers. Raises SettingError for keys that can't be read.

    Attributes:
        settings: how it runs.
        fleet: what it believes of the nodes.
        rates: requests that arrive.
        lookup: finds what another worker knows.
        capacity: what there is and what more would save, for who asks.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        *,
        fleet: Fleet,
        bus: Bus,
        clock: Clock,
        luck: random.Random,
        pages: Mapping[str, Page] | None = None,
        told: Mapping[str, Told] | None = None,
        keys: KeySource | None = None,
        crew: Crew | None = None,
        log: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self.settings, self.fleet, self.rates = settings, fleet, ArrivalRates()
        self.capacity = CapacityDesk(settings.capacity, fleet=fleet, rates=self.rates, clock=clock)
        self._bus, self._clock, self._pages = bus, clock, dict(pages or {})
        self._crew = crew or Crew.alone()
        asked_for, fixed = self._crew.table.keys_asked_for, settings.api_key_digests
        self._keys = KeyRing(keys or NoKeys(), fixed, clock, asked_for=asked_for, log=log)
        self._client = HttpClient()
        token = settings.node_token
        headers: Headers = ((b"authorization", f"Bearer {token}".encode()),) if token else ()
        self._membership = Membership(
            settings, fleet=fleet, bus=bus, client=self._client, clock=clock, node_headers=headers, log=log
        )
        self._metrics = GatewayMetrics()
        self._records = Records(settings.records_max)
        self.lookup = Lookup(self._crew, self._records, self._registry, told or {})
        self._announcer = Announcer(bus, clock, decision_subject(settings.name))
        self._first_seen: dict[str, int] = {}
        self._publishing: set[asyncio.Task[None]] = set()
        self._prober = Prober(
            ProberParts(settings, clock, self._membership, self._metrics, self._client, luck, headers, log)
        )
        self._serve = Serve(
            ServeParts(
                settings=settings,
                clock=clock,
                membership=self._membership,
                attempter=Attempter(self._client, clock, self._membership),
                prober=self._prober,
                metrics=self._metrics,
                records=self._records,
                rates=self.rates,
                retries=RetryBudget(settings.retries_per_request, settings.retries_saved_max),
                router=Router(find_policy(settings.policy)),
                luck=luck,
                node_headers=headers,
                publish=self._publish,
                admission=Admission(self._crew, self._metrics.keys, clock),
            )
        )
        self._server = HttpServer(
            self._handle,
            settings.http,
            error_body=openai.error_body,
            on_crash=lambda error: log(f"a request failed in an unforeseen way: {error!r}"),
            tally=self._crew.table.connections,
        )

    async def start(self, way: Listening = Listening()) -> int:  # noqa: B008 - frozen
        """Listen; returns the port. Raises OSError when it is taken."""
        await self.lookup.siblings.start()
        port = await self._server.start(self.settings.host, self.settings.port, way)
        await self._membership.start()
        return port

    async def stop(self, grace_s: float = 5.0) -> None:
        """Stop listening, finish what is under way within `grace_s`, let go of everything."""
        await self._server.close(grace_s)
        await self.lookup.siblings.stop()
        await asyncio.gather(*self._publishing, return_exceptions=True)
        await self.capacity.stop()
        await self._prober.stop()
        await self._membership.stop()
        await self._client.close()

    # -- answering -----------------------------------------------------------------------------------

    async def _handle(self, exchange: Exchange) -> None:
        if not admit(exchange, self.settings.cors_origins):
            why = "Pages of this origin may not ask; the gateway's --cors-origin says which may."
            return _error(exchange, 403, why, "origin_not_allowed")
        methods = methods_of(exchange.path)
        if exchange.method == "OPTIONS" and methods:
            return exchange.reply(204, b"", headers=preflight_headers(exchange, methods))
        if exchange.path == "/health" and exchange.method in methods:
            return self._health(exchange)
        key = self._key_of(exchange)
        if key is None and self._keys.asked_for and not self._for_network(exchange):
            self._metrics.answered(401)
            return _error(exchange, 401, "The API key is missing or wrong.", "invalid_api_key")
        if not methods:
            return _not_found(exchange)
        if exchange.method not in methods:
            exchange.reply_headers += ((b"allow", ", ".join((*methods, "OPTIONS")).encode()),)
            takes = f"{exchange.path[:128]} takes {', '.join(methods)}."
            return _error(exchange, 405, takes, "method_not_allowed")
        if exchange.method == "POST":
            return await self._serve(exchange, key)
        return await self._read(exchange, exchange.path)

    async def _read(self, exchange: Exchange, path: str) -> None:
        if path == openai.MODELS_PATH:
            exchange.reply(200, openai.models_body(self._seen_models().items()))
        elif path.startswith(openai.MODELS_PATH + "/"):
            self._one_model(exchange, unquote(path.removeprefix(openai.MODELS_PATH + "/")))
        elif path == "/metrics":
            exchange.reply(200, await self.lookup.exposition(), _TEXT)
        elif path == OPENAPI_PATH:
            exchange.reply(200, openapi_body())
        elif path.startswith(DECISIONS_PATH):
            await self._decision(exchange, path.removeprefix(DECISIONS_PATH))
        elif path == DECISIONS_PATH.rstrip("/"):
            exchange.reply(200, await self.lookup.newest())
        elif path in self._pages:
            page = self._pages[path]()
            exchange.reply(200, page if isinstance(page, bytes) else await page)
        else:
            _not_found(exchange)

    def _key_of(self, exchange: Exchange) -> Key | None:
        """The key that the client shows, None when that is none of ours."""
        shown = exchange.header(b"authorization")
        return self._keys.find(bearer_token(shown)) if shown is not None else None

    def _for_network(self, exchange: Exchange) -> bool:
        """Whether it shows the network's own token: that opens what is to be read, and no model."""
        token, shown = self.settings.node_token, bearer_token(exchange.header(b"authorization"))
        reads = exchange.method in ("GET", "HEAD")
        return bool(token) and reads and compare_digest(shown.encode(), token.encode())

    def _health(self, exchange: Exchange) -> None:
        known = sum(1 for _ in self.fleet.beliefs())
        exchange.reply(200, msgspec.json.encode({"status": "ok", "nodes": known, "bus": self.fleet.bus_up}))

    def _seen_models(self) -> dict[str, int]:
        now = self._clock.unix_ms() // 1000
        self._first_seen = {name: self._first_seen.get(name, now) for name in self.fleet.models()}
        return self._first_seen

    def _one_model(self, exchange: Exchange, name: str) -> None:
        created = self._seen_models().get(name)
        if created is None:
            return _error(exchange, 404, f"The model '{name[:128]}' does not exist here.", "model_not_found")
        fields = {"id": name, "object": "model", "created": created, "owned_by": "isochrone"}
        return exchange.reply(200, msgspec.json.encode(fields))

    async def _decision(self, exchange: Exchange, request_id: str) -> None:
        found = await self.lookup.decision(request_id)
        if found is None:
            why = f"No decision {request_id[:64]!r} is kept; the last {self.settings.records_max} are."
            if request_id == LAST:
                why = "No request has ended yet: there is no last decision."
            return _error(exchange, 404, why, "decision_not_found")
        return exchange.reply(200, found)

    def _registry(self) -> CollectorRegistry:
        return self._metrics.registry_of(self._membership, self.rates, self._clock.now_s())

    def _publish(self, record: Record) -> None:
        if (work := self._announcer.announce(record)) is not None:
            task = asyncio.create_task(work)
            self._publishing.add(task)
            task.add_done_callback(self._publishing.discard)


def _error(exchange: Exchange, status: int, message: str, code: str) -> None:
    exchange.reply(status, openai.error_body(status, message, code=code))


def _not_found(exchange: Exchange) -> None:
    _error(exchange, 404, f"There is nothing at {exchange.method} {exchange.path[:128]}.", "not_found")
