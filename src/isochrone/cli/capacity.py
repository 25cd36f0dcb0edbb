"""`isochrone capacity`: where capacity is, where it is scarce, what one more node would save."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from isochrone.cli.reach import GatewayOption, StateDirOption, reached
from isochrone.wire.subjects import CAPACITY_PATH

_ROWS_MAX = 12
_SAVING_LEAST = 0.001
_CROWDED = 0.8
"""Above this queues grow fast, and the number is red."""


def capacity(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    gateway: GatewayOption = "",
    state_dir: StateDirOption = None,
) -> None:
    """Show where capacity is and how far it is used, and what one more node would save where.

    The gateway divides the traffic of all gateways over all nodes so that all requests together take the
    least time, and works out what more room would be worth. It does so when asked, once in some seconds.
    """
    fields = reached(gateway, state_dir).get_json(CAPACITY_PATH)
    if as_json:
        typer.echo(json.dumps(fields, indent=2))
    else:
        Console().print(capacity_table(fields))


def capacity_table(told: Mapping[str, Any]) -> RenderableType:
    """Places, what one more node would save, what is not served; then what was left out."""
    parts: list[RenderableType] = [_head(told)]
    parts += [Text(words, style="yellow") for words in told["words"]]
    parts += [Text("\nplaces", style="bold"), _places_table(told)]
    if told["plan"]["status"] is not None and told["groups"] and told["demand"]:
        parts += [Text("\nwhat one more node would save", style="bold"), *_savings(told)]
    if told["demand"]:
        parts += [Text("\nwhat is asked, and from where it is best served", style="bold"), *_demand(told)]
    parts += [Text(f"left out: {count} x {why}", style="yellow") for why, count in told["left_out"].items()]
    parts.append(Text(_legend(told), style="dim"))
    return Group(*parts)


def _head(told: Mapping[str, Any]) -> Text:
    plan, where = told["plan"], f" in {told['region']}" if told["region"] else ""
    state = "no plan yet" if plan["status"] is None else f"plan {plan['status']}, {plan['age_s']:.1f} s old"
    if plan["status"] == "nothing is asked":
        state = f"looked at {plan['age_s']:.1f} s ago"
    return Text.assemble((told["gateway"], "bold"), where, f"   {state}")


def _places_table(told: Mapping[str, Any]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("place", no_wrap=True)
    for column in ("nodes", "slots", "used"):
        table.add_column(column, justify="right")
    table.add_column("model", overflow="fold")
    for column in ("could serve", "of it ready", "asked here", "served here"):
        table.add_column(column, justify="right")
    for place in told["places"]:
        _place_row(table, place)
    return table


def _place_row(table: Table, place: Mapping[str, Any]) -> None:
    used = place["utilisation"]
    columns = [
        place[name] for name in ("capacity_per_s", "ready_capacity_per_s", "asked_per_s", "served_per_s")
    ]
    models = sorted({model for column in columns for model in column})
    table.add_row(
        _place(place["region"]),
        str(place["nodes"]),
        str(place["slots"]),
        "-" if used is None else Text(f"{used:.0%}", style="red" if used > _CROWDED else ""),
        "\n".join(models),
        *("\n".join(_per_s(column.get(model)) for model in models) for column in columns),
    )


def _savings(told: Mapping[str, Any]) -> list[RenderableType]:
    """The groups where a node is worth most, most first."""
    order = sorted(told["groups"], key=lambda group: -group["saving_s_per_node"])
    worth = [group for group in order if group["saving_s_per_node"] >= _SAVING_LEAST]
    if not worth:
        return [Text("nothing: there is room everywhere")]
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("saves", justify="right", no_wrap=True)
    table.add_column("one more like", no_wrap=True)
    table.add_column("place", no_wrap=True)
    for column in ("nodes now", "used"):
        table.add_column(column, justify="right")
    table.add_column("models ready (others)", overflow="fold")
    for group in worth[:_ROWS_MAX]:
        more = group["nodes"] - len(group["names"])
        table.add_row(
            _number(group["saving_s_per_node"]),
            ", ".join(group["names"][:1])
            + (f" +{more + len(group['names']) - 1}" if group["nodes"] > 1 else ""),
            _place(group["region"]),
            str(group["nodes"]),
            f"{group['utilisation']:.0%}",
            _models(group["models"]),
        )
    parts: list[RenderableType] = [table]
    if len(worth) > _ROWS_MAX:
        parts.append(Text(f"and {len(worth) - _ROWS_MAX} more kinds of node; --json has all", style="dim"))
    return parts


def _models(models: list[Mapping[str, Any]]) -> str:
    ready = ", ".join(each["model"] for each in models if each["ready"] > 0)
    others = ", ".join(each["model"] for each in models if each["ready"] <= 0)
    return f"{ready or '-'} ({others})" if others else ready


def _demand(told: Mapping[str, Any]) -> list[RenderableType]:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("asked in", no_wrap=True)
    table.add_column("model", overflow="fold")
    for column in ("requests/s", "not served", "one more takes s"):
        table.add_column(column, justify="right")
    table.add_column("served from")
    # What is not served comes first, whatever its size.
    order = sorted(told["demand"], key=lambda pair: -(pair["unmet_per_s"] or 0.0))
    for pair in order[:_ROWS_MAX]:
        unmet, shares = pair["unmet_per_s"], pair["served_from"]
        table.add_row(
            _place(pair["region"]),
            pair["model"],
            _per_s(pair["requests_per_s"]),
            Text(_per_s(unmet), style="bold red" if unmet else ""),
            "-" if pair["marginal_s"] is None else _number(pair["marginal_s"]),
            ", ".join(f"{_place(share['region'])} {share['share']:.0%}" for share in shares) or "-",
        )
    parts: list[RenderableType] = [table]
    if len(order) > _ROWS_MAX:
        parts.append(Text(f"and {len(order) - _ROWS_MAX} more; --json has all", style="dim"))
    return parts


def _legend(told: Mapping[str, Any]) -> str:
    like = "   ".join(
        f"{each['model']} {each['prompt_tokens']}+{each['output_tokens']}"
        + ("" if each["lengths_learned"] else " (a guess)")
        for each in told["models"][:_ROWS_MAX]
    )
    lines = [
        "",
        "could serve: requests a second if this model had the nodes for itself; used: of their time, "
        f"{told['plan']['utilisation_most']:.0%} at most in a plan",
    ]
    lines.append(f"a request: tokens of prompt + answer: {like}" if like else "")
    unmet_s = told["plan"]["unmet_cost_s"]
    if unmet_s is not None:
        lines.append(
            "saves: seconds that all requests of one second take less, together; one that is not served "
            f"counts as {unmet_s:.0f} s"
        )
    return "\n".join(line for index, line in enumerate(lines) if line or index == 0)


def _per_s(value: float | None) -> str:
    return _number(value) if value else "-"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _place(region: str) -> str:
    return region or "(no place told)"
