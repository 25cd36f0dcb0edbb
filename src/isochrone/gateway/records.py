"""The last decisions and what became of them: for `explain`, and as one event each for whoever listens."""

from collections import OrderedDict
from dataclasses import replace

from isochrone.model import Outcome
from isochrone.wire.explain import Record

LAST = "last"
"""Stands for the id of the newest record that has ended."""


class Records:
    """A bounded memory of records by id, oldest dropped first."""

    def __init__(self, records_max: int) -> None:
        self._records_max = records_max
        self._records: OrderedDict[str, Record] = OrderedDict()
        self._last_ended = ""

    def begin(self, record: Record) -> None:
        """Keep a new record."""
        self._records[record.decision.request_id] = record
        while len(self._records) > self._records_max:
            self._records.popitem(last=False)

    def add(self, outcome: Outcome) -> None:
        """Add the outcome of one attempt to its record, if that is still kept."""
        record = self._records.get(outcome.request_id)
        if record is not None:
            self._records[outcome.request_id] = replace(record, outcomes=(*record.outcomes, outcome))

    def end(self, request_id: str) -> Record | None:
        """The request has ended; returns its whole record, if it is still kept."""
        record = self._records.get(request_id)
        if record is not None:
            self._last_ended = request_id
        return record

    def find(self, request_id: str) -> Record | None:
        """The record of `request_id` (or of the last that ended, by `LAST`), or None."""
        return self._records.get(self._last_ended if request_id == LAST else request_id)

    def newest(self, count: int) -> list[Record]:
        """The newest `count` records, newest first."""
        return [record for record, _ in zip(reversed(self._records.values()), range(count), strict=False)]
