"""Comparing two policies that met the same requests.

Percentiles are order statistics: the p99 is the smallest value that at least 99% of the values do not exceed,
so that it is always a value that occurred. All resampling draws from a generator made of the seed given, so a
report says the same thing twice.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

Floats = NDArray[np.float64]
RESAMPLES = 10_000
BLOCK_RESAMPLES = 1_000
SEEDS_ENOUGH = 10
_LEVEL = 0.95
_QUARTERS, _TENTHS = 4, 10


@dataclass(frozen=True, slots=True)
class Interval:
    """How many times a policy's metric is that of the reference, and how sure that is.

    Attributes:
        ratio: geometric mean over seeds; under 1 is better than the reference where less is better.
        low: of the 95% interval, NaN when there is no telling.
        high: likewise.
        seeds: pairs of runs that it rests on.
        method: `seeds`, or `blocks` for one seed, which knows nothing of the luck between seeds.
    """

    ratio: float
    low: float
    high: float
    seeds: int
    method: str

    @property
    def decided(self) -> bool:
        """Whether the interval excludes 1."""
        return self.high < 1.0 or self.low > 1.0

    @property
    def few(self) -> bool:
        """Whether it rests on fewer seeds than a claim should."""
        return self.seeds < SEEDS_ENOUGH


@dataclass(frozen=True, slots=True)
class Loss:
    """Requests of one sort on which a policy did worse.

    Attributes:
        dimension: by what they were sorted.
        value: which sort.
        requests: how many that both policies answered.
        mean_ms: by how much it was later, on average.
        total_ms: by how much in all.
    """

    dimension: str
    value: str
    requests: int
    mean_ms: float
    total_ms: float


@dataclass(frozen=True, slots=True)
class Outcomes:
    """The same requests under two policies, row by row.

    Attributes:
        ours_ms: what each took under the policy in question, NaN where it was not answered.
        theirs_ms: under the other.
        at_s: arrivals.
        prompt_tokens: lengths of prompts.
        rtt_ms: round trip to the node that the policy in question chose, NaN for none.
        load_ms: how long it waited there for its model.
        labels: further sorts: by what, and the sort of each request as text.
    """

    ours_ms: Floats
    theirs_ms: Floats
    at_s: Floats
    prompt_tokens: Floats
    rtt_ms: Floats
    load_ms: Floats
    labels: Mapping[str, Sequence[str]]


def mean(values: Floats) -> float:
    """Arithmetic mean without what is NaN; NaN of nothing."""
    kept = values[~np.isnan(values)]
    return float(np.mean(kept)) if len(kept) else math.nan


def quantile(values: Floats, share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed, NaNs aside; NaN of nothing."""
    kept = values[~np.isnan(values)]
    return float(np.quantile(kept, share, method="inverted_cdf")) if len(kept) else math.nan


METRICS: Mapping[str, Callable[[Floats], float]] = {
    "mean": mean,
    "p50": lambda values: quantile(values, 0.5),
    "p95": lambda values: quantile(values, 0.95),
    "p99": lambda values: quantile(values, 0.99),
}
"""What can be compared, by name."""


def compare(ours: Sequence[Floats], theirs: Sequence[Floats], metric: str, seed: int = 0) -> Interval:
    """Compare two policies: one array for each seed, paired by seed and within a seed by request.

    A request that one of the two did not answer counts for neither: compare refusals beside this. With one
    seed the interval comes from blocks of requests, with more from the seeds.

    Raises:
        ValueError: the runs do not pair up.
    """
    pairs = [_both(a, b) for a, b in zip(ours, theirs, strict=True)]
    pairs = [(a, b) for a, b in pairs if len(a)]
    if not pairs:
        return Interval(math.nan, math.nan, math.nan, 0, "seeds")
    if len(pairs) == 1:
        return block_ratio(*pairs[0], metric, seed)
    measure = METRICS[metric]
    return seed_ratio([measure(a) for a, _ in pairs], [measure(b) for _, b in pairs], seed)


def seed_ratio(ours: Sequence[float], theirs: Sequence[float], seed: int = 0) -> Interval:
    """The mean log-ratio of a metric over seeds, with a percentile bootstrap over seeds.

    A percentile interval of few values is too narrow. It is widened to the size of Student's: its tails are
    Phi(-t * sqrt(n / (n - 1))), after T. Hesterberg, "What Teachers Should Know About the Bootstrap", 2015.
    It cannot reach beyond the extremes of the seeds, so with fewer than five it still says too much.

    Raises:
        ValueError: the two differ in length.
    """
    pairs = zip(ours, theirs, strict=True)
    logs = np.array([math.log(a / b) for a, b in pairs if a > 0 and b > 0 and math.isfinite(a / b)])
    if not len(logs):
        return Interval(math.nan, math.nan, math.nan, 0, "seeds")
    ratio = math.exp(float(np.mean(logs)))
    if len(logs) == 1:
        return Interval(ratio, math.nan, math.nan, 1, "seeds")
    luck = np.random.default_rng(seed)
    means = np.mean(logs[luck.integers(len(logs), size=(RESAMPLES, len(logs)))], axis=1)
    low, high = np.quantile(means, _tails(len(logs)))
    return Interval(ratio, math.exp(float(low)), math.exp(float(high)), len(logs), "seeds")


