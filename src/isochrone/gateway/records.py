"""The last decisions and what became of them: for `explain`, and as one event each for whoever listens."""

from collections import OrderedDict
from itertools import chain, islice

from isochrone.model import Outcome
from isochrone.wire.explain import Record

LAST = "last"
"""Stands for the id of the newest record that has ended."""


class Records:
    """Records by id: all under way, and a bounded number of those that ended, oldest dropped first."""

    def __init__(self, records_max: int) -> None:
        self._records_max = records_max
        self._open: dict[str, Record] = {}
        self._ended: OrderedDict[str, Record] = OrderedDict()

    def begin(self, record: Record) -> None:
        """A request begins; its record is kept until it ends, and a while after."""
        self._open[record.decision.request_id] = record

    def add(self, outcome: Outcome) -> None:
        """Add the outcome of one attempt to its record."""
        record = self._open.get(outcome.request_id)
        if record is not None:
            self._open[outcome.request_id] = Record(
                record.gateway,
                record.decided_unix_ms,
                record.stream,
                record.decision,
                (*record.outcomes, outcome),
            )

    def end(self, request_id: str) -> Record | None:
        """The request has ended; returns its whole record, None when it never began."""
        record = self._open.pop(request_id, None)
        if record is not None:
            self._ended[request_id] = record
            while len(self._ended) > self._records_max:
                self._ended.popitem(last=False)
        return record

    def find(self, request_id: str) -> Record | None:
        """The record of `request_id` (or of the last that ended, by `LAST`), or None."""
        if request_id == LAST:
            return next(reversed(self._ended.values()), None)
        return self._open.get(request_id) or self._ended.get(request_id)

    def newest(self, count: int) -> list[Record]:
        """Up to `count` records, newest first; those under way before those that ended."""
        return list(islice(chain(reversed(self._open.values()), reversed(self._ended.values())), count))
