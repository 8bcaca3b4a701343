"""A machine with a real systemd, and the project in it as a user would have cloned it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.daemons import PATIENCE, PROJECT

SCRIPT = Path(__file__).with_name("machine.sh")
PLACE = "/home/a user/file store"  # where the project lies in it: with spaces, in somebody's home
LIBRARIES = "/srv/libraries"  # what its virtual environment has: there is no network to get it from
NOT_CLONED = (".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", "*.egg-info", "log", "??")
PYTHON = Path(sys.executable).resolve()


class Machine:
    """One that is shut down, until it is started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.project = folder / "project"

    def _script(self, action: str, *arguments: str, timeout: float = 3 * PATIENCE) -> str:
        done = subprocess.run(
            [str(SCRIPT), action, str(self.folder), *arguments], text=True, timeout=timeout,
            capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def install_project(self) -> None:
        """Copy the project, with a virtual environment that is ready."""
        shutil.copytree(PROJECT, self.project, ignore=shutil.ignore_patterns(*NOT_CLONED))
        environment = self.project / ".venv"
        venv.create(environment, symlinks=True)
        (packages,) = environment.glob("lib/python*/site-packages")
        (packages / "libraries.pth").write_text(LIBRARIES)
        (environment / ".ready").touch()
        subprocess.run(["chmod", "-R", "o+rX", str(self.project)], check=True)

    def start(self) -> None:
        """Boot it."""
        (libraries,) = {path for path in map(Path, sys.path) if path.name == "site-packages"}
        self._script("start", f"{PLACE}={self.project}", f"{LIBRARIES}={libraries}")

    def reboot(self) -> None:
        """Shut it down and boot it; its disk stays, and nothing else does."""
        self._script("stop")
        self.start()

    def remove(self) -> None:
        """Shut it down for good."""
        self._script("remove")

    def ask(self, *command: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command in it."""
        path = f"{PYTHON.parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return subprocess.run(
            [str(SCRIPT), "exec", str(self.folder), *command], text=True, input=text,
            env={**os.environ, "MACHINE_PATH": path}, timeout=6 * PATIENCE, capture_output=True,
            check=False,
        )  # fmt: skip

    def do(self, *command: str) -> str:
        """Run a command in it that must succeed; return what it prints."""
        done = self.ask(*command)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def setup(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the project's setup script in it."""
        return self.ask(f"{PLACE}/setup_systemd.sh", *arguments)

    def show(self, unit: str, *properties: str) -> list[str]:
        """Return properties of a unit."""
        lines = self.do("systemctl", "show", unit, *(f"--property={each}" for each in properties))
        found = dict(line.split("=", 1) for line in lines.splitlines())
        return [found[each] for each in properties]

    def pid(self, unit: str) -> int:
        """Return the pid that a service's master has in it."""
        return int(self.show(unit, "MainPID")[0])

    def workers(self, unit: str) -> set[int]:
        """Return the pids that a service's workers have in it."""
        done = self.ask("pgrep", "-P", str(self.pid(unit)))
        return set(map(int, done.stdout.split()))

    def fetch(self, port: int, target: str = "/healthz", *flags: str) -> str:
        """Make a request in it; return the body."""
        return self.do("curl", "-sS", "-f", *flags, f"http://127.0.0.1:{port}{target}")

    @contextmanager
    def load(self, port: int) -> Iterator[dict[str, Any]]:
        """Keep clients busy in its network; what has become of their requests is in the result."""
        pid = (self.folder / "pid").read_text().strip()
        line = ["nsenter", "-t", pid, "-n", sys.executable, "-m", "tests.load"]
        line += [f"http://127.0.0.1:{port}", "120"]
        result: dict[str, Any] = {}
        with subprocess.Popen(
            line, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as clients:
            assert clients.stdout is not None
            clients.stdout.readline()
            try:
                yield result
            finally:
                told, _ = clients.communicate(timeout=6 * PATIENCE)
        result.update(json.loads(told))
