"""One row for each request, as columns that grow."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from isochrone.model import Estimate, Timings
from isochrone.sim.world.flight import Flight

KINDS = ("answered", "refused", "failed", "timed_out", "lost")
"""How a request can end: with its whole answer; with an error told at once; with one after tries; by its
deadline; or broken off, by the loss of its node after the first token or of its gateway."""

_ROWS_MIN = 4096
_NAN = float("nan")
_FLOATS = (
    "at_s", "queue_ms", "load_ms", "ttft_ms", "total_ms", "rtt_ms", "est_ttft_ms", "est_wait_ms",
    "est_cold_ms", "est_prefill_ms", "est_decode_ms", "est_score_ms", "runner_up_score_ms", "age_s",
)  # fmt: skip
_WHOLES = ("client", "prompt_tokens", "cached_tokens", "output_tokens", "tokens_out")
_SMALL = ("region", "gateway", "model", "kind", "attempts", "slo", "est_slo_met")
_NODES = ("node", "runner_up")
NOTHING = Estimate(_NAN, _NAN, _NAN, _NAN, 0.0, _NAN, 0.0, 0, 0, 0, _NAN)


class Recorder:
    """Rows by request number, in the order of arrival."""

    def __init__(self, regions: Sequence[str], models: Sequence[str], nodes: Sequence[str]) -> None:
        self._names = {"region": list(regions), "model": list(models), "kind": list(KINDS)}
        self._codes = {kind: {name: code for code, name in enumerate(n)} for kind, n in self._names.items()}
        self._nodes = ["", *nodes]
        self._node_codes = {name: code for code, name in enumerate(self._nodes)}
        self._columns: dict[str, NDArray[np.generic]] = {}
        for names, dtype, fill in (
            (_FLOATS, "f8", _NAN), (_WHOLES, "i4", 0), (_SMALL, "i2", -1), (_NODES, "i4", 0),
        ):  # fmt: skip
            for name in names:
                self._columns[name] = np.full(_ROWS_MIN, fill, dtype)
        self.rows = 0
        self.ended = 0
        self.by_kind = dict.fromkeys(KINDS, 0)

    def arrive(self, flight: Flight) -> None:
        """A request came in: its row is `job.id`, and rows come in order."""
        job, row = flight.job, flight.job.id
        while row >= len(self._columns["at_s"]):
            self._columns = {
                name: np.concatenate((column, np.full(len(column), _fill(column), column.dtype)))
                for name, column in self._columns.items()
            }
        self.rows = max(self.rows, row + 1)
        for name, value in (
            ("at_s", job.at_s), ("client", job.client), ("region", self._codes["region"][job.region]),
            ("model", self._codes["model"][job.model]), ("gateway", flight.gateway),
            ("prompt_tokens", job.prompt_tokens), ("output_tokens", job.output_tokens), ("slo", job.slo),
        ):  # fmt: skip
            self._columns[name][row] = value

    def first_token(self, flight: Flight, at_client_s: float) -> None:
        """The client saw its first token."""
        self._columns["ttft_ms"][flight.job.id] = (at_client_s - flight.job.at_s) * 1e3

    def end(self, flight: Flight, kind: str, at_client_s: float, timings: Timings | None = None) -> None:
        """A request ended, once and for all."""
        row, columns = flight.job.id, self._columns
        self.ended += 1
        self.by_kind[kind] += 1
        values: dict[str, float] = {
            "kind": self._codes["kind"][kind],
            "attempts": flight.attempt - flight.balks,
        }
        if timings is not None:
            values |= {
                "total_ms": (at_client_s - flight.job.at_s) * 1e3,
                "queue_ms": timings.queue_ms,
                "load_ms": timings.load_ms,
                "cached_tokens": timings.cached_tokens,
                "tokens_out": timings.output_tokens,
            }
        decision = flight.decision
        if decision is not None and decision.candidates:
            values["est_slo_met"] = decision.slo is not None and decision.slo.met
            chosen = decision.candidates[0]
            estimate = chosen.estimate
            values |= {
                "node": self._node_codes[chosen.node],
                "rtt_ms": flight.rtt_ms,
                "age_s": flight.age_s,
                "est_ttft_ms": estimate.ttft_ms,
                "est_wait_ms": estimate.wait_ms,
                "est_cold_ms": estimate.cold_ms,
                "est_prefill_ms": estimate.prefill_ms,
                "est_decode_ms": estimate.decode_ms,
                "est_score_ms": estimate.score_ms,
            }
            if len(decision.candidates) > 1:
                second = decision.candidates[1]
                values["runner_up"] = self._node_codes[second.node]
                values["runner_up_score_ms"] = second.estimate.score_ms
        for name, value in values.items():
            columns[name][row] = value

    def columns(self, warmup_s: float) -> dict[str, NDArray[np.generic]]:
        """All rows, with names in place of codes, as `results.write_run` takes them."""
        told = {name: column[: self.rows] for name, column in self._columns.items()}
        for name, names in self._names.items():
            told[name] = np.array([*names, ""], dtype=object)[told[name]]
        for name in _NODES:
            told[name] = np.array(self._nodes, dtype=object)[told[name]]
        told["attempts"] = np.maximum(told["attempts"], 0).astype(np.int8)
        told["slo"] = told["slo"].astype(np.int16) > 0
        told["est_slo_met"] = told["est_slo_met"].astype(np.int16) > 0
        told["gateway"] = told["gateway"].astype(np.int16)
        told["request"] = np.arange(self.rows, dtype=np.int64)
        told["counted"] = told["at_s"].astype(np.float64) >= warmup_s
        return told


def _fill(column: NDArray[np.generic]) -> float:
    if column.dtype.kind == "f":
        return _NAN
    return -1 if column.dtype.itemsize == 2 else 0
