"""Pictures of runs, as PNG bytes: few, large, and readable by the colour-blind and in grey.

The reference policy and its best rival are drawn in colour and named; the others are thin and grey, with the
name at the end of the line as far as there is room.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from isochrone.sim.results.comparison import Course
from isochrone.sim.results.statistics import Interval, mean, quantile

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

# Okabe and Ito's palette, "Color Universal Design", 2008.
_OURS, _RIVAL, _GOOD, _BAD, _GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8c8c8c"
_POINTS_MAX = 400
_LABELS_MAX = 12


@dataclass(frozen=True, slots=True)
class Highlight:
    """Which policies matter: the reference, and the best of the others or empty."""

    ours: str
    rival: str = ""

    def colour(self, policy: str) -> str:
        """Of a policy's line."""
        return {self.ours: _OURS, self.rival: _RIVAL}.get(policy, _GREY)

    def width(self, policy: str) -> float:
        """Of a policy's line."""
        return 2.4 if policy in {self.ours, self.rival} else 0.9

    def order(self, policy: str) -> int:
        """What is drawn on top."""
        return 3 if policy == self.ours else 2 if policy == self.rival else 1


def ttft_tails(ttft_ms: Mapping[str, Floats], highlight: Highlight) -> bytes:
    """Share of answers that took longer to the first token, by policy; both axes logarithmic."""
    figure, axes = _figure(7.2, 4.6)
    ends: list[tuple[float, float, str]] = []
    for policy, values in ttft_ms.items():
        kept = np.sort(values[values > 0]) / 1e3
        if not len(kept):
            continue
        # Points are dense in the tail, which is what the picture is for.
        shares = np.geomspace(1.0, 1.0 / len(kept), _POINTS_MAX)
        ranks = np.clip(np.round(len(kept) * (1 - shares)).astype(np.int64), 0, len(kept) - 1)
        _line(axes, (kept[ranks], shares), policy, highlight)
        ends.append((float(kept[-1]), 1.0 / len(kept), policy))
    axes.set(xscale="log", yscale="log", xlabel="time to first token, s", ylabel="share that took longer")
    _round_ticks(axes.xaxis, (1.0, 2.0, 5.0))
    others = [end for end in ends if highlight.order(end[2]) == 1]
    _legend(axes, highlight, others if len(others) < 2 else [max(others)], len(others))
    return _png(figure)


def metric_over(
    keys: Sequence[str], metric: Mapping[str, Sequence[float]], highlight: Highlight, words: tuple[str, str]
) -> bytes:
    """A metric over the swept values, a line for each policy; `words` name the axes."""
    figure, axes = _figure(7.2, 4.6)
    places = np.arange(len(keys), dtype=np.float64)
    ends: list[tuple[float, float, str]] = []
    for policy, values in metric.items():
        heights = np.array(values, dtype=np.float64)
        _line(axes, (places, heights), policy, highlight, marker="o")
        if np.any(np.isfinite(heights)):
            ends.append((places[-1], float(heights[np.isfinite(heights)][-1]), policy))
    axes.set_xticks(places, [_plain(key) for key in keys], rotation=30 if len(keys) > 6 else 0)
    axes.set(xlabel=_plain(words[0]), ylabel=_plain(words[1]), yscale="log")
    _round_ticks(axes.yaxis, (1.0, 1.5, 2.0, 3.0, 5.0, 7.0))
    _legend(axes, highlight, ends)
    return _png(figure)


