"""What the demo found: a table, a verdict, a picture."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

from rich.table import Table

from isochrone.cli.demo_client import Sample

_NEAREST_FACTOR = 2.0
_ERROR_MAX = 0.25
_OURS = "soonest"


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked of the demo."""

    policies: tuple[str, ...]
    requests: int
    rate_per_s: float
    rounds: int
    warmup: int
    seed: int
    model: str


@dataclass(frozen=True, slots=True)
class Summary:
    """One policy's result; times in milliseconds, None when nothing was answered."""

    policy: str
    requests: int
    errors: int
    ttft_ms_mean: float | None
    ttft_ms_p50: float | None
    ttft_ms_p95: float | None
    total_ms_p50: float | None
    total_ms_p95: float | None
    prediction_error_median: float | None
    shares: dict[str, float]


@dataclass(frozen=True, slots=True)
class Promise:
    """Something the docs promise of this demo."""

    words: str
    holds: bool


def summarise(policy: str, samples: Iterable[Sample]) -> Summary:
    """Everything about `policy` in `samples`."""
    ours = [sample for sample in samples if sample.policy == policy]
    ttfts = sorted(s.ttft_ms for s in ours if s.ttft_ms is not None)
    totals = sorted(s.total_ms for s in ours if s.total_ms is not None)
    errors = [
        abs(s.predicted_ttft_ms - s.dispatch_ttft_ms) / s.dispatch_ttft_ms
        for s in ours
        if s.predicted_ttft_ms is not None and s.dispatch_ttft_ms
    ]
    nodes = Counter(s.node for s in ours if s.node)
    return Summary(
        policy=policy,
        requests=len(ours),
        errors=sum(1 for s in ours if s.error),
        ttft_ms_mean=fmean(ttfts) if ttfts else None,
        ttft_ms_p50=_quantile(ttfts, 0.5),
        ttft_ms_p95=_quantile(ttfts, 0.95),
        total_ms_p50=_quantile(totals, 0.5),
        total_ms_p95=_quantile(totals, 0.95),
        prediction_error_median=median(errors) if errors else None,
        shares={node: count / len(ours) for node, count in sorted(nodes.items())},
    )


def _quantile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that at least `share` of the sorted `values` do not exceed."""
    if not values:
        return None
    return values[min(len(values) - 1, max(0, int(share * len(values) + 0.999999) - 1))]


def verdict(summaries: Iterable[Summary]) -> list[Promise]:
    """What the docs promise, and whether it held."""
    means = {s.policy: s.ttft_ms_mean for s in summaries if s.ttft_ms_mean is not None}
    ours = means.pop(_OURS, None)
    if ours is None:
        return []
    promises = [
        Promise(f"soonest has a lower mean TTFT than {name}: {ours:.0f} < {mean:.0f} ms", ours < mean)
        for name, mean in means.items()
    ]
    if "nearest" in means:
        factor = means["nearest"] / ours
        promises.append(
            Promise(f"nearest takes 2 times as long or more: {factor:.1f} times", factor >= _NEAREST_FACTOR)
        )
    error = next(s.prediction_error_median for s in summaries if s.policy == _OURS)
    if error is not None:
        promises.append(
            Promise(f"median error of the predicted TTFT is under 25%: {error:.0%}", error < _ERROR_MAX)
        )
    return promises


def report_fields(plan: Plan, summaries: Iterable[Summary], samples: Iterable[Sample]) -> dict[str, Any]:
    """Plan, summaries and, where given, every sample, as plain values."""
    return {
        "plan": asdict(plan),
        "summaries": [asdict(summary) for summary in summaries],
        "samples": [asdict(sample) for sample in samples],
    }


def report_table(summaries: Iterable[Summary]) -> Table:
    """A line for each policy."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("policy")
    for column in ("TTFT mean", "p50", "p95", "complete p50", "p95", "errors", "predicted TTFT off by"):
        table.add_column(column, justify="right")
    table.add_column("share of each node")
    for s in summaries:
        times = (s.ttft_ms_mean, s.ttft_ms_p50, s.ttft_ms_p95, s.total_ms_p50, s.total_ms_p95)
        table.add_row(
            s.policy,
            *(f"{time / 1e3:.2f} s" if time is not None else "-" for time in times),
            f"{s.errors}/{s.requests}",
            f"{s.prediction_error_median:.0%}" if s.prediction_error_median is not None else "-",
            "  ".join(f"{node} {share:.0%}" for node, share in s.shares.items()),
            style="bold green" if s.policy == _OURS else "",
        )
    return table


def draw(path: Path, samples: Sequence[Sample], summaries: Sequence[Summary], plan: Plan) -> None:
    """A PNG: the distribution of TTFT by policy, the share of each node, predicted against measured."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - slow to import
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(13, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    curves, bars, dots = figure.subplots(1, 3)
    for summary in summaries:
        ttfts = sorted(
            s.ttft_ms / 1e3 for s in samples if s.policy == summary.policy and s.ttft_ms is not None
        )
        shares = [(i + 1) / len(ttfts) for i in range(len(ttfts))]
        wide = 2.6 if summary.policy == _OURS else 1.4
        curves.step(ttfts, shares, where="post", label=summary.policy, linewidth=wide)
    curves.set(xscale="log", xlabel="time to first token, s", ylabel="share of requests", ylim=(0, 1.02))
    curves.set_title("Time to first token")
    curves.legend(frameon=False)
    curves.grid(alpha=0.3)

    left = [0.0] * len(summaries)
    for node in sorted({node for s in summaries for node in s.shares}):
        shares = [s.shares.get(node, 0.0) for s in summaries]
        bars.barh([s.policy for s in summaries], shares, left=left, label=node)
        left = [a + b for a, b in zip(left, shares, strict=True)]
    bars.invert_yaxis()
    bars.set(xlabel="share of requests", xlim=(0, 1))
    bars.set_title("Where they went")
    bars.legend(frameon=False, loc="lower left")

    for node in sorted({s.node for s in samples if s.node}):
        pairs = [
            (s.dispatch_ttft_ms / 1e3, s.predicted_ttft_ms / 1e3)
            for s in samples
            if s.node == node and s.dispatch_ttft_ms and s.predicted_ttft_ms
        ]
        dots.scatter([x for x, _ in pairs], [y for _, y in pairs], s=14, alpha=0.6, label=node)
    low, high = 0.05, 20.0
    dots.plot((low, high), (low, high), color="grey", linewidth=1)
    dots.set(xscale="log", yscale="log", xlabel="measured, s", ylabel="predicted, s")
    dots.set_title("Predicted and measured TTFT")
    dots.legend(frameon=False)
    dots.grid(alpha=0.3)

    figure.suptitle(
        f"{plan.model}: {plan.requests} requests a policy and round at {plan.rate_per_s}/s, "
        f"{plan.rounds} round{'s' if plan.rounds > 1 else ''}, seed {plan.seed}"
    )
    figure.savefig(path, dpi=110)
