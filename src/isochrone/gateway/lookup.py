"""What one worker alone knows, found whichever worker is asked: decisions and metrics."""

from collections.abc import Callable, Mapping

import msgspec
from prometheus_client import CollectorRegistry

from isochrone.gateway.crew import Crew, Siblings
from isochrone.gateway.crew.exposition import exposition_of, merged
from isochrone.gateway.records import LAST, Records
from isochrone.wire.explain import encode_record, record_fields

_NEWEST = 100

Told = Callable[[], bytes]
"""What one worker tells another, made at once."""


class Lookup:
    """Asks the other workers for what this one does not know. Alone, nobody is asked.

    Attributes:
        siblings: the other workers.
    """

    def __init__(
        self,
        crew: Crew,
        records: Records,
        registry: Callable[[], CollectorRegistry],
        told: Mapping[str, Told],
    ) -> None:
        """`told`: what else other workers may ask, by line."""
        self._crew, self._records, self._registry, self._told = crew, records, registry, dict(told)
        self.siblings = Siblings(crew, self._tell)

    async def decision(self, request_id: str) -> bytes | None:
        """The record of `request_id`, or of the last that ended at any worker, as JSON; None if none has."""
        line = f"decision {request_id}"
        worker = self._crew.worker_of(request_id)
        if worker is not None:
            return await self.siblings.ask(worker, line) or None
        found = [self._tell(line)]
        if request_id == LAST:
            found += await self.siblings.ask_all(line)
        return max(filter(None, found), key=_decided, default=None)

    async def newest(self) -> bytes:
        """The newest records of all workers, newest first, as JSON."""
        told = [self._tell("decisions"), *await self.siblings.ask_all("decisions")]
        records = [record for answer in told for record in msgspec.json.decode(answer)]
        newest = sorted(records, key=lambda record: -int(record["decided_unix_ms"]))
        return msgspec.json.encode(newest[:_NEWEST])

    async def exposition(self) -> bytes:
        """The metrics of all workers, as a scraper reads them."""
        own = self._tell("metrics")
        return own if self.siblings.alone else merged([own, *await self.siblings.ask_all("metrics")])

    def _tell(self, line: str) -> bytes:
        """What this worker alone knows; nothing when it does not."""
        what, _, of = line.partition(" ")
        match what:
            case "metrics":
                worker = None if self.siblings.alone else self._crew.worker
                return exposition_of(self._registry(), worker)
            case "decision":
                record = self._records.find(of)
                return b"" if record is None else encode_record(record)
            case "decisions":
                return msgspec.json.encode([record_fields(r) for r in self._records.newest(_NEWEST)])
            case _:
                return self._told.get(line, bytes)()


def _decided(record: bytes) -> int:
    return int(msgspec.json.decode(record)["decided_unix_ms"])