def ratio_over(
    keys: Sequence[str], ratios: Mapping[str, Sequence[Interval]], highlight: Highlight, what: str
) -> bytes:
    """Each policy's metric in units of the reference's, with intervals, over the swept values."""
    figure, axes = _figure(7.2, 4.6)
    places = np.arange(len(keys), dtype=np.float64)
    ends: list[tuple[float, float, str]] = []
    for index, (policy, intervals) in enumerate(ratios.items()):
        at = places + (index - len(ratios) / 2) * 0.16 / max(1, len(ratios))
        heights = np.array([interval.ratio for interval in intervals])
        low = np.array([interval.low for interval in intervals])
        high = np.array([interval.high for interval in intervals])
        _line(axes, (at, heights), policy, highlight, marker="o")
        known = np.isfinite(low) & np.isfinite(high)
        axes.vlines(at[known], low[known], high[known], color=highlight.colour(policy), linewidth=1)
        if np.any(np.isfinite(heights)):
            ends.append((float(at[-1]), float(heights[np.isfinite(heights)][-1]), policy))
    axes.axhline(1.0, color=_OURS, linewidth=1.2, linestyle="--")
    axes.set_xticks(places, [_plain(key) for key in keys], rotation=30 if len(keys) > 6 else 0)
    axes.set(ylabel=f"{what}, times that of {_plain(highlight.ours)}", yscale="log")
    _round_ticks(axes.yaxis, (1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 7.0))
    _legend(axes, highlight, ends)
    return _png(figure)


def timeline(courses: Mapping[str, Course], highlight: Highlight, bin_s: float) -> bytes:
    """p99 of TTFT, good answers and requests not answered in bins of arrival; of the highlighted policies."""
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415 - slow to import

    figure, panels = _panels(7.2, 6.4, 3)
    for policy in (name for name in (highlight.rival, highlight.ours) if name in courses):
        course = courses[policy]
        if not len(course.at_s):
            continue
        start_s = float(np.min(course.at_s))
        last = max(0, round((float(np.max(course.at_s)) - start_s) / bin_s) - 1)
        bins = np.minimum(((course.at_s - start_s) / bin_s).astype(np.int64), last)
        middles_s: Floats = start_s + (np.arange(int(bins.max()) + 1, dtype=np.float64) + 0.5) * bin_s
        rows = [np.flatnonzero(bins == number) for number in range(len(middles_s))]
        tails_s = np.array([quantile(course.ttft_ms[part], 0.99) / 1e3 for part in rows])
        good_per_s = np.array([np.sum(course.good[part]) / bin_s for part in rows], dtype=np.float64)
        lost = np.array([100 * mean(np.isnan(course.ttft_ms[part]).astype(np.float64)) for part in rows])
        for axes, heights in zip(panels, (tails_s, good_per_s, lost), strict=True):
            _line(axes, (middles_s, heights), policy, highlight)
    for axes, words in zip(panels, ("TTFT p99, s", "good answers/s", "not answered, %"), strict=True):
        axes.set_ylabel(words)
        axes.yaxis.set_major_locator(MaxNLocator(5))
    panels[0].set_yscale("log")
    _round_ticks(panels[0].yaxis, (1.0, 2.0, 5.0))
    panels[1].set_ylim(bottom=0)
    panels[2].set_ylim(bottom=0)
    panels[2].set_xlabel("arrival, s")
    _legend(panels[0], highlight, [])
    return _png(figure)


def node_shares(requests: Mapping[str, Floats], highlight: Highlight) -> bytes:
    """Lorenz curves: what share of the requests the busiest share of the nodes got."""
    figure, axes = _figure(7.2, 4.6)
    for policy, counts in requests.items():
        if not np.sum(counts):
            continue
        shares = np.concatenate(([0.0], np.cumsum(np.sort(counts)[::-1]) / np.sum(counts)))
        nodes = np.linspace(0.0, 1.0, len(shares))
        _line(axes, (nodes * 100, shares * 100), policy, highlight)
    axes.plot([0, 100], [0, 100], color=_GREY, linewidth=1, linestyle=":")
    axes.set(xlabel="nodes, busiest first, %", ylabel="of all requests, %", xlim=(0, 100), ylim=(0, 101))
    _legend(axes, highlight, [], sum(1 for policy in requests if highlight.order(policy) == 1))
    return _png(figure)


