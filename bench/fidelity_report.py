"""What bench/fidelity found: a table in Markdown, and a picture."""

from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

from isochrone.sim.live.fidelity import Figure, Line
from isochrone.sim.live.luck import LEFT_TO_LUCK
from isochrone.sim.results.statistics import rank_agreement

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MEAN_OFF_MAX, P99_OFF_MAX, TAU_MIN = 0.10, 0.20, 0.9


def table(
    sessions: Sequence[Sequence[Line]],
    taus: Sequence[float],
    speeds: Mapping[int, Mapping[str, float]],
    slowdowns: Sequence[float],
    engine_cores: float | None,
) -> str:
    """Three tables: policies, nodes, and what was measured of the engine."""
    lines = [*_policies(sessions), "", *_verdict(sessions, taus), *_luck(sessions), ""]
    lines += [*_nodes(sessions), ""]
    lines += [
        "| engines at work | prompt: base | per token | step, one sequence | each further | load | slower |"
    ]
    lines += ["|---|---|---|---|---|---|---|"]
    for level, speed in speeds.items():
        lines.append(
            f"| {level} | {speed['prefill_base_ms']:.0f} ms | {speed['prefill_ms_per_token']:.2f} ms "
            f"| {speed['tpot_ms']:.1f} ms | {speed['tpot_ms_per_sequence']:.1f} ms "
            f"| {speed['load_s']:.2f} s | {slowdowns[level]:.2f} times |"
        )
    if engine_cores:
        lines += [
            "",
            f"Each engine had {engine_cores:g} cores of its own: all three lines measured the same engine, "
            "and the simulator's is made of all of them together.",
        ]
    if list(slowdowns) != sorted(slowdowns):
        lines += [
            "",
            "More engines at work were not slower: the machine did other work meanwhile. Run it again.",
        ]
    return "\n".join(lines) + "\n"


def noise(sessions: Sequence[Sequence[Line]]) -> dict[str, object]:
    """The first session against the second, live: what the same arrivals give twice."""
    if len(sessions) < 2:
        return {}
    pairs = list(zip(sessions[0], sessions[1], strict=True))
    return {
        "mean": {a.policy: b.mean.live / a.mean.live - 1 for a, b in pairs},
        "p99": {a.policy: b.p99.live / a.p99.live - 1 for a, b in pairs},
        "kendall_tau": rank_agreement([a.mean.live for a, _ in pairs], [b.mean.live for _, b in pairs]),
    }


