"""`isochrone node`: what a card could not say is refused in one line, before anything starts."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from isochrone.cli.app import app
from isochrone.ports import SettingError


@pytest.mark.parametrize("hardware", ["x" * 257, "two\nlines"])
def test_a_class_of_hardware_that_no_card_can_say_is_refused(hardware: str) -> None:
    command = ["node", "--nats", "nats://127.0.0.1:9", "--model", "m=/m.gguf", "--hardware", hardware]
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, SettingError)
    assert str(result.exception).startswith("--hardware")
    assert "\n" not in str(result.exception)


def test_a_model_that_can_come_from_nowhere_is_refused(tmp_path: Path) -> None:
    store = ["--store-dir", str(tmp_path)]
    command = ["node", "--nats", "nats://127.0.0.1:9", "--model", "smollm2-136m", *store]
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, SettingError)
    assert str(result.exception).startswith("--model smollm2-136m: it is not in the store")
    assert "smollm2-135m" in str(result.exception)
