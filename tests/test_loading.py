"""What a start loads, and what it leaves for later: its time is that of its imports."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemons import PROJECT, Daemon, until
from tests.service import Service

HEAVY = {
    "sqlalchemy": "the catalog's, loaded when the workers serve",
    "psycopg": "PostgreSQL's driver, where the database is one",
    "prometheus_client": "rendering of /metrics, loaded by the first scrape",
    "http.client": "for `status`",
    "requests": "for sender.py",
    "tqdm": "for sender.py, verify and import",
}
PREPARED = """
import json, sys
from httpd import config
from httpd.process.control import _own_parts
from pathlib import Path
settings = config.read(sys.argv[2:], Path("/nowhere"), ())[1]
_own_parts().prepare(settings, whole=sys.argv[1] == "whole")
print(json.dumps(list(sys.modules)))
"""
ASKED = "import json, sys, httpd.process.control; print(json.dumps(list(sys.modules)))"


def modules(code: str, *words: str) -> set[str]:
    """Return the modules that a fresh interpreter has loaded after that."""
    line = [sys.executable, "-c", code, *words]
    done = subprocess.run(line, cwd=PROJECT, capture_output=True, check=True)
    return set(json.loads(done.stdout))


@pytest.fixture(scope="module")
def at_start() -> set[str]:
    return modules(PREPARED, "at-once", "start")


@pytest.mark.parametrize("name", HEAVY)
def test_start_does_not_load(name: str, at_start: set[str]) -> None:
    assert name not in at_start


def test_commands_do_not_load_what_makes_a_daemon() -> None:
    loaded = modules(ASKED)
    assert "httpd.process.pidfile" in loaded
    assert not loaded & {"loguru", "daemon", "asyncio", "httpd.process.master", *HEAVY}


@pytest.mark.parametrize(
    "words",
    [
        ("whole", "start"),
        ("at-once", "start", "--user=root"),
        ("at-once", "start", "--group=0"),
        ("at-once", "start", "--database-url=postgresql://h/d"),
    ],
    ids=["nobody-waits", "user", "group", "postgresql"],
)
def test_what_must_be_there_beforehand_is_loaded(words: tuple[str, ...]) -> None:
    loaded = modules(PREPARED, *words)
    driver = "psycopg" if "postgresql" in words[-1] else "sqlite3"
    assert {"httpd.catalog.catalog", driver} <= loaded


class Program(Daemon):
    """A daemon whose code can be changed."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, folder / "program" / "main.py")
        shutil.copytree(PROJECT / "httpd", folder / "program" / "httpd")
        shutil.copy(PROJECT / "main.py", self.script)

    def spoil(self) -> None:
        """Put a fault into what is loaded late."""
        schema = self.script.parent / "httpd" / "catalog" / "schema.py"
        schema.write_text("import no_such_module\n")


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    daemon = Program(tmp_path)
    yield daemon
    daemon.end()


def test_workers_load_the_catalog_by_themselves(daemon: Daemon) -> None:
    daemon.start()
    until(daemon.loaded)
    assert len(daemon.workers()) == 2


@pytest.mark.parametrize("command", ["reload", "restart"])
def test_fault_in_what_comes_late_is_found_while_nothing_is_given_up(
    command: str, program: Program
) -> None:
    program.start("--workers=1")
    until(program.loaded)
    program.spoil()
    done = program.command(command)
    assert (done.returncode, done.stdout) == (1, "")
    assert "No module named 'no_such_module'" in done.stderr
    assert program.command("get_pid").stdout == f"{program.pid}\n"
    with Service(program) as service:
        assert service.post("/files/a.txt", data=b"a").status_code == 201


def test_fault_that_a_start_does_not_find_is_told_later(program: Program) -> None:
    program.spoil()
    program.start("--workers=1")
    until(lambda: "its code cannot be loaded" in program.life_log())
    with Service(program) as service:
        assert service.post("/", data=b"a").status_code == 200
        assert service.post("/files/a.txt", data=b"a").status_code == 503
        assert service.get("/readyz").status_code == 503
