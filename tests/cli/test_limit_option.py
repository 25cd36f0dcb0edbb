"""Bounds and origins on the command line of a gateway: read, told in the docs, and refused in one line."""

from dataclasses import fields
from pathlib import Path

import pytest
from typer.testing import CliRunner

from isochrone.cli.app import app
from isochrone.cli.limits import as_options, with_limits
from isochrone.gateway import GatewaySettings
from isochrone.ports import SettingError
from isochrone.relay import ServerLimits
from isochrone.wire.openai import CHAT_PATH, Ask

OPERATIONS = (Path(__file__).parents[2] / "docs/operations.md").read_text()


def test_without_any_all_are_as_they_were():
    assert with_limits(GatewaySettings(), ()) == GatewaySettings()
    assert GatewaySettings().http == ServerLimits()
    assert (GatewaySettings().json_depth_max, GatewaySettings().cors_origins) == (128, frozenset())


@pytest.mark.parametrize("field", fields(ServerLimits), ids=lambda field: field.name)
def test_every_bound_can_be_told_and_is_documented_with_its_default(field):
    told = with_limits(GatewaySettings(), (f"{field.name}=7",))
    assert getattr(told.http, field.name) == 7
    row = next(line for line in OPERATIONS.splitlines() if line.startswith(f"| `{field.name}` |"))
    assert row.split("|")[2].strip() == f"{field.default}".removesuffix(".0")


def test_many_can_be_told_and_the_last_counts():
    told = with_limits(GatewaySettings(), ("idle_s_max=0.5", "json_depth_max=9", "idle_s_max=1.5"))
    assert (told.http.idle_s_max, told.json_depth_max) == (1.5, 9)
    assert "| `json_depth_max` | 128 |" in OPERATIONS


def test_brackets_of_a_body_can_be_bounded_too():
    assert with_limits(GatewaySettings(), ("json_brackets_max=9",)).json_brackets_max == 9
    assert GatewaySettings().json_brackets_max == Ask("r", CHAT_PATH).json_brackets_max == 200_000
    assert "| `json_brackets_max` | 200000 |" in OPERATIONS


def test_a_whole_network_hands_them_on_to_its_gateway_and_refuses_bad_ones_before_it_starts():
    told = as_options(["idle_s_max=1.5", "json_depth_max=9"], ["https://chat.example.org"])
    assert told[:2] == ("--limit", "idle_s_max=1.5")
    assert told[2:] == ("--limit", "json_depth_max=9", "--cors-origin", "https://chat.example.org")
    assert as_options((), ()) == ()
    done = CliRunner().invoke(app, ["up", "--limit", "idle_s_max=never"])
    assert isinstance(done.exception, SettingError)
    assert "idle_s_max=never" in str(done.exception)


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--limit", "speed=9", "NAME one of head_bytes_max, headers_max"),
        ("--limit", "idle_s_max", "NAME=VALUE is wanted"),
        ("--limit", "idle_s_max=soon", "a number above 0 is wanted"),
        ("--limit", "idle_s_max=inf", "a number above 0 is wanted"),
        ("--limit", "idle_s_max=nan", "a number above 0 is wanted"),
        ("--limit", "headers_max=1.5", "a whole number above 0 is wanted"),
        ("--limit", "headers_max=0", "a whole number above 0 is wanted"),
        ("--limit", "headers_max=-1", "a whole number above 0 is wanted"),
        ("--cors-origin", "example.org", "https://HOST"),
        ("--cors-origin", "https://example.org/", "https://HOST"),
        ("--cors-origin", "null", "https://HOST"),
    ],
)
def test_what_can_not_be_is_refused_in_one_line(option, value, words):
    result = CliRunner(env={"ISOCHRONE_TOKEN": "t"}).invoke(
        app, ["gateway", "--nats", "nats://127.0.0.1:9", option, value]
    )
    assert isinstance(result.exception, SettingError)
    told = str(result.exception)
    assert told.startswith(f"{option} {value}: ")
    assert words in told
    assert "\n" not in told


def test_origins_are_compared_in_lower_case():
    told = with_limits(GatewaySettings(), (), ("https://Example.org", "*"))
    assert told.cors_origins == {"https://example.org", "*"}
