"""The house's plan, held: who may import whom, what pure rooms may not touch, how big things may grow."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import isochrone
from isochrone.routing import CATALOGUE

ROOT = Path(isochrone.__file__).parent
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60

PURE = {"routing", "fleet", "demand", "independence", "trust"}
BESIDE_THE_SHELL = PURE | {"wire", "ports", "relay", "model"}
EVERYTHING = BESIDE_THE_SHELL | {"gateway", "nodes", "adapters", "sim", "dashboard", "data"}

MAY_IMPORT: dict[str, set[str]] = {
    "model": set(),
    "routing": {"model"},
    "fleet": {"model"},
    "demand": {"model"},
    "independence": {"model"},
    "trust": {"model"},
    "wire": {"model"},
    "ports": {"model"},
    "relay": {"model", "wire", "ports"},
    "gateway": BESIDE_THE_SHELL,
    "nodes": BESIDE_THE_SHELL,
    "adapters": {"model", "wire", "ports"},
    "sim": EVERYTHING - {"adapters"},
    "dashboard": {"model", "fleet", "demand", "independence", "wire", "ports"},
    "cli": EVERYTHING,
    "data": set(),
}
"""What each room may import beside itself. The version in `isochrone` is free to all, `cli` to nobody."""

SILENT = {"model", "wire"} | PURE
"""Rooms without clock, socket, luck, log or disk."""

BANNED = frozenset(
    """
    asyncio concurrent contextvars datetime http io logging multiprocessing os pathlib queue random secrets
    select selectors shutil signal socket socketserver ssl subprocess tempfile threading time urllib uuid
    """.split()  # noqa: SIM905
)
BANNED_CALLS = frozenset(("open", "print", "input", "exec", "eval", "__import__"))
STDLIB_OF_SILENT_ROOMS = frozenset(
    """
    abc base64 binascii bisect collections copy dataclasses decimal enum fractions functools hashlib heapq
    hmac ipaddress itertools json math operator re statistics string struct types typing
    """.split()  # noqa: SIM905
)
"""What they do import; a new name is added here with open eyes."""

FILES = sorted(ROOT.rglob("*.py"))
MODULES = {path: ast.parse(path.read_text("utf-8")) for path in FILES}


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT).parts
    return parts[0] if len(parts) > 1 else ""


def imports_of(path: Path, tree: ast.Module) -> Iterator[str]:
    """Dotted names of all that `path` imports, wherever in the file, relative ones made absolute."""
    package = ("isochrone", *path.relative_to(ROOT).parent.parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            # `from isochrone import fleet` imports a room as well as `import isochrone.fleet` does
            yield from (f"{module}.{alias.name}" for alias in node.names)


def rooms_imported(path: Path, tree: ast.Module) -> set[str]:
    rooms = {path.name for path in ROOT.iterdir() if path.is_dir()}
    dotted = (name.split(".") for name in imports_of(path, tree))
    return {name[1] for name in dotted if name[0] == "isochrone" and len(name) > 1 and name[1] in rooms}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def in_rooms(rooms: set[str]) -> list[Path]:
    return [path for path in FILES if room_of(path) in rooms]


def test_every_room_stands_in_the_table_and_has_files():
    rooms = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms == MAY_IMPORT.keys()
    assert all(in_rooms({room}) for room in rooms)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_rooms_import_only_what_the_table_allows(path):
    room = room_of(path)
    allowed = MAY_IMPORT[room] | {room} if room else EVERYTHING | {"cli"}
    assert rooms_imported(path, MODULES[path]) <= allowed


def test_nobody_imports_the_command_line():
    users = {name_of(path) for path, tree in MODULES.items() if "cli" in rooms_imported(path, tree)}
    assert {name for name in users if not name.startswith("cli/")} <= {"__main__.py"}


@pytest.mark.parametrize("path", in_rooms(SILENT), ids=name_of)
def test_pure_rooms_touch_nothing_outside(path):
    tops = {name.split(".")[0] for name in imports_of(path, MODULES[path])} - {"isochrone"}
    assert not tops & BANNED
    own = {"wire": {"msgspec", "xxhash"}, "routing": {"scipy"}}.get(room_of(path), set())
    assert tops <= STDLIB_OF_SILENT_ROOMS | {"numpy"} | own
    calls = {
        node.func.id
        for node in ast.walk(MODULES[path])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not calls & BANNED_CALLS


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("import isochrone.fleet", {"fleet"}),
        ("import isochrone.fleet.learn as f", {"fleet"}),
        ("from isochrone import fleet", {"fleet"}),
        ("from isochrone.fleet.learn import Flow", {"fleet"}),
        ("from ..fleet import Fleet", {"fleet"}),
        ("from .. import fleet", {"fleet"}),
        ("from .catalogue import CATALOGUE", {"routing"}),
        ("from isochrone import __version__", set()),
        ("def f():\n    from isochrone.cli import app", {"cli"}),
    ],
)
def test_the_walk_sees_every_way_to_import(line, found):
    assert rooms_imported(ROOT / "routing" / "x.py", ast.parse(line)) == found


@pytest.mark.parametrize("path", [path for path in FILES if path.name == "__init__.py"], ids=name_of)
def test_every_package_says_what_lives_there(path):
    assert ast.get_docstring(MODULES[path])


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_and_functions_stay_small(path):
    assert len(path.read_text("utf-8").splitlines()) <= FILE_LINES_MAX
    long = {
        node.name: node.end_lineno - node.lineno + 1
        for node in ast.walk(MODULES[path])
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.end_lineno - node.lineno + 1 > FUNCTION_LINES_MAX
    }
    assert not long


def test_every_policy_file_is_in_the_catalogue():
    files = {path.stem for path in (ROOT / "routing" / "policies").glob("*.py")} - {"__init__"}
    listed = {policy.rank.__module__.rpartition(".")[2] for policy in CATALOGUE.values()}
    assert listed == files
    assert all(name == policy.name and policy.summary for name, policy in CATALOGUE.items())
