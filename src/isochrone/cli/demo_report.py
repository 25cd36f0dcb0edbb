"""What the demo found: a table, a verdict, a picture."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any, Literal

from rich.table import Table

from isochrone.cli.demo_client import Sample

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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

    figure = Figure(figsize=(13, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    curves, bars, dots = figure.subplots(1, 3)
    _draw_curves(curves, samples, summaries)
    _draw_shares(bars, summaries)
    _draw_predictions(dots, samples)
    figure.suptitle(
        f"{plan.model}: {plan.requests} requests a policy and round at {plan.rate_per_s}/s, "
        f"{plan.rounds} round{'s' if plan.rounds > 1 else ''}, seed {plan.seed}"
    )
    figure.savefig(path, dpi=110)


def _draw_curves(axes: "Axes", samples: Sequence[Sample], summaries: Sequence[Summary]) -> None:
    for summary in summaries:
        ttfts = sorted(
            s.ttft_ms / 1e3 for s in samples if s.policy == summary.policy and s.ttft_ms is not None
        )
        shares = [(rank + 1) / len(ttfts) for rank in range(len(ttfts))]
        width = 2.8 if summary.policy == _OURS else 1.4
        axes.step(ttfts, shares, where="post", label=summary.policy, linewidth=width)
    axes.set(ylabel="share of requests", ylim=(0, 1.02))
    _log_seconds(axes, "x", "time to first token, s")
    axes.set_title("Time to first token")
    axes.legend(frameon=False, loc="lower right")


def _draw_shares(axes: "Axes", summaries: Sequence[Summary]) -> None:
    policies, left = [s.policy for s in summaries], [0.0] * len(summaries)
    for node in _nodes(summaries):
        shares = [s.shares.get(node, 0.0) for s in summaries]
        axes.barh(policies, shares, left=left, label=node, color=_colour(node, summaries))
        left = [a + b for a, b in zip(left, shares, strict=True)]
    axes.invert_yaxis()
    axes.set(xlabel="share of requests", xlim=(0, 1))
    axes.set_title("Where they went")
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3)


def _draw_predictions(axes: "Axes", samples: Sequence[Sample]) -> None:
    pairs = [
        (s.node, s.dispatch_ttft_ms / 1e3, s.predicted_ttft_ms / 1e3)
        for s in samples
        if s.dispatch_ttft_ms and s.predicted_ttft_ms
    ]
    nodes = sorted({node for node, _, _ in pairs})
    for index, node in enumerate(nodes):
        measured, predicted = zip(*((x, y) for name, x, y in pairs if name == node), strict=True)
        axes.scatter(measured, predicted, s=14, alpha=0.6, label=node, color=f"C{index}")
    axes.axline((1.0, 1.0), slope=1, color="grey", linewidth=1)
    _log_seconds(axes, "x", "measured, s")
    _log_seconds(axes, "y", "predicted, s")
    axes.set_title("Predicted and measured TTFT")
    axes.legend(frameon=False, loc="upper left")


def _nodes(summaries: Sequence[Summary]) -> list[str]:
    return sorted({node for summary in summaries for node in summary.shares})


def _colour(node: str, summaries: Sequence[Summary]) -> str:
    return f"C{_nodes(summaries).index(node)}"


def _log_seconds(axes: "Axes", which: Literal["x", "y"], words: str) -> None:
    """A logarithmic axis with round seconds on it."""
    from matplotlib.ticker import FixedLocator, FormatStrFormatter, NullLocator  # noqa: PLC0415

    axes.set(**{f"{which}scale": "log", f"{which}label": words})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(FixedLocator([0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50]))
    axis.set_major_formatter(FormatStrFormatter("%g"))
    axis.set_minor_locator(NullLocator())
    axes.grid(alpha=0.3)
