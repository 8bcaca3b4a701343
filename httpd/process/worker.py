"""One worker: puts the floors together and serves until it is told to leave.

The only place that knows storage, application and server at once.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
from collections.abc import Callable
from functools import partial
from socket import socketpair

from loguru import logger

from httpd import log, metrics
from httpd.app.metrics import Metrics
from httpd.app.routes import Application
from httpd.app.shares import Shares
from httpd.catalog import late
from httpd.catalog.errors import CatalogUnavailable
from httpd.catalog.late import LateCatalog
from httpd.config import VERSION, BadOption, Settings
from httpd.process.crew import Post, Workers
from httpd.process.heartbeats import EVERY_SECONDS
from httpd.server.listener import Server
from httpd.server.loop import Loop
from httpd.server.tally import Tally
from httpd.storage.local import LocalStorage
from httpd.storage.note import VERIFIED, Note
from httpd.traps import in_pool, pause, readable
from httpd.upkeep.census import keep_counting

# Where another daemon will serve what waits on the listeners, a restart need lose no request: so
# long may a connection go on to its next response, which tells its client to open another one.
GRACE_SECONDS = 1.0

# The collector looks at all that lives once in so many looks at what is young, by default in 10.
# With 9,000 connections that takes up to 73 ms, in which nobody is served, and it finds nothing: of
# 4,500 connections that came and went with no collector at all, fewer than 100 objects were left.
YOUNG_FOR_ONE_FULL = 1000
# After the start, whose first answers go before: loading shares the interpreter with the loop. It
# hands it over sooner than after the usual 5 ms (sys.setswitchinterval), which takes a third off
# the slowest answers meanwhile: p99 was 24 ms and not 39, on a machine as busy with other things.
LOADING_SECONDS = 0.2
LOADING_TURN_SECONDS = 0.0005


class Worker:
    """Serves on the listeners. Made after the fork: nothing in it may cross one."""

    def __init__(self, post: Post, tally: Tally) -> None:
        """Take what the master gives to every worker, and the tally that all of them share."""
        _allow_descriptors()
        self._post = post
        self._settings = settings = post.settings
        # Not so in a reload: the daemon goes on, and a probe may ask the worker that leaves.
        self._stopping = False
        self._loop = Loop(settings.threads)
        metrics.join(serving=True)
        self._storage = storage = open_storage(settings)
        self._catalog = open_catalog(settings)
        numbers = Metrics(storage, Note(settings.store, VERIFIED).read, VERSION)
        application = Application(
            storage,
            Shares(settings.workers, len(os.sched_getaffinity(0))),
            self._catalog.itself(),
            settings.hash,
            lambda: self._stopping,
            numbers.get,
        )
        self._server = Server(post.listeners, application, settings, self._loop, tally)
        # Every signal that a worker obeys, and what it does on it.
        self._actions: dict[int, Callable[[], None]] = {
            signal.SIGTERM: partial(self._leave, now=True),
            signal.SIGHUP: partial(self._leave, now=False),
            signal.SIGINT: self._loop.stop,
            signal.SIGQUIT: self._loop.stop,
            signal.SIGUSR1: log.reopen,
        }

    def run(self) -> None:
        """Serve until drained or stopped; tell the master when requests are taken."""
        gc.set_threshold(*gc.get_threshold()[:2], YOUNG_FOR_ONE_FULL)
        self._loop.spawn(self._obey_signals(), vital=True)
        self._loop.spawn(self._follow_master(self._post.master_fd), vital=True)
        self._loop.spawn(self._beat(), vital=True)
        self._server.start()
        self._loop.spawn(keep_counting(self._storage))
        self._loop.spawn(self._load_catalog())
        os.write(self._post.ready_fd, b".")
        os.close(self._post.ready_fd)
        self._loop.run()
        self._server.account()
        self._storage.close()

    async def _load_catalog(self) -> None:
        """Load what the start has left out, once those who waited for it have had their answers."""
        await pause(self._loop.now + LOADING_SECONDS)
        usual = sys.getswitchinterval()
        sys.setswitchinterval(LOADING_TURN_SECONDS)
        try:
            await in_pool(self._catalog.load)
        except CatalogUnavailable as error:
            logger.error("the catalog failed: {}", error)  # each call that needs it tries again
        else:
            logger.debug("the catalog is loaded")
        finally:
            sys.setswitchinterval(usual)
        gc.freeze()  # or full collections would go through all of that for ever

    async def _beat(self) -> None:
        """Show the master that the loop turns."""
        while True:
            self._post.beat()
            await pause(self._loop.now + EVERY_SECONDS)

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
        """Drain; `now` gives up on what takes longer than the drain timeout.

        Otherwise others serve already, and what is under way may take as long as its client keeps
        the pace that is asked for: every wait on a connection has a deadline of its own.
        """
        self._stopping = now
        lent = self._post.lent
        self._server.drain(now=now and not lent, accept=not lent)
        if now:
            self._loop.spawn(self._stop_at(self._loop.now + self._settings.drain_timeout))
        if now and lent:
            self._loop.spawn(self._close_idle_at(self._loop.now + GRACE_SECONDS))

    async def _close_idle_at(self, deadline: float) -> None:
        await pause(deadline)
        self._server.drain(now=True)

    async def _stop_at(self, deadline: float) -> None:
        await pause(deadline)
        logger.warning("{} connections are cut off", len(self._server.connections))
        self._loop.stop()


def open_storage(settings: Settings) -> LocalStorage:
    """Return the store that the settings name. Raises OSError."""
    durable = settings.durability == "full"
    return LocalStorage(settings.store, settings.hash, durable=durable)


def open_catalog(settings: Settings) -> LateCatalog:
    """Return the catalog that the settings name."""
    durable = settings.durability == "full"
    return LateCatalog(catalog_url(settings), durable=durable, threads=settings.threads)


def prepare(settings: Settings, *, whole: bool) -> None:
    """Load what a worker needs at once, or all; check what cannot be told later.

    Raises BadOption.
    """
    # A daemon that has given up being root may find Python's own folders closed.
    whole = whole or settings.user is not None or settings.group is not None
    try:
        late.prepare(catalog_url(settings), whole=whole)
    except ValueError as error:
        raise BadOption(f"--database-url: {error}") from None


def catalog_url(settings: Settings) -> str:
    """Return the URL of the catalog's database: a file in the store unless told otherwise."""
    return settings.database_url or f"sqlite:///{settings.store}/.catalog.db"


def make_workers(settings: Settings, left: int | None) -> Workers:
    """Make what the workers share, or go on with what is `left` of it. Raises OSError."""
    tally = Tally(settings.workers, left)

    def run_worker(post: Post) -> None:
        Worker(post, tally).run()

    return Workers(run_worker, tally.fileno())


def _allow_descriptors() -> None:
    """Raise the soft limit of open files to the hard one (setrlimit(2)).

    The soft limit is low for the sake of select(2); a connection and a file in every request need
    far more, and epoll has no such bound.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:  # in a sandbox the call may be refused, and there somebody has seen to it
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
