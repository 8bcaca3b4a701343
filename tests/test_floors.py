"""The floors of the design, kept by reading the imports: they go down only, siblings never meet."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "httpd"

FLOORS = {
    "process": 4,
    "server": 3,
    "app": 3,
    "upkeep": 3,
    "protocol": 2,
    "storage": 2,
    "catalog": 2,
    "config": 1,
    "log": 1,
    "metrics": 1,
    "exchange": 1,
    "traps": 1,
}
# Modules that only some rooms may use: (module, rooms).
RESERVED = {
    "socket": {"process", "server"},
    "select": {"process", "server", "traps"},
    "threading": {"catalog", "metrics", "server", "storage"},
    "signal": {"process"},
    "subprocess": set(),
    "sqlite3": set(),
}
# Calls that belong in one place: (attribute, files).
PLACES = {
    "recv": {"server/transport.py", "process/orders.py", "process/worker.py"},
    "sendfile": {"server/transport.py", "server/pagecache.py"},  # the latter to nowhere
    "fork": {"process/crew.py", "process/daemon.py"},
    "execve": {"process/renewal.py"},
    "posix_spawn": {"process/renewal.py"},
    "environ": {"config/inheritance.py", "config/reading.py"},
}
MOST_LINES = 400

MODULES = sorted(PACKAGE.rglob("*.py"))


def imports_of(module: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "absolute imports only"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def room_of(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def name_of(module: Path) -> str:
    return str(module.relative_to(PACKAGE))


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_imports_go_down_only(module: Path) -> None:
    room = room_of(module)
    if room == "__init__":
        return
    for name in imports_of(module):
        if not name.startswith("httpd."):
            continue
        other = name.split(".")[1]
        assert other == room or FLOORS[other] < FLOORS[room], f"{room} imports {name}"


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_reserved_modules_stay_in_their_rooms(module: Path) -> None:
    for name in imports_of(module):
        rooms = RESERVED.get(name.split(".")[0])
        assert rooms is None or room_of(module) in rooms, f"{name} in {room_of(module)}"


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_calls_stay_in_their_places(module: Path) -> None:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Attribute) and node.attr in PLACES:
            assert name_of(module) in PLACES[node.attr], f"{node.attr} at line {node.lineno}"


def test_the_protocol_does_no_io() -> None:
    forbidden = {"socket", "os", "time", "threading", "select", "pathlib", "io"}
    for module in sorted((PACKAGE / "protocol").glob("*.py")):
        used = {name.split(".")[0] for name in imports_of(module)}
        assert not used & forbidden, name_of(module)


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_no_room_is_crowded(module: Path) -> None:
    assert len(module.read_text().splitlines()) <= MOST_LINES
