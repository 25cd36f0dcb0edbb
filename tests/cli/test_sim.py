"""`isochrone sim`: results in a folder, one clear line for what is wrong."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from isochrone.cli.app import app
from isochrone.ports import SettingError
from isochrone.routing import CATALOGUE
from isochrone.sim.results import read_run
from isochrone.sim.scenario.files import shipped_scenarios

SMALL = ("--set", "duration_s=8", "--set", "warmup_s=1", "--set", "faults=[]", "--jobs", "1")
WORLD = """
duration_s = 5
[models]
chat = { like = "llama2-70b" }
[traffic]
rate_per_s = 2
"""
TRACE_HEAD = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


def sim(*arguments: str) -> str:
    """What the command prints on standard output; its error, if it has one, is raised."""
    result = CliRunner().invoke(app, ["sim", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def wrong(*arguments: str) -> str:
    with pytest.raises(SettingError) as caught:
        CliRunner().invoke(app, ["sim", *arguments], catch_exceptions=False)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_comparison_leaves_runs_figures_and_a_page(tmp_path: Path) -> None:
    policies = ("--policy", "soonest", "--policy", "p2c:d=3")
    told = sim("smoke", *SMALL, *policies, "--seeds", "2", "--out", str(tmp_path))
    assert "soonest" in told
    assert "p2c:d=3" in told
    runs = sorted(tmp_path.glob("*.parquet"))
    assert len(runs) == 4
    meta, table = read_run(runs[0])
    assert meta.scenario == "smoke"
    assert table.num_rows > 20
    summaries = json.loads((tmp_path / "summary.json").read_text())
    assert {summary["meta"]["policy"] for summary in summaries} == {"soonest", "p2c:d=3"}
    page = (tmp_path / "report.html").read_text()
    assert "Ten nodes" in page
    pictures = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert pictures[0] == "01-time-to-first-token-all-seeds-together.png"
    assert all((tmp_path / "pictures" / name).read_bytes().startswith(b"\x89PNG") for name in pictures)
    assert len(pictures) == page.count("data:image/png")
    assert "://" not in page.replace("http://www.w3.org", "")


def test_what_is_there_is_not_run_again(tmp_path: Path) -> None:
    arguments = ("smoke", *SMALL, "--policy", "random", "--seeds", "1", "--out", str(tmp_path))
    sim(*arguments)
    [path] = tmp_path.glob("*.parquet")
    before = path.stat().st_mtime_ns
    sim(*arguments, "--policy", "nearest")
    assert path.stat().st_mtime_ns == before
    assert len(list(tmp_path.glob("*.parquet"))) == 2


def test_summaries_as_json(tmp_path: Path) -> None:
    told = sim("smoke", *SMALL, "--policy", "random", "--seeds", "1", "--out", str(tmp_path), "--json")
    [summary] = json.loads(told)
    assert summary["requests"] == sum(summary["kinds"].values())


def test_tuning_is_recorded_and_used(tmp_path: Path) -> None:
    record = tmp_path / "tuned.json"
    options = ("smoke", *SMALL, "--policy", "jiq", "--seeds", "1", "--out", str(tmp_path / "runs"))
    assert "jiq" in sim(*options, "--tune", str(record))
    told = json.loads(record.read_text())
    assert told["trials"]["jiq"][0]["policy"] == told["best"]["jiq"]
    sim(*options, "--tuned", str(record))
    assert any("seed1-" in path.name for path in (tmp_path / "runs").glob("*.parquet"))


@pytest.mark.parametrize(("tuned_for", "told"), [("e2-geography", True), ("smoke", False)])
def test_a_tuning_for_another_scenario_is_used_and_said_to_be_that(
    tmp_path: Path, tuned_for: str, *, told: bool
) -> None:
    record = tmp_path / "tuned.json"
    record.write_text(json.dumps({"scenario": tuned_for, "best": {"random": "random"}}))
    options = ("smoke", *SMALL, "--policy", "random", "--seeds", "1", "--out", str(tmp_path / "runs"))
    result = CliRunner().invoke(app, ["sim", *options, "--tuned", str(record)], catch_exceptions=False)
    assert result.exit_code == 0
    assert ("tuned for e2-geography, which says little of smoke" in result.stderr) is told


def test_scenarios_are_listed() -> None:
    assert json.loads(sim("--list", "--json")) == shipped_scenarios()
    assert "e1-staleness" in sim()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--policy", "nope"), ("nope", "there are:")),
        (("--policy", "p2c:dd=3"), ("p2c", "dd", "there are:")),
        (("--set", "traffic.rho=abc"), ("smoke", "traffic.rho", "number")),
        (("--set", "nodes.counts=3"), ("smoke", "nodes.counts", "nodes.count")),
        (("--set", "foo"), ("--set", "key=value")),
        (("--nodes", "1", "--set", "nodes.regions=['Atlantis']"), ("nodes.regions", "Atlantis")),
        (("--tuned", "nowhere.json"), ("nowhere.json", "--tune")),
    ],
)
def test_a_wrong_option_is_told_in_one_line(tmp_path: Path, options, words) -> None:
    told = wrong("smoke", *SMALL, "--seeds", "1", "--out", str(tmp_path), *options)
    for word in words:
        assert word in told


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[bus]\npulse_ms = 100\n", ("bus.pulse_ms", "pulse_s")),
        ("[nodes]\ncount = 3\nhardware = { warp-drive = 1 }\n", ("nodes.hardware", "warp-drive")),
        ('policies = ["fastest"]\n', ("policies", "fastest")),
        (
            '[[node]]\nname = "a"\nregion = "West Europe"\nhardware = "a100-80gb-x2"\n'
            'models = ["chat", "talk"]\nready = ["chat", "talk"]\n[models.talk]\nlike = "llama2-70b"\n',
            ("node.0.ready", "weighs"),
        ),
        ("duration_s = \n", ("TOML",)),
    ],
)
def test_a_wrong_scenario_is_told_by_file_and_key(tmp_path: Path, text: str, words) -> None:
    path = tmp_path / "world.toml"
    head, _, rest = WORLD.partition("[models]")
    path.write_text((text + head if text.startswith("policies") else head + text) + "[models]" + rest)
    if text.startswith("duration_s"):
        path.write_text(text)
    told = wrong(str(path), "--seeds", "1", "--out", str(tmp_path / "out"))
    for word in ("world.toml", *words):
        assert word in told


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("", ("trace.csv", "empty")),
        ("2023-11-16 18:17:03,10,10\n2023-11-16 18:17:02,10,10\n", ("trace.csv", "line 3", "TIMESTAMP")),
        ("2023-11-16 18:17:03,ten,10\n", ("trace.csv", "line 2", "ContextTokens")),
    ],
)
def test_a_wrong_trace_is_told_by_file_and_line(tmp_path: Path, rows: str, words) -> None:
    (tmp_path / "trace.csv").write_text(TRACE_HEAD + rows)
    nodes = "[nodes]\ncount = 2\nhardware = { h100-80gb-x4 = 1 }\n"
    trace = WORLD.replace("[traffic]", '[traffic]\nsource = "azure"\ntrace = "trace.csv"')
    (tmp_path / "world.toml").write_text(trace + nodes)
    told = wrong(str(tmp_path / "world.toml"), "--seeds", "1", "--jobs", "1", "--out", str(tmp_path / "out"))
    for word in words:
        assert word in told


def test_the_whole_catalogue_can_be_asked_for(tmp_path: Path) -> None:
    told = sim("smoke", *SMALL, "--policy", "all", "--seeds", "1", "--out", str(tmp_path), "--json")
    assert {summary["meta"]["policy"] for summary in json.loads(told)} == set(CATALOGUE)