def savings(ratios: Mapping[str, Interval], highlight: Highlight, what: str) -> bytes:
    """How much less the reference takes than each other policy, in percent of the other's, with intervals."""
    figure, axes = _figure(7.2, 1.2 + 0.3 * max(3, len(ratios)))
    shown = sorted(
        ((policy, ratio) for policy, ratio in ratios.items() if ratio.ratio > 0),
        key=lambda item: item[1].ratio,
    )
    for place, (_, ratio) in enumerate(shown):
        saved = (1 - 1 / ratio.ratio) * 100
        undecided = _GREY if not ratio.decided else _GOOD if saved > 0 else _BAD
        axes.barh(place, saved, color=undecided, height=0.7, hatch="" if ratio.decided else "//")
        if np.isfinite(ratio.low) and np.isfinite(ratio.high) and ratio.low > 0:
            axes.hlines(
                place, (1 - 1 / ratio.low) * 100, (1 - 1 / ratio.high) * 100, color="black", linewidth=1.4
            )
        side = "left" if saved >= 0 else "right"
        axes.annotate(
            f"{saved:+.0f}%", (saved, place), xytext=(4 if saved >= 0 else -4, 5), fontsize=7, ha=side,
            textcoords="offset points",
        )  # fmt: skip
    axes.set_yticks(range(len(shown)), [_plain(policy) for policy, _ in shown])
    axes.axvline(0, color="black", linewidth=1)
    axes.set(xlabel=f"{what} that {_plain(highlight.ours)} saves against it, % (hatched: not decided)")
    axes.margins(x=0.12)
    return _png(figure)


def _figure(width_in: float, height_in: float) -> "tuple[Figure, Axes]":
    figure, panels = _panels(width_in, height_in, 1)
    return figure, panels[0]


def _panels(width_in: float, height_in: float, rows: int) -> "tuple[Figure, list[Axes]]":
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - slow to import
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    panels = [axes for row in figure.subplots(rows, 1, sharex=True, squeeze=False) for axes in row]
    for axes in panels:
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels


def _line(
    axes: "Axes", points: tuple[Floats, Floats], policy: str, highlight: Highlight, *, marker: str = ""
) -> None:
    axes.plot(
        *points, marker=marker, markersize=4, color=highlight.colour(policy), zorder=highlight.order(policy),
        linewidth=highlight.width(policy), linestyle="--" if policy == highlight.rival else "-",
    )  # fmt: skip


def _round_ticks(axis: "Axis", digits: tuple[float, ...]) -> None:
    """Ticks of a logarithmic axis at these times powers of ten, written as plain numbers."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator  # noqa: PLC0415 - slow to import

    axis.set_major_locator(LogLocator(subs=digits, numticks=12))
    axis.set_major_formatter(FormatStrFormatter("%g"))
    axis.set_minor_locator(NullLocator())


def _legend(
    axes: "Axes", highlight: Highlight, ends: Sequence[tuple[float, float, str]], number: int | None = None
) -> None:
    """A legend of the highlighted and the number of others; names at `ends` of grey lines as room allows."""
    from matplotlib.lines import Line2D  # noqa: PLC0415 - slow to import

    handles = [
        Line2D([], [], color=highlight.colour(name), linewidth=2.4, label=_plain(name),
               linestyle="--" if name == highlight.rival else "-")
        for name in (highlight.ours, highlight.rival)
        if name
    ]  # fmt: skip
    others = [end for end in ends if highlight.order(end[2]) == 1]
    number = len(others) if number is None else number
    if number:
        label = f"{number} other{'s' if number > 1 else ''}"
        handles.append(Line2D([], [], color=_GREY, linewidth=0.9, label=label))
    axes.legend(handles=handles, frameon=False, fontsize=8)
    step = max(1, -(-len(others) // _LABELS_MAX))
    for x, y, policy in sorted(others, key=lambda end: end[:2])[::step]:
        axes.annotate(
            _plain(policy), (x, y), xytext=(3, 0), textcoords="offset points", fontsize=6.5, color="#5c5c5c",
            va="center", annotation_clip=False,
        )  # fmt: skip


def _plain(text: str, longest: int = 28) -> str:
    """A name that matplotlib can write, won't take for mathematics, and that stays in the picture."""
    known = "".join(letter if letter.isprintable() and letter < "\u0250" else "?" for letter in text)
    short = known if len(known) <= longest else known[: longest - 1] + "…"
    return short.replace("\\", "/").replace("$", r"\$")


def _png(figure: "Figure") -> bytes:
    drawn = BytesIO()
    figure.savefig(drawn, format="png", dpi=120, metadata={"Software": None})
    return drawn.getvalue()
