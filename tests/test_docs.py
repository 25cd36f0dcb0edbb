"""The docs name what the code has: policies, errors, metrics, headers, variables, rooms, commands."""

import ast
import re
from pathlib import Path

import pytest

from isochrone.cli import reach, shell
from isochrone.cli.app import app
from isochrone.cli.node import ENGINE_KEY_VARIABLE
from isochrone.gateway.metrics import GatewayMetrics
from isochrone.nodes.inference.metrics import NodeMetrics
from isochrone.routing import CATALOGUE
from isochrone.wire import subjects

ROOT = Path(__file__).parent.parent
OPERATIONS = (ROOT / "docs/operations.md").read_text()
POLICIES = (ROOT / "docs/policies.md").read_text()
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_policy_has_a_section(name: str) -> None:
    section = POLICIES.split(f"\n## {name}\n")[1].split("\n## ")[0]
    for word in ("Reads:", "Parameters:", "Source:"):
        assert word in section


def error_codes() -> set[str]:
    codes = set()
    for room in ("gateway", "nodes", "wire"):
        for path in (ROOT / "src/isochrone" / room).rglob("*.py"):
            text = path.read_text()
            codes |= set(re.findall(r'code="([a-z_]+)"', text))
            codes |= set(re.findall(r'"((?:no|not|model|decision|deadline|upstream|invalid)_[a-z_]+)"', text))
    return codes & {
        code for code in codes if not code.endswith(("_error", "_bytes")) and code != "model_dump"
    }


@pytest.mark.parametrize("code", sorted(error_codes()))
def test_every_error_code_is_in_the_table(code: str) -> None:
    assert f"`{code}`" in OPERATIONS


def test_some_error_codes_were_found() -> None:
    assert {"model_not_found", "deadline_exceeded", "no_node_available", "node_full"} <= error_codes()


@pytest.mark.parametrize("metrics", [GatewayMetrics(), NodeMetrics()])
def test_every_metric_is_named(metrics: GatewayMetrics | NodeMetrics) -> None:
    for family in metrics.registry.collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        assert f"`{name}`" in OPERATIONS, name


def test_every_header_and_subject_is_named() -> None:
    for name, value in vars(subjects).items():
        if name.startswith(("HEADER_", "TRAILER_")):
            assert f"`{value.decode()}`" in OPERATIONS, name
    assert f"`{subjects.pulse_subject('<node>')}`" in OPERATIONS
    assert f"`{subjects.decision_subject('<gateway>')}`" in OPERATIONS
    assert f"`{subjects.IDLE}`" in OPERATIONS
    for name, value in vars(subjects).items():
        if name.endswith("_PATH") and name != "MODEL_PATH":
            assert value.rstrip("/") in OPERATIONS, name


def test_every_variable_is_named() -> None:
    named = {
        shell.TOKEN_VARIABLE, shell.API_KEYS_VARIABLE, reach.API_KEY_VARIABLE, ENGINE_KEY_VARIABLE
    }  # fmt: skip
    for path in (ROOT / "src").rglob("*.py"):
        named |= set(re.findall(r'"(ISOCHRONE_[A-Z_]+)"', path.read_text()))
    for variable in named:
        assert f"`{variable}`" in OPERATIONS, variable


def test_every_command_is_named() -> None:
    commands = [c for c in app.registered_commands if not c.hidden]
    names = [c.name or c.callback.__name__ for c in commands if c.callback]
    names += [group.name for group in app.registered_groups if group.name]
    for name in names:
        assert f"`isochrone {name}`" in OPERATIONS, name


def test_every_room_is_in_the_table() -> None:
    for room in (ROOT / "src/isochrone").iterdir():
        if room.is_dir() and room.name != "__pycache__":
            assert f"| `{room.name}/`" in ARCHITECTURE, room.name


def test_every_dependency_has_its_reason() -> None:
    reasons = (ROOT / "docs/decisions/0003-dependencies.md").read_text()
    text = (ROOT / "pyproject.toml").read_text()
    names = re.findall(r'^    "([A-Za-z_-]+)[><=]', text, re.MULTILINE)
    assert len(names) > 12
    for name in names:
        assert f"`{name}`" in reasons, name


def test_links_in_the_docs_lead_somewhere() -> None:
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_decisions_are_numbered_without_gaps() -> None:
    numbers = sorted(int(path.name[:4]) for path in (ROOT / "docs/decisions").glob("*.md"))
    assert numbers == list(range(1, len(numbers) + 1))


def test_every_example_in_the_readme_parses() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        ast.parse(block)
