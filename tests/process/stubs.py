"""Daemons with stub workers, and orders for them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.daemons import PROJECT, Daemon, until

STUB = Path(__file__).parent / "stub_daemon.py"


class StubDaemon(Daemon):
    """A daemon whose workers are those of stub_daemon.py."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, STUB)
        self.store.mkdir()
        self.env["PYTHONPATH"] = str(PROJECT)

    def shorten(self, **deadlines: float) -> None:
        """Set deadlines, `module__NAME`, in what is started from now on."""
        named = {key.replace("__", "."): value for key, value in deadlines.items()}
        self.env["STUB_SHORTER"] = json.dumps(named)

    def order(self, order: str) -> None:
        """Leave an order for the workers."""
        (self.store / order).touch()

    def countermand(self, order: str) -> None:
        """Take an order back."""
        (self.store / order).unlink()

    def ask(self) -> int:
        """Make a request; return the pid of the worker that has answered."""
        with self.connect() as connection:
            connection.sendall(b"hello")
            return int(connection.recv(64))

    def ask_slowly(self) -> SlowRequest:
        """Begin a request that is under way until its answer is asked for."""
        return SlowRequest(self)

    @contextmanager
    def asked_all_the_time(self) -> Iterator[list[int]]:
        """Ask again and again; what has answered is in the list. A request that fails is raised."""
        answers: list[int] = []
        enough = threading.Event()

        def client() -> None:
            while not enough.is_set():
                answers.append(self.ask())

        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(client)
            try:
                yield answers
            finally:
                enough.set()
            asking.result()

    def sweeps(self) -> int:
        """Return how often the store has been swept."""
        return len((self.store / "sweeps").read_text().splitlines())


class SlowRequest:
    """A request that a worker has begun to serve."""

    def __init__(self, daemon: StubDaemon) -> None:
        self._daemon = daemon
        self.connection = daemon.connect()
        self.connection.sendall(b"slow")
        until((daemon.store / "slow-begun").exists, "the request is begun")

    def answer(self) -> bytes:
        """Let the worker answer; return what comes."""
        self._daemon.order("go")
        return self.rest()

    def rest(self) -> bytes:
        """Return what comes."""
        with self.connection:
            return self.connection.recv(64)
