"""One HTML file that tells what the runs in a folder found, by itself, on any screen or on paper.

Scenario files are other people's text: whatever comes from one is escaped here, and the page forbids itself
to load anything.
"""

import math
import os
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from string import Template

import numpy as np

from isochrone.ports import SettingError
from isochrone.sim.report import pictures
from isochrone.sim.report.album import save_pictures
from isochrone.sim.results import RunMeta, RunSummary, Slo, write_summary_json
from isochrone.sim.results.comparison import (
    B0,
    B3,
    COUNTER_B0_TTFT_MS,
    COUNTER_B2_GOODPUT_PER_S,
    COUNTER_B3_TOTAL_MS,
    Cell,
    PolicyRuns,
    cells,
    varying,
)
from isochrone.sim.results.statistics import SEEDS_ENOUGH, Interval, Loss

REPORT_FILE = "report.html"
_PICTURED_CELLS_MAX = 6
_BINS = 60

_CAVEATS = (
    "Simulated: nodes are a fluid model of an engine, and what it leaves out is not here either.",
    "Times are of answered requests. A policy that refuses the hard ones looks quick: read the share that "
    "was not answered beside the times.",
    "Figures of a policy are means over its seeds of each seed's figure; percentiles are order statistics of "
    "one seed's answers.",
    "Ratios are over requests that both policies answered, paired by seed and request; so they may differ "
    "from the ratio of two figures in the table.",
    "Each interval alone holds with 95%. Among twenty that show nothing one will look decided by luck.",
    "Where a policy loses was found by looking, in the first seed only; sorts overlap.",
)


@dataclass(frozen=True, slots=True)
class ReportWords:
    """What the runs themselves do not know.

    Attributes:
        title: of the page.
        question: what was to be found out.
        command: how to make the runs again.
        slo: what counts as good.
        reference: the policy that others are compared with; empty for `soonest`, or the first.
        timeline: draw what happened when, as for scenarios with faults; it is drawn too when anything was not
            answered.
        caveats: what a reader should know beside the usual.
    """

    title: str
    question: str = ""
    command: str = ""
    slo: Slo = field(default_factory=Slo)
    reference: str = ""
    timeline: bool = False
    caveats: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Line:
    """Of one policy in one cell, what the pictures of a sweep need."""

    mean_s: float
    ratio: Interval


