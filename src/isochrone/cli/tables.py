"""Tables for people."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from isochrone.ports import IsochroneError
from isochrone.routing import Policy

_STATES = {"ready": "green", "loading": "yellow", "on_disk": "blue", "absent": "dim"}
_TERMS = (
    ("rtt_ms", "network"),
    ("wait_ms", "wait"),
    ("cold_ms", "load"),
    ("prefill_ms", "prefill"),
    ("bias_ms", "learned"),
)
_SUMS = (
    ("ttft_ms", "= first token ms"),
    ("decode_ms", "later tokens"),
    ("congestion_ms", "for others"),
    ("uncertainty_ms", "uncertainty"),
    ("score_ms", "score"),
)
_LEGEND = (
    "all in milliseconds; the least score is the soonest\n"
    "learned: what answers lately took beyond the terms before it and the waits that nobody foresaw\n"
    "for others: what it takes from those who come after it, on a busy network, and from other models there\n"
    "score: first token, a weighed part of the later tokens, for others, and a part of the uncertainty"
)
_ORIGINS = {
    "gathered": "among the few nodes to which prompts that begin alike go from every gateway",
    "own": "among the best of the nodes that are this gateway's own by the plan",
    "prefix": "because it holds the beginning of the prompt",
    "drawn": "by lot, drawn by the plan's weights over all nodes",
    "spare": "by lot, among further nodes that a request with an SLO looks at",
    "all": "by comparing all nodes",
}


def print_policies(policies: Iterable[tuple[Policy, Mapping[str, float | str]]], *, as_json: bool) -> None:
    """Name, summary and parameters of each policy."""
    if as_json:
        listed = [{"policy": p.name, "summary": p.summary, "parameters": own} for p, own in policies]
        print(json.dumps(listed, indent=2))  # noqa: T201
        return
    table = Table("policy", "chooses", "parameters and defaults", box=None)
    table.columns[0].no_wrap = True
    for policy, own in policies:
        values = (f"{name}={_written(value)}" for name, value in own.items())
        table.add_row(policy.name, policy.summary, Text(" ".join(values), style="dim"))
    Console().print(table)


def _written(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.10g}"


def status_table(status: Mapping[str, Any]) -> RenderableType:
    """The whole network, a line a node."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("node", no_wrap=True)
    table.add_column("models", no_wrap=True)
    for column in ("slots", "queue s", "RTT ms", "t/s", "error ms", "age s"):
        table.add_column(column, justify="right", no_wrap=True)
    for node in status["nodes"]:
        _status_row(table, node)
    where = f" in {status['region']}" if status["region"] else ""
    bus = "" if status["bus_up"] else "   bus lost: beliefs come from answers only"
    head = Text.assemble(
        (status["gateway"], "bold"), where, f"   {status['in_flight']} in flight", (bus, "red"), "\n"
    )
    rates = "   ".join(
        f"{m['model']} {m['requests_per_s']:.2f} requests/s (x{m['growth']:.2f})" for m in status["models"]
    )
    legend = "slots: busy+queued/all   t/s: prefill/decode tokens   error: of predicted TTFT"
    return Group(head, table, Text(f"\n{rates}\n{legend}", style="dim"))


def _status_row(table: Table, node: Mapping[str, Any]) -> None:
    unavailable = node["unavailable"]
    name = Text(node["node"], style="red" if unavailable else "bold")
    name.append(f"\n{node['region'] or '-'}", style="not bold dim")
    if unavailable:
        name.append(f"\n{unavailable}", style="not bold red")
    table.add_row(
        name,
        Text("\n").join([_model_line(model) for model in node["models"]]),
        f"{node['running']}+{node['queued']}/{node['slots']}",
        f"{node['queue_s']:.2f}",
        f"{node['rtt_ms']:.1f}" if node["rtt_measured"] else f"~{node['rtt_ms']:.0f}",
        "\n\n".join(_speeds(model) for model in node["models"]),
        "\n\n".join(f"{m['error_ms']:.0f}" if m["answers_seen"] else "-" for m in node["models"]),
        f"{node['age_s']:.1f}",
    )


def _speeds(model: Mapping[str, Any]) -> str:
    speeds = (model["prefill_tokens_per_s"], model["decode_tokens_per_s"])
    return "/".join("-" if speed is None else f"{speed:.0f}" for speed in speeds)


def _model_line(model: Mapping[str, Any]) -> Text:
    state = model["state"]
    words = state.replace("_", " ")
    if state == "loading":
        words += f" {model['ready_in_s']:.1f} s"
    return Text(f"{model['model']}\n").append(words, style=_STATES.get(state, ""))


def explain_table(record: Mapping[str, Any]) -> RenderableType:
    """One decision: every candidate term by term, the choice, then what was measured.

    A gateway of another version may tell less, or more, than this one: what it does not tell is a dash or
    not mentioned. Raises IsochroneError when the record lacks what all of them tell.
    """
    try:
        return _explained(record)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise IsochroneError(
            f"the gateway's record of the decision is none that this version can show ({error!r}); "
            "see it with --json"
        ) from error


def _explained(record: Mapping[str, Any]) -> RenderableType:
    shape = "streamed" if record["stream"] else "whole"
    head = Text.assemble(
        (record["id"], "bold"),
        f"  {_shown(record['model'])}, {shape}, decided by ",
        (record["policy"], "bold"),
        "\n",
    )
    parts: list[RenderableType] = [head]
    if record["candidates"]:
        parts += [_candidates_table(record), Text(f"\n{_LEGEND}", style="dim"), _why(record)]
    excluded = record.get("exclusions") or ()
    parts += [Text(f"not considered: {e['node']}: {e['why']}", style="yellow") for e in excluded]
    chosen = {candidate["node"]: candidate for candidate in record["candidates"]}
    outcomes = record.get("outcomes") or ()
    parts += [_outcome_text(outcome, chosen.get(outcome["node"])) for outcome in outcomes]
    if not outcomes:
        parts.append(Text("\nno attempt was made, or none has ended yet", style="yellow"))
    return Group(*parts)


