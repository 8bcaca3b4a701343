"""Where daemons and commands are forked from: a process that has imported all of main.py.

A start takes a tenth of what it takes from the command line, so that hundreds fit into minutes;
what runs is what main.py runs. It adopts the orphans (PR_SET_CHILD_SUBREAPER, prctl(2)) of a
master that was killed, and so knows when the last process of a daemon has ended.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, NoReturn

from tests.crash.flushes import leave_out

PROJECT = Path(__file__).resolve().parent.parent.parent
# Contents beyond it are written past the page cache: of those that are tried, from 300 KiB on.
CACHED = 200 << 10
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


class Ended(NamedTuple):
    """A command that has ended."""

    code: int
    out: str
    err: str


class Nursery:
    """The tests' end of it: one daemon at a time, and commands beside it."""

    def __init__(self, folder: Path) -> None:
        """Start it; what it starts finds `folder` as its working directory, and logs there."""
        env = {k: v for k, v in os.environ.items() if not k.startswith(("FILESTORED", "FILE_SERV"))}
        self._folder = folder
        self._lock = Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.nursery", folder], cwd=PROJECT, env=env, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *args: str, without: str = "") -> int:
        """Fork a daemon for `main.py run` with these options; return the master's pid at once.

        `without`: the flush that it does not make, see `flushes`.
        """
        return int(self._ask("run", args=args, without=without))

    def announcement(self) -> str:
        """Wait until the daemon has told where it listens; "" if it ends without that."""
        return str(self._ask("announcement"))

    def command(self, *args: str, without: str = "") -> Ended:
        """Run another command of main.py to its end; `without`: as for `run`."""
        return Ended(*self._ask("command", args=args, without=without))

    def interrupted(self, *args: str, after: float, without: str = "") -> Ended:
        """Run a command, and interrupt it (SIGINT) after so many seconds."""
        return Ended(*self._ask("command", args=args, without=without, interrupt=after))

    def kill(self) -> None:
        """Kill the daemon, the master first; return when the last process has ended."""
        self._ask("kill")

    def close(self) -> None:
        """Kill the daemon if there is one, and end."""
        self.kill()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        assert self._process.wait() == 0

    @property
    def pid(self) -> int:
        """Its process, which everything else is forked from."""
        return self._process.pid

    @property
    def log(self) -> str:
        """What the daemons have logged, and the last command."""
        logs = (self._folder / "err", self._folder / "command.err")
        return "".join(log.read_text(errors="replace") for log in logs if log.exists())

    def _ask(self, verb: str, **values: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps({"verb": verb, **values}) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())


def _write_event(descriptor: int, value: int) -> None:
    """Do what os.eventfd_write does, by another system call than that by which files are written.

    Faults are chosen by the name of a call and its number, and no disk can fail this one: a thread
    that could not tell that it is done would be waited for without an end.
    """
    os.writev(descriptor, [value.to_bytes(8, sys.byteorder)])


class _Nurse:
    """The process itself."""

    def __init__(self, folder: Path) -> None:
        # Not before: the tests themselves need none of it.
        from httpd.process import upkeep, worker  # noqa: F401 - imported later by who needs them
        from httpd.process.control import main
        from httpd.storage import staging

        import_module("httpd.catalog.catalog")  # or each daemon would load it by itself
        import_module("sqlalchemy.dialects.sqlite.pysqlite").dialect.import_dbapi()
        os.eventfd_write = _write_event
        staging.CACHED = CACHED
        self._main: Callable[..., int] = main
        self._folder = folder
        self._master = 0
        self._told = -1

    def run(self, args: list[str], without: str) -> int:
        self._told, told = os.pipe()
        self._master = os.fork()
        if self._master == 0:
            os.close(self._told)
            self._become(args, told, "err", without)
        os.close(told)
        return self._master

    def announcement(self) -> str:
        with open(self._told) as told:
            return next((line for line in told if "listening on" in line), "")

    def command(self, args: list[str], without: str, interrupt: float = 0) -> Ended:
        out = os.open(self._folder / "command.out", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        (self._folder / "command.err").unlink(missing_ok=True)
        pid = os.fork()
        if pid == 0:
            self._become(args, out, "command.err", without)
        os.close(out)
        if interrupt:
            time.sleep(interrupt)
            os.kill(pid, signal.SIGINT)
        _, status = os.waitpid(pid, 0)
        texts = [(self._folder / f"command.{name}").read_text() for name in ("out", "err")]
        return Ended(os.waitstatus_to_exitcode(status), *texts)

    def kill(self) -> None:
        if self._master:
            os.kill(self._master, signal.SIGKILL)
            os.waitpid(self._master, 0)
            self._master = 0
        # By now the master's children are ours.
        while children := Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
            for pid in map(int, children):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)

    def _become(self, args: list[str], out: int, err: str, without: str) -> NoReturn:
        """Be the command, in the child."""
        code = 70
        try:
            os.setsid()
            os.chdir(self._folder)
            nothing = os.open(os.devnull, os.O_RDWR)
            log = os.open(self._folder / err, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            for number, descriptor in enumerate((nothing, out, log)):
                os.dup2(descriptor, number)
            os.closerange(3, 1024)
            if without:
                leave_out(without)
            code = self._main(args, home=PROJECT)
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def _serve(nurse: _Nurse) -> None:
    try:
        for line in sys.stdin:
            words = json.loads(line)
            answer = getattr(nurse, words.pop("verb"))(**words)
            print(json.dumps(answer), flush=True)
    finally:  # even where the tests were killed and nobody listens
        with suppress(ProcessLookupError):
            nurse.kill()


if __name__ == "__main__":
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    _serve(_Nurse(Path(sys.argv[1])))
