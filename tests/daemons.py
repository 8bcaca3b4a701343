"""Real daemons for the tests: started by their command line, in a folder of their own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from httpd.process import proc

T = TypeVar("T")

PROJECT = Path(__file__).resolve().parent.parent
PATIENCE = 20.0  # seconds; only a test that fails takes that long
ANNOUNCEMENT = re.compile(r"listening on (\S+), pid (\d+)")


def until(condition: Callable[[], T], what: str = "") -> T:
    """Call it again and again until it is true; fail if that does not come to pass in time."""
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < deadline, f"never came true: {what or condition}"
        time.sleep(0.005)
    return value


class Daemon:
    """Runs a script's commands with a store, log folder and pidfile below `folder`."""

    def __init__(self, folder: Path, script: Path = PROJECT / "main.py") -> None:
        self.script = script
        self.folder = folder
        self.store = folder / "store"
        self.logs = folder / "log"
        self.pidfile = folder / "pid"
        self.host, self.port, self.pid = "127.0.0.1", 0, 0
        self.env = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("FILESTORED_", "FILE_SERVICE_"))
        }

    def line(self, command: str, *flags: str) -> list[str]:
        """Return the command line, with safe options that `flags` may replace."""
        own = [f"--pidfile={self.pidfile}"]
        if command in ("start", "run"):
            own += [f"--store={self.store}", f"--log-dir={self.logs}", "--durability=none"]
            own += [f"--host={self.host}", f"--port={self.port}", "--workers=2"]
        return [sys.executable, str(self.script), command, *own, *flags]

    def command(self, command: str, *flags: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self.line(command, *flags), cwd=self.folder, env=self.env, text=True,
            capture_output=True, timeout=3 * PATIENCE, check=False,
        )  # fmt: skip

    def start(self, *flags: str, command: str = "start") -> Daemon:
        """Start it in the background, or `restart` it."""
        done = self.command(command, *flags)
        assert done.returncode == 0, done.stderr
        self.note(done.stdout)
        return self

    def run(self, *flags: str) -> subprocess.Popen[str]:
        """Start it in the foreground; return when it has told where it listens."""
        process = subprocess.Popen(
            self.line("run", *flags), cwd=self.folder, env=self.env, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        self.note(process.stdout.readline())
        return process

    def note(self, announcement: str) -> None:
        """Take address and pid from what `start` has printed."""
        found = ANNOUNCEMENT.search(announcement)
        assert found, announcement
        if found[1].startswith("http:"):
            self.port = int(found[1].rpartition(":")[2])
        self.pid = int(found[2])

    def stop(self) -> None:
        """Stop it as a user would."""
        done = self.command("stop")
        assert done.returncode == 0, done.stderr

    def signal(self, number: signal.Signals) -> None:
        """Send the master a signal."""
        os.kill(self.pid, number)

    def workers(self) -> set[int]:
        """Return the pids of the living workers."""
        return set(proc.children(self.pid))

    def processes(self) -> set[int]:
        """Return the pids of all that lives with this folder on its command line."""
        mark = f"{self.folder}/".encode()
        return {pid for pid in _all_processes() if mark in _command_line(pid) and proc.stat(pid)}

    def gone(self) -> bool:
        """Tell whether the last process has ended."""
        return not self.processes()

    @property
    def url(self) -> str:
        """Return the beginning of every URL of its own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def loaded(self) -> bool:
        """Tell whether all workers of a fresh start have loaded what it leaves for later."""
        return self.life_log().count("the catalog is loaded") >= len(self.workers())

    def staged(self) -> list[str]:
        """Return the names of what is on its way into the store."""
        folder = self.store / ".tmp"
        return os.listdir(folder) if folder.is_dir() else []

    def memory(self, *, anew: bool = False) -> int:
        """Return the bytes that its processes have had in memory at most, all added up.

        It is the kernel's own high-water mark (VmHWM, proc(5)), which no peak can slip past; `anew`
        begins it again at what is in memory now.
        """
        return sum(_peak_memory(pid, anew=anew) for pid in (self.pid, *self.workers()))

    def life_log(self) -> str:
        """Return what has been logged of its life-cycle."""
        file = self.logs / "filestored.log"
        return file.read_text() if file.exists() else ""

    def connect(self) -> socket.socket:
        """Return a connection to it."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def end(self) -> None:
        """Stop it if it runs; fail, after killing by number, where a process is left over."""
        try:
            self.stop()
            until(self.gone, "a process is left over")
        finally:
            for pid in self.processes():
                os.kill(pid, signal.SIGKILL)


def _all_processes() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdecimal()]


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _peak_memory(pid: int, *, anew: bool) -> int:
    if anew:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024
