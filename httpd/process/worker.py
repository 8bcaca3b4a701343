"""One worker: puts the floors together and serves until it is told to leave.

The only place that knows storage, application and server at once.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable, Sequence
from functools import partial
from socket import socket, socketpair

from loguru import logger

from httpd import log
from httpd.app.routes import Application
from httpd.catalog.catalog import Catalog
from httpd.config import BadOption, Settings
from httpd.server.listener import Server
from httpd.server.loop import Loop
from httpd.storage.local import LocalStorage
from httpd.traps import pause, readable


class Worker:
    """Serves on the listeners. Made after the fork: nothing in it may cross one."""

    def __init__(self, settings: Settings, listeners: Sequence[socket]) -> None:
        """Take the settings, and the listening sockets that all workers share."""
        self._settings = settings
        # Not so in a reload: the daemon goes on, and a probe may ask the worker that leaves.
        self._stopping = False
        self._loop = Loop(settings.threads)
        self._storage = storage = open_storage(settings)
        catalog = open_catalog(settings)
        application = Application(storage, catalog, settings.hash, lambda: self._stopping)
        self._server = Server(listeners, application, settings, self._loop)
        # Every signal that a worker obeys, and what it does on it.
        self._actions: dict[int, Callable[[], None]] = {
            signal.SIGTERM: partial(self._leave, now=True),
            signal.SIGHUP: partial(self._leave, now=False),
            signal.SIGINT: self._loop.stop,
            signal.SIGQUIT: self._loop.stop,
            signal.SIGUSR1: log.reopen,
        }

    def run(self, ready_fd: int, master_fd: int) -> None:
        """Serve until drained or stopped; write a byte to `ready_fd` when requests are taken.

        `master_fd` is the read end of a pipe that the master holds open: its end is the master's.
        """
        _allow_descriptors()
        self._loop.spawn(self._obey_signals())
        self._loop.spawn(self._follow_master(master_fd))
        self._server.start()
        os.write(ready_fd, b".")
        os.close(ready_fd)
        self._loop.run()
        self._storage.close()

    async def _obey_signals(self) -> None:
        """Take signals as bytes of a socket (signal.set_wakeup_fd), so on the loop's own turn."""
        receiver, sender = socketpair()
        receiver.setblocking(False)
        sender.setblocking(False)
        signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
        for number in self._actions:
            signal.signal(number, lambda *_: None)  # the byte is what counts
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._actions)
        while True:
            await readable(receiver.fileno())
            for number in receiver.recv(64):
                action = self._actions.get(number)
                if action is not None:
                    action()

    async def _follow_master(self, master_fd: int) -> None:
        await readable(master_fd)
        logger.warning("the master is gone: leaving")
        self._leave(now=True)

    def _leave(self, *, now: bool) -> None:
        """Drain, and give up on what takes longer than the drain timeout."""
        self._stopping = now
        self._server.drain(now=now)
        patience = self._settings.drain_timeout + (0 if now else self._settings.idle_timeout)
        self._loop.spawn(self._stop_at(self._loop.now + patience))

    async def _stop_at(self, deadline: float) -> None:
        await pause(deadline)
        logger.warning("{} connections are cut off", len(self._server.connections))
        self._loop.stop()


def open_storage(settings: Settings) -> LocalStorage:
    """Return the store that the settings name. Raises OSError."""
    durable = settings.durability == "full"
    return LocalStorage(settings.store, settings.hash, durable=durable)


def open_catalog(settings: Settings) -> Catalog:
    """Return the catalog that the settings name. Raises ValueError."""
    durable = settings.durability == "full"
    return Catalog.open(catalog_url(settings), durable=durable, threads=settings.threads)


def prepare(settings: Settings) -> None:
    """Load what a worker needs, and check what cannot be told later. Raises BadOption."""
    try:
        Catalog.prepare(catalog_url(settings))
    except ValueError as error:
        raise BadOption(f"--database-url: {error}") from None


def catalog_url(settings: Settings) -> str:
    """Return the URL of the catalog's database: a file in the store unless told otherwise."""
    return settings.database_url or f"sqlite:///{settings.store}/.catalog.db"


def run_worker(
    settings: Settings, listeners: Sequence[socket], ready_fd: int, master_fd: int
) -> None:
    """Be a worker, in a process that the master has forked for it."""
    Worker(settings, listeners).run(ready_fd, master_fd)


def _allow_descriptors() -> None:
    """Raise the soft limit of open files to the hard one (setrlimit(2)).

    The soft limit is low for the sake of select(2); a connection and a file in every request need
    far more, and epoll has no such bound.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