@dataclass(frozen=True, slots=True)
class _Told:
    """One cell as text, and what is left of it when its runs are out of memory."""

    meta: RunMeta
    ours: str
    rival: str
    html: str
    summaries: list[RunSummary]
    lines: dict[str, _Line]


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of figures: its title, a word of explanation, where its figure is, and how to write it."""

    title: str
    why: str
    figure: str
    write: Callable[[float], str]


def _time(value_ms: float) -> str:
    if math.isnan(value_ms):
        return "-"
    return f"{value_ms:.3g} ms" if value_ms < 999.5 else f"{value_ms / 1e3:.3g} s"


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2%}" if 0 < value < 0.1 else f"{value:.1%}"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3g}" if value < 1e3 else f"{value:,.0f}"


_COLUMNS = (
    _Column("TTFT mean", "time to first token as clients saw it", "ttft_ms.mean", _time),
    _Column("p50", "of the time to first token", "ttft_ms.p50", _time),
    _Column("p95", "of the time to first token", "ttft_ms.p95", _time),
    _Column("p99", "of the time to first token", "ttft_ms.p99", _time),
    _Column("complete, mean", "time to the last token", "total_ms.mean", _time),
    _Column("good answers/s", "answers within the SLO", "goodput_per_s", _number),
    _Column("good", "answers within the SLO, of all requests", "slo_share", _percent),
    _Column("not answered", "refused, failed, timed out or lost", "error_share", _percent),
    _Column("cached", "prompt tokens that were cached", "hit_share", _percent),
    _Column("cold", "answers that waited for a load", "cold_share", _percent),
    _Column("messages a request", "pulses, probes, announcements", "messages_per_request", _number),
    _Column("attempts", "per request that was attempted", "retry_amplification", _number),
    _Column("predicted off by", "median error of the predicted TTFT", "prediction_error", _percent),
)

_SLO_COLUMNS = (
    _Column(
        "SLO kept", "answers within the SLO, of the requests that asked for it", "slo_kept_share", _percent
    ),
    _Column("others, mean", "time to first token of those that did not ask", "others_ttft_ms.mean", _time),
    _Column("others, p95", "time to first token of those that did not ask", "others_ttft_ms.p95", _time),
)
"""Told where some requests ask for the SLO."""


def write_report(folder: Path, words: ReportWords) -> Path:
    """Make `report.html`, `pictures/` and `summary.json` of all runs in `folder`; returns the page's path.

    Raises:
        SettingError: there are no runs, or some are damaged or do not belong together.
    """
    told: list[_Told] = []
    for cell in cells(folder, words.slo, words.reference):
        told.append(_tell(cell, words, pictured=len(told) < _PICTURED_CELLS_MAX))
    body = [_opening(words, told)]
    for _, group in groupby(told, key=lambda item: (item.meta.scenario, item.meta.digest)):
        body.append(_scenario(list(group)))
    body.append(_closing(words, told))
    template = Template(files("isochrone.sim.report").joinpath("template.html").read_text("utf-8"))
    page = template.substitute(title=escape(words.title), body="\n".join(body))
    path = folder / REPORT_FILE
    scratch = path.with_name(f".{REPORT_FILE}.{os.getpid()}.part")
    try:
        scratch.write_text(page, "utf-8")
        scratch.replace(path)
        save_pictures(page, folder)
    except OSError as error:
        raise SettingError(f"cannot write {path}: {error}") from error
    finally:
        scratch.unlink(missing_ok=True)
    write_summary_json(folder, (summary for item in told for summary in item.summaries))
    return path


def _opening(words: ReportWords, told: Sequence[_Told]) -> str:
    facts = [("question", words.question)] if words.question else []
    seeds = sorted({summary.meta.seed for item in told for summary in item.summaries})
    facts += [
        ("scenario, with its digest", _listed(f"{t.meta.scenario} ({t.meta.digest})" for t in told)),
        ("seeds", f"{len(seeds)}: {_listed(str(seed) for seed in seeds)}"),
        ("version", _listed(s.meta.version for t in told for s in t.summaries)),
        ("requests counted", f"{sum(s.requests for t in told for s in t.summaries):,} in all runs"),
        ("served well", _slo(words.slo)),
    ]
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts)
    few = ""
    if len(seeds) < SEEDS_ENOUGH:
        few = (
            f'<p class="worse">Only {len(seeds)} seed{"s" if len(seeds) > 1 else ""}: intervals say little '
            f"of the luck between seeds. A claim should rest on {SEEDS_ENOUGH} or more.</p>"
        )
    return f"<h1>{escape(words.title)}</h1><h2>What was asked</h2><dl>{rows}</dl>{few}"


def _scenario(told: Sequence[_Told]) -> str:
    name = escape(told[0].meta.scenario)
    drawn = _sweep(told) if len(told) > 1 else ""
    return f"<h2>{name}</h2>{drawn}" + "".join(item.html for item in told)


def _sweep(told: Sequence[_Told]) -> str:
    keys = varying([item.meta for item in told])
    labels = [", ".join(str(item.meta.cell.get(key)) for key in keys) for item in told]
    best: dict[str, int] = {}
    for item in told:
        best[item.rival] = best.get(item.rival, 0) + 1
    highlight = pictures.Highlight(told[0].ours, max(best, key=lambda name: best[name]))
    policies = [p for p in told[0].lines if all(p in item.lines for item in told)]
    means = {policy: [item.lines[policy].mean_s for item in told] for policy in policies}
    ratios = {p: [item.lines[p].ratio for item in told] for p in policies if p != told[0].ours}
    words = ", ".join(keys), "mean time to first token, s"
    shown = _figure(pictures.metric_over(labels, means, highlight, words), "Mean TTFT over the sweep.")
    if ratios:
        drawn = pictures.ratio_over(labels, ratios, highlight, "mean TTFT")
        shown += _figure(drawn, f"Mean TTFT in units of that of {told[0].ours}, with 95% intervals.")
    return shown


def _tell(cell: Cell, words: ReportWords, *, pictured: bool) -> _Told:
    ratios = {policy: cell.ratio(policy) for policy in cell.runs if policy != cell.ours}
    parts = [f"<h3>{escape(cell.label)}</h3>" if cell.meta.cell else "", _bounds(cell), _table(cell, ratios)]
    if pictured:
        parts.append(_pictures(cell, ratios, words))
    parts.append(_losses(cell))
    same = Interval(1.0, math.nan, math.nan, 0, "seeds")
    return _Told(
        meta=cell.meta,
        ours=cell.ours,
        rival=cell.rival,
        html="".join(parts),
        summaries=[summary for runs in cell.sorted_runs for summary in runs.summaries.values()],
        lines={
            runs.policy: _Line(runs.mean_of("ttft_ms.mean") / 1e3, ratios.get(runs.policy, same))
            for runs in cell.sorted_runs
            if not runs.is_reference
        },
    )


def _bounds(cell: Cell) -> str:
    told = cell.counters
    alone_ms = (
        cell.runs[B0].mean_of("ttft_ms.mean") if B0 in cell.runs else told.get(COUNTER_B0_TTFT_MS, math.nan)
    )
    pooled_ms = (
        cell.runs[B3].mean_of("total_ms.mean") if B3 in cell.runs else told.get(COUNTER_B3_TOTAL_MS, math.nan)
    )
    fluid_per_s = told.get(COUNTER_B2_GOODPUT_PER_S, math.nan)
    parts = []
    if not math.isnan(alone_ms):
        parts.append(f"B0, mean TTFT with each request alone in the world: {_time(alone_ms)}")
    if not math.isnan(fluid_per_s):
        parts.append(f"B2, good answers of a fluid: {_number(fluid_per_s)}/s")
    if not math.isnan(pooled_ms):
        parts.append(f"B3, mean time to the last token of one pool: {_time(pooled_ms)}")
    return f'<p class="soft">Bounds. {"; ".join(parts)}.</p>' if parts else ""


def _table(cell: Cell, ratios: dict[str, Interval]) -> str:
    gaps = {policy: cell.gap(policy) for policy in cell.runs}
    with_gap = any(not math.isnan(gap) for gap in gaps.values())
    tails = any(len(runs.summaries) > 1 for runs in cell.runs.values())
    asked = any(summary.slo_requests for runs in cell.runs.values() for summary in runs.summaries.values())
    columns = _COLUMNS + (_SLO_COLUMNS if asked else ())
    titles = [("policy", "")] + [(column.title, column.why) for column in columns]
    titles.insert(2, (f"mean, times that of {cell.ours}", "with its 95% interval"))
    if tails:
        titles.append((f"p99, times that of {cell.ours}", "with its 95% interval"))
    if with_gap:
        titles.append(("gap", "(x - B0) / (B1 - B0) of mean TTFT: 0 is unreachable, 1 is omniscient"))
    head = "".join(
        f'<th scope="col" title="{escape(why)}"><button type="button">{escape(title)}</button></th>'
        for title, why in titles
    )
    rows = []
    for runs in cell.sorted_runs:
        ours = runs.policy == cell.ours
        cells_ = [_figure_cell(runs, column) for column in columns]
        cells_.insert(1, _ratio_cell(ratios.get(runs.policy)))
        if tails:
            cells_.append(_ratio_cell(None if ours else cell.ratio(runs.policy, "p99")))
        if with_gap:
            cells_.append(_cell(gaps[runs.policy], _number(gaps[runs.policy])))
        kind = "ours" if ours else "reference" if runs.is_reference else "other"
        rows.append(f'<tr class="{kind}"><td>{escape(runs.policy)}</td>{"".join(cells_)}</tr>')
    body = "".join(rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _figure_cell(runs: PolicyRuns, column: _Column) -> str:
    value = runs.mean_of(column.figure)
    return _cell(value, column.write(value))


def _cell(value: float, text: str, kind: str = "") -> str:
    sort = f"{value:.9g}" if math.isfinite(value) else ""
    return f'<td data-sort="{sort}" class="{kind}">{escape(text)}</td>'


def _ratio_cell(ratio: Interval | None) -> str:
    if ratio is None:
        return _cell(1.0, "1")
    if math.isnan(ratio.ratio):
        return _cell(math.nan, "-")
    if math.isnan(ratio.low):
        return _cell(ratio.ratio, f"{ratio.ratio:.3g} (no interval)", "soft")
    span = f"{ratio.ratio:.3g} [{ratio.low:.3g}, {ratio.high:.3g}]"
    if not ratio.decided:
        return _cell(ratio.ratio, f"{span} not decided", "soft")
    kind = "better" if ratio.high < 1 else "worse"
    return _cell(ratio.ratio, f"{span} {'▼' if kind == 'better' else '▲'} {kind}", kind)


def _pictures(cell: Cell, ratios: dict[str, Interval], words: ReportWords) -> str:
    highlight = pictures.Highlight(cell.ours, cell.rival)
    usable = [runs for runs in cell.sorted_runs if not runs.is_reference] or cell.sorted_runs
    tails = {r.policy: np.concatenate(list(r.ttft_ms.values())).astype(np.float64) for r in usable}
    shown = _figure(pictures.ttft_tails(tails, highlight), "Time to first token, all seeds together.")
    others = {policy: ratio for policy, ratio in ratios.items() if not cell.runs[policy].is_reference}
    if others:
        drawn = pictures.savings(others, highlight, "mean TTFT")
        shown += _figure(drawn, f"What {cell.ours} saves against each, with 95% intervals.")
    nodes = int(max(cell.counters.get("nodes", 0), *(len(runs.node_requests) for runs in usable)))
    if nodes > 1:
        shares = {r.policy: _node_counts(r, nodes) for r in usable}
        shown += _figure(pictures.node_shares(shares, highlight), "How requests were spread over nodes.")
    broken = any(runs.mean_of("error_share") > 0 for runs in usable)
    courses = {runs.policy: runs.course for runs in usable if runs.course is not None}
    if (words.timeline or broken) and courses:
        span_s = max((float(np.ptp(c.at_s)) for c in courses.values() if len(c.at_s)), default=0.0)
        if span_s > 0:
            drawn = pictures.timeline(courses, highlight, span_s / _BINS)
            shown += _figure(drawn, "What happened when, in the first seed.")
    return shown


def _node_counts(runs: PolicyRuns, nodes: int) -> pictures.Floats:
    counts = np.zeros(max(nodes, len(runs.node_requests)))
    counts[: len(runs.node_requests)] = list(runs.node_requests.values())
    return counts


def _losses(cell: Cell) -> str:
    rows = []
    for runs in cell.sorted_runs:
        for losers, winner, losses in (
            (cell.ours, runs.policy, runs.reference_loses),
            (runs.policy, cell.ours, runs.loses_to_reference),
        ):
            rows += [_loss_row(losers, winner, loss) for loss in losses]
    if not rows:
        return ""
    rows.sort(key=lambda row: not row.startswith(f"<tr><td>{escape(cell.ours)}</td>"))
    titles = ("loses", "to", "where", "requests", "later by, mean", "in all")
    head = "".join(f'<th scope="col">{title}</th>' for title in titles)
    return (
        "<h4>Where each loses</h4>"
        f'<p class="soft">The sorts of requests that cost it most, those of {escape(cell.ours)} first.</p>'
        f'<div class="wide"><table class="text"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _loss_row(loser: str, winner: str, loss: Loss) -> str:
    texts = (
        loser, winner, f"{loss.dimension}: {loss.value}", f"{loss.requests:,}", _time(loss.mean_ms),
        _time(loss.total_ms),
    )  # fmt: skip
    return "<tr>" + "".join(f"<td>{escape(text)}</td>" for text in texts) + "</tr>"


def _closing(words: ReportWords, told: Sequence[_Told]) -> str:
    again = f"<h2>How to repeat it</h2><pre>{escape(words.command)}</pre>" if words.command else ""
    caveats = list(words.caveats + _CAVEATS)
    if len(told) > _PICTURED_CELLS_MAX:
        caveats.append(f"Pictures are of the first {_PICTURED_CELLS_MAX} of {len(told)} cells.")
    return f"{again}<h2>Caveats</h2><ul>{''.join(f'<li>{escape(text)}</li>' for text in caveats)}</ul>"


def _figure(png: bytes, caption: str) -> str:
    data, text = b64encode(png).decode("ascii"), escape(caption)
    image = f'<img alt="{text}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{text}</figcaption></figure>"


def _slo(slo: Slo) -> str:
    parts = [
        f"{words} at most {_time(limit)}"
        for words, limit in (("TTFT", slo.ttft_ms), ("time for a further token", slo.tpot_ms))
        if math.isfinite(limit)
    ]
    return " and ".join(parts) if parts else "every answer (no SLO was given)"


def _listed(texts: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(texts))
