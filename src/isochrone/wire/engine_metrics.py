"""An engine's Prometheus page read for the three numbers that we need: running, waiting, KV cache in use.

Each engine calls them by names of its own, some by two names in the course of its versions. The page comes
from a program that we did not write, so whatever can't be read on a line is passed over, never an error.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

_COUNT_MAX = 1e9

_RUNNING = (
    "vllm:num_requests_running",
    "sglang:num_running_reqs",
    "sglang_num_running_reqs",
    "llamacpp:requests_processing",
    "tgi_batch_current_size",
)
_QUEUED = (
    "vllm:num_requests_waiting",
    "sglang:num_queue_reqs",
    "sglang_num_queue_reqs",
    "llamacpp:requests_deferred",
    "tgi_queue_size",
)
_KV_USED = (
    "vllm:kv_cache_usage_perc",  # a fraction all the same
    "vllm:gpu_cache_usage_perc",  # its name until vLLM 0.10
    "sglang:token_usage",
    "sglang_token_usage",
    "llamacpp:kv_cache_usage_ratio",  # gone from llama.cpp since 2025
)
_KNOWN = frozenset((*_RUNNING, *_QUEUED, *_KV_USED))


@dataclass(frozen=True, slots=True)
class EngineGauges:
    """What a page says, None where it does not say.

    Attributes:
        running: requests in work, all engines behind the page together.
        queued: requests that wait, likewise.
        kv_used: fraction of KV-cache memory in use, 0 to 1, the mean of the engines behind the page.
    """

    running: int | None = None
    queued: int | None = None
    kv_used: float | None = None


def parse(text: str) -> EngineGauges:
    """The gauges on a page in the Prometheus text format; knows vLLM, SGLang, llama.cpp and TGI.

    Series of one name (one for each data-parallel engine or rank) count together. Where a page bears two
    names of one gauge, the newer name counts.
    """
    seen: dict[str, list[float]] = {}
    for name, value in _samples(text):
        seen.setdefault(name, []).append(value)
    kv_used = _first(seen, _KV_USED)
    return EngineGauges(
        running=_total(_first(seen, _RUNNING)),
        queued=_total(_first(seen, _QUEUED)),
        kv_used=min(1.0, sum(kv_used) / len(kv_used)) if kv_used else None,
    )


def _samples(text: str) -> Iterator[tuple[str, float]]:
    """Each `(name, value)` of a name we know; lines that make no sense are left out."""
    for line in text.splitlines():
        brace = line.find("{")
        if brace >= 0:
            name, labels_end = line[:brace].strip(), line.rfind("}")
            rest = line[labels_end + 1 :].split() if labels_end > brace else []
        else:
            name, *rest = line.split() or [""]
        if name not in _KNOWN or len(rest) not in {1, 2}:  # the value, and maybe a timestamp
            continue
        try:
            value = float(rest[0])
        except ValueError:
            continue
        if math.isfinite(value) and 0 <= value <= _COUNT_MAX:
            yield name, value


def _first(seen: dict[str, list[float]], names: tuple[str, ...]) -> list[float]:
    """The values under the first of `names` that the page bears, or none."""
    return next((seen[name] for name in names if name in seen), [])


def _total(values: list[float]) -> int | None:
    return round(sum(values)) if values else None
