"""Whoever types something wrong reads what, and no traceback."""

import subprocess
import sys

import pytest

from isochrone.cli.app import main


def typed(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """The status of the command line after these words."""
    monkeypatch.setattr(sys, "argv", ["isochrone", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("up", "--gateways"), "--gateways"),
        (("nosuch",), "nosuch"),
        (("policies", "soonest"), "soonest"),
        (("sim", "smoke", "--seeds", "0"), "--seeds"),
        (("sim", "smoke", "--seeds", "many"), "--seeds"),
        (("keys", "nosuch"), "nosuch"),
        (("explain", "a", "b"), "b"),
    ],
)
def test_a_wrong_word_is_told_with_where_to_look(
    words: tuple[str, ...], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(monkeypatch, *words) == 2
    said = capsys.readouterr().err
    assert told in said
    assert "for help" in said


@pytest.mark.parametrize("words", [(), ("--help",), ("up", "--help"), ("keys",)])
def test_help_is_there_without_being_asked_for(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(monkeypatch, *words) == (0 if "--help" in words else 2)
    out, err = capsys.readouterr()
    assert "Usage: isochrone" in out + err


def test_the_version_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed(monkeypatch, "--version") == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_an_error_of_ours_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(monkeypatch, "sim", "no-such-scenario") == 1
    assert capsys.readouterr().err.startswith("isochrone: ")


def test_a_reader_that_leaves_early_gets_no_traceback() -> None:
    command = f"{sys.executable} -m isochrone policies | head -1"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert len(ended.stdout.splitlines()) == 1
    assert ended.stderr == ""