def _policies(sessions: Sequence[Sequence[Line]]) -> list[str]:
    rows = [
        "| policy | session | mean TTFT live (95%) | simulated (95% of seeds) | off by "
        "| p99 live | simulated | off by | same node |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for lines in zip(*sessions, strict=True):
        for number, line in enumerate(lines, 1):
            mean, p99 = line.mean, line.p99
            rows.append(
                f"| {line.policy} | {number} "
                f"| {_s(mean.live)} ({_s(mean.live_low)} to {_s(mean.live_high)}) "
                f"| {_s(mean.simulated)} ({_s(mean.simulated_low)} to {_s(mean.simulated_high)}) "
                f"| {mean.error:+.0%} | {_s(p99.live)} | {_s(p99.simulated)} | {p99.error:+.0%} "
                f"| {line.same_node:.0%} |"
            )
    return rows


def _verdict(sessions: Sequence[Sequence[Line]], taus: Sequence[float]) -> list[str]:
    """Against the aim of experiment E7, and against the live network's own noise."""
    every = [line for lines in sessions for line in lines]
    mean_off = [abs(line.mean.error) for line in every]
    p99_off = [abs(line.p99.error) for line in every]
    rows = [
        f"- mean within 10%: {sum(off <= MEAN_OFF_MAX for off in mean_off)} of {len(every)}, "
        f"the worst off by {max(mean_off):.0%}",
        f"- p99 within 20%: {sum(off <= P99_OFF_MAX for off in p99_off)} of {len(every)}, "
        f"the worst off by {max(p99_off):.0%}",
        f"- Kendall's tau of the ranking by mean: {', '.join(f'{tau:.2f}' for tau in taus)} "
        f"(aim: {TAU_MIN:g} or more)",
    ]
    unanswered = sum(line.unanswered for line in every)
    rows.append(f"- live requests without an answer: {unanswered} of {sum(line.requests for line in every)}")
    told = noise(sessions)
    if told:
        means, p99s = told["mean"], told["p99"]
        assert isinstance(means, dict)
        assert isinstance(p99s, dict)
        rows.append(
            "- live against live, the same arrivals twice: mean "
            f"{', '.join(f'{policy} {off:+.0%}' for policy, off in means.items())}; p99 "
            f"{', '.join(f'{policy} {off:+.0%}' for policy, off in p99s.items())}; "
            f"tau {told['kendall_tau']:.2f}"
        )
    return rows


def _luck(sessions: Sequence[Sequence[Line]]) -> list[str]:
    """Which policies were given the luck they had live."""
    given = [line.policy for line in sessions[0] if line.policy in LEFT_TO_LUCK]
    if not given:
        return []
    return [
        f"- given the luck they had live: {', '.join(given)} (where they draw a node, or draw among equal "
        "ones, the simulator draws the live one)"
    ]


def _nodes(sessions: Sequence[Sequence[Line]]) -> list[str]:
    rows = [
        "| policy | session | node | share live | simulated | mean TTFT live | simulated "
        "| tokens cached live | simulated | prompts live, times an engine alone |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for lines in zip(*sessions, strict=True):
        for number, line in enumerate(lines, 1):
            rows += [
                f"| {line.policy} | {number} | {name} | {node.live_share:.0%} | {node.simulated_share:.0%} "
                f"| {_s(node.live_ttft_ms)} | {_s(node.simulated_ttft_ms)} "
                f"| {_told(node.live_cached_tokens, '.0f')} | {_told(node.simulated_cached_tokens, '.0f')} "
                f"| {_told(node.slower, '.2f')} |"
                for name, node in line.nodes.items()
                if node.live_share or node.simulated_share
            ]
    return rows


def _s(ms: float) -> str:
    return "-" if isnan(ms) else f"{ms / 1e3:.2f} s"


def _told(value: float, how: str) -> str:
    return "-" if isnan(value) else format(value, how)


def draw(path: Path, sessions: Sequence[Sequence[Line]]) -> None:
    """Mean and p99 TTFT of each policy, live beside simulated, with their intervals."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - slow to import
    from matplotlib.figure import Figure as Picture  # noqa: PLC0415

    picture = Picture(figsize=(11, 4.2), layout="constrained")
    FigureCanvasAgg(picture)
    means, p99s = picture.subplots(1, 2)
    for axes, title, figures in (
        (means, "Mean TTFT", [[line.mean for line in lines] for lines in sessions]),
        (p99s, "p99 TTFT", [[line.p99 for line in lines] for lines in sessions]),
    ):
        for number, of_session in enumerate(figures):
            _bars(axes, of_session, number, len(sessions))
        axes.set_xticks(range(len(sessions[0])), [line.policy for line in sessions[0]], rotation=20)
        axes.set_title(title)
        axes.set_ylabel("seconds")
        axes.set_ylim(bottom=0)
    means.legend(frameon=False)
    picture.suptitle("The demo network, live beside simulated")
    picture.savefig(path, dpi=110)


def _bars(axes: "Axes", figures: Sequence[Figure], number: int, sessions: int) -> None:
    """One session: a pair of points with whiskers for each policy."""
    for kind, shift, colour, marker in (("live", -0.12, "C0", "o"), ("simulated", 0.12, "C1", "s")):
        x = [at + shift + 0.06 * (number - (sessions - 1) / 2) for at in range(len(figures))]
        y = [getattr(each, kind) / 1e3 for each in figures]
        low = [max(0.0, at - getattr(each, f"{kind}_low") / 1e3) for at, each in zip(y, figures, strict=True)]
        high = [
            max(0.0, getattr(each, f"{kind}_high") / 1e3 - at) for at, each in zip(y, figures, strict=True)
        ]
        axes.errorbar(
            x,
            y,
            yerr=[low, high],
            fmt=marker,
            color=colour,
            markersize=5,
            capsize=2,
            label=kind if number == 0 else None,
        )
