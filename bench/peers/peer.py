"""A server that is measured: started on loopback in a folder of its own, and stopped."""

from __future__ import annotations

import http.client
import os
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from socket import create_server
from typing import ClassVar, TypeVar

from httpd.process import proc
from tests.daemons import PROJECT
from tests.vitals import cpu_seconds

T = TypeVar("T")

INSTALLED = PROJECT / "build" / "bench" / "bin"  # where `make bench` puts bench/requirements.txt
PATIENCE = 30.0  # seconds for a server to come up, or to end
POLL = 0.002  # seconds between two looks; it adds so much to a start at most
# Below those that outgoing connections are given (ip(7)); no two peers share one.
_PORTS = iter(range(21000, 32000))


class Peer(ABC):
    """A server with one way of being set up."""

    title: ClassVar[str]  # what the tables call it
    parts: ClassVar[frozenset[str]]  # which kinds of cases it takes part in
    package: ClassVar[str]  # what has to be installed for it
    method: ClassVar[str] = "PUT"  # of an upload
    # Two hex digits make a folder, as in filestored's store, where the name is the client's.
    named_by_client: ClassVar[bool] = True
    # It keeps something of files that it has served; what all have of them is the page cache.
    remembers: ClassVar[bool] = False

    def __init__(self, folder: Path) -> None:
        """Take a folder that is there for this server alone."""
        self.folder = folder
        self.data = folder / "data"
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        for number in range(256 if self.named_by_client else 0):
            (self.data / f"{number:02x}").mkdir(parents=True)

    @classmethod
    @abstractmethod
    def program(cls) -> str | None:
        """Return what runs it, None where this machine lacks it."""

    @classmethod
    @abstractmethod
    def version(cls) -> str:
        """Return what it says of its version."""

    @abstractmethod
    def command(self, workers: int) -> Sequence[str | Path]:
        """Return the command line that serves in the foreground."""

    @property
    def url(self) -> str:
        """The beginning of every URL."""
        return f"http://127.0.0.1:{self.port}"

    def begin(self, cores: Sequence[int]) -> None:
        """Start it on these cores, a worker a core; return at once."""
        with (self.folder / "log").open("wb") as log, on_cores(cores):
            self.process = subprocess.Popen(
                self.command(len(cores)), cwd=self.folder, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def answers(self) -> bool:
        """Tell whether it answers."""
        return bool(self.ask("GET", "/"))

    def start(self, cores: Sequence[int]) -> float:
        """Start it on these cores; return after how many seconds it has answered."""
        begun = time.monotonic()
        self.begin(cores)
        until(self.answers, f"{self.title} does not come up")
        return time.monotonic() - begun

    def stop(self) -> None:
        """End it in an orderly way, if it runs."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(PATIENCE)

    def last_words(self) -> str:
        """Return the end of what it has written while it came up."""
        log = self.folder / "log"
        return log.read_text()[-300:].strip() if log.is_file() else ""

    def processes(self) -> list[int]:
        """Return the pids of all that works for it."""
        return [] if self.process is None else with_children(self.process.pid)

    def cpu(self) -> float:
        """Return the seconds of CPU that its processes have used so far, in the kernel too."""
        return sum(cpu_seconds(pid) for pid in self.processes())

    def upload_target(self, name: str) -> str:
        """Return where content of that name, of hex digits, is sent to."""
        return f"/{name[-2:]}/{name}" if self.named_by_client else "/"

    def download_target(self, sent_to: str, answer: bytes) -> str:
        """Return where that content is found, after the answer to its upload."""
        del answer
        return sent_to

    def store_small(self, name: str, content: bytes) -> str:
        """Store small content; return the URL where it is got fastest."""
        target = self.upload_target(name)
        return self.url + self.download_target(target, self.ask(self.method, target, content))

    def ask(self, method: str, target: str, content: bytes | None = None, port: int = 0) -> bytes:
        """Make a request over a connection of its own; return its answer's content, or a space.

        Raises OSError, or ValueError where an upload or a deletion is refused.
        """
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=PATIENCE)
        try:
            connection.request(method, target, content)
            response = connection.getresponse()
            answer = response.read()
        except http.client.HTTPException as error:
            raise OSError(f"{self.title}: {error!r}") from error
        finally:
            connection.close()
        if method != "GET" and response.status >= 300:
            raise ValueError(f"{self.title}: {method} {target}: {response.status} {answer[:200]!r}")
        return answer or b" "


@contextmanager
def on_cores(cores: Sequence[int]) -> Iterator[None]:
    """Run what is in the body, and started in it, on these cores (sched_setaffinity(2))."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def until(condition: Callable[[], T], failure: str) -> T:
    """Call it again and again until it is true; raise TimeoutError if it never is."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            if value := condition():
                return value
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise TimeoutError(failure)
        time.sleep(POLL)


def with_children(pid: int) -> list[int]:
    """Return the pids of a process and its descendants."""
    return [pid, *(each for child in proc.children(pid) for each in with_children(child))]


def installed(name: str) -> str | None:
    """Return the path of a program, those of bench/requirements.txt first."""
    return shutil.which(name, path=INSTALLED) or shutil.which(name)


def said(*command: str) -> str:
    """Return what a short command prints, on either stream."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip()


def free_port() -> int:
    """Return a port that nobody has, and that nobody else is given here."""
    for port in _PORTS:
        try:
            create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
    raise RuntimeError("there is no free port")