def _shown(text: str) -> str:
    """What a client wrote, without what a terminal would obey."""
    return text if text.isprintable() else ascii(text)


def _candidates_table(record: Mapping[str, Any]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, title_justify="left")
    table.add_column("", width=1)
    table.add_column("node", no_wrap=True)
    for _, column in _TERMS:
        table.add_column(column, justify="right")
    for _, column in _SUMS:
        table.add_column(column, justify="right")
    for index, candidate in enumerate(record["candidates"]):
        cells = [_whole(candidate.get(term)) for term, _ in (*_TERMS, *_SUMS)]
        style = "bold green" if index == 0 else ""
        table.add_row("→" if index == 0 else "", candidate["node"], *cells, style=style)
    return table


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _why(record: Mapping[str, Any]) -> Text:
    first = record["candidates"][0]
    text = (
        f"\nprompt about {first['prompt_tokens']} tokens, of which {first['cached_tokens']} believed cached "
        f"on {first['node']}; answer about {first['output_tokens']} tokens"
    )
    others = record["candidates"][1:]
    if others:
        ahead_ms = min(other["score_ms"] for other in others) - first["score_ms"]
        nearest = min(record["candidates"], key=lambda candidate: candidate["rtt_ms"])
        word = "ahead of" if ahead_ms >= 0 else "behind"
        text += f"\n{first['node']} is {abs(ahead_ms):.0f} ms {word} the next best by the estimate"
        if nearest["node"] != first["node"]:
            later_ms = nearest["ttft_ms"] - first["ttft_ms"]
            text += (
                f"; {nearest['node']} is nearer by {first['rtt_ms'] - nearest['rtt_ms']:.0f} ms of network "
                f"and {'later' if later_ms >= 0 else 'sooner'} by {abs(later_ms):.0f} ms"
            )
    origin = record.get("origin")
    if origin is not None:
        text += f"\n{first['node']} was found {_ORIGINS.get(origin, f'by {_shown(str(origin))}')}"
    if (sharing := first.get("sharing", 1.0)) > 1.0:
        text += (
            f"\nwith it {sharing:.0f} models share the compute of {first['node']}: prefill and later tokens "
            "are told as they are then"
        )
    if (patience_ms := record.get("patience_ms")) is not None:
        text += (
            f"\nits prompt was to begin there within {patience_ms:.0f} ms; a node whose line is longer says "
            "so at once, and the request is placed anew"
        )
    if record.get("slo") is not None:
        text += f"\n{_slo_words(record['slo'], first['node'], streamed=record['stream'])}"
    return Text(text)


def _slo_words(slo: Mapping[str, Any], node: str, *, streamed: bool) -> str:
    """How the choice stands to what the client asked for, in a sentence."""
    limits = (
        ("the first token" if streamed else "the whole answer", slo["ttft_ms"], slo["ttft_room_ms"]),
        ("each later token", slo["tpot_ms"], slo["tpot_room_ms"]),
    )
    asked = " and ".join(f"{what} within {ms:.4g} ms" for what, ms, _ in limits if ms is not None)
    wants = f"the client wants {asked}: {node} is expected to"
    if slo["met"]:
        room = " and ".join(f"{ms:.4g} ms for {what}" for what, _, ms in limits if ms is not None)
        return f"{wants} keep that, with room of {room} after a margin for error"
    told = [(what, ms) for what, _, ms in limits if ms is not None]
    missed = [(what, ms) for what, ms in told if ms < 0] or told  # by so little that it was rounded away
    over = " and ".join(f"{what} by {abs(ms):.4g} ms" for what, ms in missed)
    margin = ", a margin for error counted" if missed[0][0] == limits[0][0] else ""
    why = "; so are all that were compared, and it is the soonest" if slo.get("heeded") else ""
    return f"{wants} miss that, {over}{margin}{why}"


def _outcome_text(outcome: Mapping[str, Any], candidate: Mapping[str, Any] | None) -> Text:
    text = Text(f"\n{outcome['node']}: {outcome['kind'].replace('_', ' ')}", style="bold")
    if outcome.get("detail"):
        text.append(f": {outcome['detail']}", style="yellow")
    text.append(f"\n  after {outcome['total_ms']:.0f} ms", style="not bold")
    if outcome["ttft_ms"] is not None and candidate is not None:
        error = (candidate["ttft_ms"] - outcome["ttft_ms"]) / max(outcome["ttft_ms"], 1e-9)
        text.append(
            f"; first token after {outcome['ttft_ms']:.0f} ms, predicted {candidate['ttft_ms']:.0f} ms "
            f"({error:+.0%})",
            style="not bold",
        )
    timings = outcome.get("timings")
    if timings is not None:
        text.append(
            f"\n  the node says: waited {timings['queue_ms']:.0f} ms for a slot and "
            f"{timings['load_ms']:.0f} ms for the model, prefill {timings['prefill_ms']:.0f} ms for "
            f"{timings['prompt_tokens']} tokens ({timings['cached_tokens']} cached), decode "
            f"{timings['decode_ms']:.0f} ms for {timings['output_tokens']} tokens",
            style="not bold dim",
        )
    return text
