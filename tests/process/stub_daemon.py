"""main.py with a worker of a few lines, which misbehaves on order.

Its orders are empty files in the store: see `ORDERS`. A client sends a word and gets the pid of
the worker that serves it; after the word "slow" the answer waits for the file "go".
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from socket import socket

from loguru import logger

from httpd import log
from httpd.config import Settings
from httpd.process import control, crew, daemon, master, takeover
from httpd.process.crew import Post, Workers
from httpd.process.daemon import Parts
from httpd.process.renewal import NOBODY

ORDERS = {
    "fail": "raise before being ready",
    "die": "exit before being ready",
    "hang": "never become ready",
    "crash": "die as soon as it is ready",
    "deaf": "do not listen to SIGTERM and SIGINT",
    "stall": "serve, but give no heartbeat",
    "slow-sweep": "in the master: take SWEEP_SECONDS to put the store in order",
    "no-fork": "in the master: no process can be made",
}
SWEEP_SECONDS = 6.0
# Deadlines that a test wants shorter: {"master.START_SECONDS": 0.2}
SHORTER = json.loads(os.environ.get("STUB_SHORTER", "{}"))
MODULES = {
    "control": control,
    "crew": crew,
    "daemon": daemon,
    "master": master,
    "takeover": takeover,
}


class StubStorage:
    def __init__(self, settings: Settings) -> None:
        self._store = settings.store

    def check_writable(self) -> None:
        (self._store / "probe").touch()
        if (self._store / "no-fork").exists():
            os.fork = no_fork

    def sweep(self, goes_on: Callable[[], object] = lambda: None) -> int:
        begun = time.monotonic()
        while (self._store / "slow-sweep").exists() and time.monotonic() < begun + SWEEP_SECONDS:
            goes_on()
            time.sleep(0.01)
        with open(self._store / "sweeps", "a") as file:
            file.write("swept\n")
        return 0


def no_fork() -> int:
    raise BlockingIOError(11, "Resource temporarily unavailable")


class StubWorker:
    def __init__(self, post: Post) -> None:
        self._store = post.settings.store
        self._listeners = post.listeners
        self._master_fd = post.master_fd
        self._beat = post.beat
        self._leaving = False

    def ordered(self, order: str) -> bool:
        return (self._store / order).exists()

    def take_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
            action = self._leave if number in (signal.SIGTERM, signal.SIGHUP) else self._quit
            signal.signal(number, action)
        signal.signal(signal.SIGUSR1, self._reopen)
        if self.ordered("deaf"):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, crew.TO_WORKERS)

    def serve(self) -> None:
        with suppress(OSError, ValueError):  # a listener was closed by `_leave` under our hands
            while not self._leaving:
                if not self.ordered("stall"):
                    self._beat()
                ready, _, _ = select.select([*self._listeners, self._master_fd], [], [], 0.02)
                if self._master_fd in ready:
                    return
                for listener in ready:
                    self._accept(listener)

    def _accept(self, listener: socket) -> None:
        try:
            client, _ = listener.accept()
        except BlockingIOError:
            return
        with client:
            client.settimeout(20)
            if client.recv(64) == b"slow":
                (self._store / "slow-begun").touch()
                while not self.ordered("go"):
                    time.sleep(0.005)
            client.sendall(str(os.getpid()).encode())

    def _leave(self, *_: object) -> None:
        self._leaving = True
        for listener in self._listeners:
            listener.close()

    def _quit(self, *_: object) -> None:
        os._exit(0)

    def _reopen(self, *_: object) -> None:
        log.reopen()
        logger.info("stub worker {} reopens", os.getpid())


def run_stub(post: Post) -> None:
    worker = StubWorker(post)
    if worker.ordered("fail"):
        raise RuntimeError("told to fail")
    if worker.ordered("die"):
        os._exit(7)
    while worker.ordered("hang"):
        time.sleep(0.005)
    worker.take_signals()
    os.write(post.ready_fd, b".")
    os.close(post.ready_fd)
    if worker.ordered("crash"):
        os._exit(9)
    worker.serve()


def stub_parts() -> Parts:
    return Parts(lambda _settings, _left: Workers(run_stub, NOBODY), StubStorage)


if __name__ == "__main__":
    for title, value in SHORTER.items():
        module, _, name = title.partition(".")
        setattr(MODULES[module], name, value)
    home = Path(__file__).resolve().parent
    sys.exit(control.main(sys.argv[1:], home, stub_parts))
