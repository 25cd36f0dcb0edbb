"""Columns made from a list of node views: for views made by hand, and to check the fleet's against."""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

from isochrone.model.columns import Bools, Floats, Hashes, Indices

if TYPE_CHECKING:
    from isochrone.model.fleet import ModelView, NodeView


def name_hash(name: str) -> int:
    """64 well-mixed bits of a name (BLAKE2b)."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big")


class ListedColumns:
    """See `Columns`; each array is made when first asked for."""

    def __init__(self, model: str, nodes: "Sequence[NodeView]") -> None:
        self._model, self._nodes = model, nodes

    def _of(self, read: "Callable[[NodeView], float]") -> Floats:
        return np.array([read(node) for node in self._nodes], dtype=np.float64)

    def _of_model(self, read: "Callable[[ModelView], float]") -> Floats:
        return self._of(lambda node: read(node.models[self._model]))

    @property
    def available(self) -> Bools:
        return np.array([node.unavailable is None for node in self._nodes], dtype=np.bool_)

    @property
    def name_hash(self) -> Hashes:
        return np.array([name_hash(node.node) for node in self._nodes], dtype=np.uint64)

    @property
    def region(self) -> Indices:
        return np.zeros(len(self._nodes), dtype=np.intp)

    @property
    def rtt_ms(self) -> Floats:
        return self._of(lambda node: node.rtt_ms)

    @property
    def age_s(self) -> Floats:
        return self._of(lambda node: node.age_s)

    @property
    def slots(self) -> Floats:
        return self._of(lambda node: node.slots)

    @property
    def running(self) -> Floats:
        return self._of(lambda node: node.running)

    @property
    def queued(self) -> Floats:
        return self._of(lambda node: node.queued)

    @property
    def kv_used(self) -> Floats:
        return self._of(lambda node: node.kv_used)

    @property
    def inflow(self) -> Floats:
        return self._of(lambda node: node.inflow)

    @property
    def others_inflow(self) -> Floats:
        return self._of(lambda node: node.others_inflow)

    @property
    def backlog_s(self) -> Floats:
        return self._of(lambda node: node.backlog_s)

    @property
    def reported_prefill_s(self) -> Floats:
        return self._of(lambda node: node.reported_prefill_s)

    @property
    def reported_wait_s(self) -> Floats:
        return self._of(lambda node: node.reported_wait_s)

    @property
    def wait_s(self) -> Floats:
        return self._of(lambda node: node.wait_s)

    @property
    def own_in_flight(self) -> Floats:
        return self._of(lambda node: node.own_in_flight)

    @property
    def own_unseen(self) -> Floats:
        return self._of(lambda node: node.own_unseen)

    @property
    def own_unseen_s(self) -> Floats:
        return self._of(lambda node: node.own_unseen_s)

    @property
    def own_unseen_prefill_s(self) -> Floats:
        return self._of(lambda node: node.own_unseen_prefill_s)

    @property
    def ready_in_s(self) -> Floats:
        return self._of_model(lambda model: model.ready_in_s)

    @property
    def prefill_base_ms(self) -> Floats:
        return self._of_model(lambda model: model.prefill_base_ms)

    @property
    def prefill_ms_per_token(self) -> Floats:
        return self._of_model(lambda model: model.prefill_ms_per_token)

    @property
    def tpot_ms(self) -> Floats:
        return self._of_model(lambda model: model.tpot_ms)

    @property
    def bias_ms(self) -> Floats:
        return self._of_model(lambda model: model.bias_ms)

    @property
    def error_ms(self) -> Floats:
        return self._of_model(lambda model: model.error_ms)

    @property
    def ttft_peak_ms(self) -> Floats:
        return self._of_model(lambda model: model.ttft_peak_ms)

    @property
    def response_ms(self) -> Floats:
        return self._of_model(lambda model: model.response_ms)

    @property
    def service_ms(self) -> Floats:
        return self._of_model(lambda model: model.service_ms)
