"""Policies on the command line: parameters are read, told with their defaults, and refused in one line."""

import json

import pytest
from typer.testing import CliRunner

from isochrone.cli.app import app
from isochrone.cli.demo import DEMO_POLICIES
from isochrone.cli.policy import check_policy, parameters_of
from isochrone.ports import SettingError
from isochrone.routing import CATALOGUE, find_policy


def listed() -> dict[str, dict[str, object]]:
    told = json.loads(CliRunner().invoke(app, ["policies", "--json"]).stdout)
    return {each["policy"]: each["parameters"] for each in told}


def test_the_list_has_every_policy_with_its_parameters() -> None:
    assert listed().keys() == CATALOGUE.keys()
    assert listed()["nearest"] == {}
    assert listed()["prequal"].items() >= {"q_rif": 0.84, "per_request": 3.0, "pool_max": 16}.items()


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_policy_written_out_with_its_defaults_is_itself(name: str) -> None:
    own = parameters_of(CATALOGUE[name])
    written = ",".join(f"{key}={value}" for key, value in own.items())
    assert find_policy(f"{name}:{written}" if own else name) == CATALOGUE[name]


def test_the_table_is_for_people() -> None:
    text = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["policies"]).stdout
    assert "q_rif=0.84" in text
    assert all(name in text for name in CATALOGUE)


@pytest.mark.parametrize("text", ["soonest", "p2c:d=4", "prequal:q_rif=0.9,pool_max=6"])
def test_a_policy_that_can_be_is_taken_as_it_is_written(text: str) -> None:
    assert check_policy(text) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("luck", "no policy is called 'luck'; there are: soonest, nearest"),
        ("p2c:", "write parameter=value"),
        ("p2c:d", "write parameter=value, not 'd'"),
        ("p2c:e=1", "has no parameter 'e'"),
        ("nearest:d=1", "there are: none"),
        ("prequal:q_rif=7", "q_rif must be from 0 to 1"),
    ],
)
@pytest.mark.parametrize("command", ["gateway", "up", "demo"])
def test_what_can_not_be_is_refused_in_one_line(command: str, text: str, words: str) -> None:
    result = CliRunner().invoke(app, [command, "--policy", text])
    assert isinstance(result.exception, SettingError)
    told = str(result.exception)
    assert told.startswith("--policy: ")
    assert words in told
    assert "\n" not in told


def test_the_demo_compares_the_five_that_everybody_knows() -> None:
    assert DEMO_POLICIES == ("soonest", "nearest", "random", "round-robin", "least-request")
    assert set(DEMO_POLICIES) <= CATALOGUE.keys()