def block_ratio(ours: Floats, theirs: Floats, metric: str, seed: int = 0) -> Interval:
    """A ratio within one seed, requests in order of arrival, with moving blocks of them resampled.

    Neighbours share their queues, so requests are drawn in blocks, of n^(1/2) requests here: longer than the
    n^(1/3) that is best for short memory (H. Künsch, Annals of Statistics 17, 1989), since queues remember.

    Raises:
        ValueError: the two differ in length.
    """
    ours, theirs = _both(ours, theirs)
    measure, rows = METRICS[metric], len(ours)
    base = measure(theirs)
    if not rows or not base > 0:
        return Interval(math.nan, math.nan, math.nan, 0, "blocks")
    ratio, block = measure(ours) / base, max(1, math.isqrt(rows))
    starts_max, blocks = rows - block + 1, -(-rows // block)
    if starts_max < 2 or blocks < 2:
        return Interval(ratio, math.nan, math.nan, 1, "blocks")
    luck = np.random.default_rng(seed)
    if metric == "mean":
        starts = luck.integers(starts_max, size=(RESAMPLES, blocks))
        drawn = _block_sums(ours, block)[starts].sum(axis=1) / _block_sums(theirs, block)[starts].sum(axis=1)
    else:
        drawn = np.empty(BLOCK_RESAMPLES)
        for draw in range(BLOCK_RESAMPLES):
            starts = luck.integers(starts_max, size=blocks)
            picked = (starts[:, None] + np.arange(block)).ravel()
            below = measure(theirs[picked])
            drawn[draw] = measure(ours[picked]) / below if below > 0 else math.nan
    low, high = np.nanquantile(drawn, ((1 - _LEVEL) / 2, (1 + _LEVEL) / 2))
    return Interval(ratio, float(low), float(high), 1, "blocks")


def rank_agreement(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Kendall's tau-b of two rankings: 1 for the same order, -1 for the reverse; NaN where one has no order.

    M. G. Kendall, "The treatment of ties in ranking problems", Biometrika 33, 1945.

    Raises:
        ValueError: the two differ in length.
    """
    a, b = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"rankings differ in length: {len(a)} and {len(b)}")
    signs_a, signs_b = np.sign(a[:, None] - a), np.sign(b[:, None] - b)
    whole = math.sqrt(float(np.sum(signs_a**2)) * float(np.sum(signs_b**2)))
    return float(np.sum(signs_a * signs_b)) / whole if whole else math.nan


def where_it_loses(outcomes: Outcomes, *, requests_min: int = 20, most: int = 10) -> list[Loss]:
    """The sorts of requests on which a policy lost most time to the other, worst first.

    Sorts overlap: a request is of a region and of a model, so totals must not be added up. Hindsight found
    them: a loss on few requests may be luck.
    """
    late_ms = outcomes.ours_ms - outcomes.theirs_ms
    both = ~np.isnan(late_ms)
    losses = []
    for dimension, value, which in _slices(outcomes):
        rows = which & both
        requests, total_ms = int(np.sum(rows)), float(np.sum(late_ms[rows]))
        if requests >= requests_min and total_ms > 0:
            losses.append(Loss(dimension, value, requests, total_ms / requests, total_ms))
    losses.sort(key=lambda loss: (-loss.total_ms, loss.dimension, loss.value))
    return losses[:most]


def _slices(outcomes: Outcomes) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    for dimension, labels in outcomes.labels.items():
        texts, code = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
        for index, text in enumerate(texts.tolist()):
            yield dimension, text, code == index
    yield from _quantile_slices("prompt tokens", outcomes.prompt_tokens, _QUARTERS, "{:.0f}-{:.0f}")
    yield from _quantile_slices("arrival", outcomes.at_s, _TENTHS, "{:.0f}-{:.0f} s")
    yield from _quantile_slices("round trip to its node", outcomes.rtt_ms, _QUARTERS, "{:.1f}-{:.1f} ms")
    yield "model there", "loading", outcomes.load_ms > 0
    yield "model there", "ready", ~(outcomes.load_ms > 0)


def _quantile_slices(
    dimension: str, values: Floats, parts: int, words: str
) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    """Parts of about equal size; values that are equal stay together."""
    if not np.any(~np.isnan(values)):
        return
    edges = np.unique([quantile(values, part / parts) for part in range(1, parts + 1)])
    part_of = np.searchsorted(edges, values, side="left")
    for part in range(len(edges)):
        which = (part_of == part) & ~np.isnan(values)
        if np.any(which):
            least, most = float(np.min(values[which])), float(np.max(values[which]))
            yield dimension, words.format(least, most), which


def _both(ours: Floats, theirs: Floats) -> tuple[Floats, Floats]:
    if len(ours) != len(theirs):
        raise ValueError(f"runs that should pair have {len(ours)} and {len(theirs)} requests")
    kept = ~(np.isnan(ours) | np.isnan(theirs))
    return ours[kept].astype(np.float64), theirs[kept].astype(np.float64)


def _tails(number: int) -> tuple[float, float]:
    t = float(stdtrit(number - 1, (1 + _LEVEL) / 2))
    tail = float(ndtr(-t * math.sqrt(number / (number - 1))))
    return tail, 1.0 - tail


def _block_sums(values: Floats, block: int) -> Floats:
    """Sum of each run of `block` values."""
    sums = np.concatenate(([0.0], np.cumsum(values)))
    return np.asarray(sums[block:] - sums[:-block], dtype=np.float64)
