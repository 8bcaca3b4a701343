"""The worker's event loop: epoll(7), deadlines and the pool, and the coroutines that wait on them.

Own code rather than asyncio: a request costs a tenth of what asyncio's transports and futures
take, and the loop stays short enough to be read at one sitting.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from math import inf
from select import EPOLLIN, epoll
from time import monotonic
from typing import Any

from loguru import logger

from httpd.server.deadlines import TICK, Deadlines
from httpd.server.pool import Pool
from httpd.traps import NOTHING, Attempt, DeadlineExpired, Job


class Task:
    """A coroutine on the loop, and what it waits for."""

    __slots__ = ("attempt", "coroutine", "deadline", "descriptor", "slot", "vital")

    def __init__(self, coroutine: Coroutine[Any, None, None], *, vital: bool) -> None:
        """Take the coroutine to drive, and whether the loop is of no use without it."""
        self.coroutine = coroutine
        self.vital = vital
        self.descriptor = NOTHING
        self.attempt: Attempt | None = None  # is called first when the descriptor is ready
        self.deadline = inf  # monotonic seconds; inf while it does not wait for a descriptor
        self.slot: int | None = None  # where Deadlines has filed it


class Loop:
    """Drives tasks by the traps that they yield (see `httpd.traps`), in one thread.

    A descriptor is registered level-triggered with the events that were last waited for, and
    stays so between waits: a request that is received, answered and followed by another costs no
    epoll_ctl(2). An event that nobody waits for takes the descriptor out until somebody does.
    """

    def __init__(self, threads: int) -> None:
        """Make a loop with a pool of up to `threads` threads; never before a fork."""
        self.now = monotonic()
        # Called in each turn: before anything is resumed, and when everything has been.
        self.on_wake: list[Callable[[], None]] = []
        self.after_turn: list[Callable[[], None]] = []
        self._epoll = epoll()
        self._pool = Pool(threads)
        self._epoll.register(self._pool.fileno(), EPOLLIN)
        self._registered: dict[int, int] = {}
        self._waiting: dict[int, Task] = {}
        self._deadlines = Deadlines()
        self._stopping = False

    def spawn(self, coroutine: Coroutine[Any, None, None], *, vital: bool = False) -> Task:
        """Start a coroutine and run it to its first trap.

        `vital`: an error that ends it ends the loop as well. A worker that has gone deaf is worse
        than one that is replaced.
        """
        task = Task(coroutine, vital=vital)
        self._resume(task)
        return task

    def stop(self) -> None:
        """Let `run` return at the end of this turn."""
        self._stopping = True

    def run(self) -> None:
        """Turn until stopped: whatever is ready goes on, in the order epoll names it."""
        while not self._stopping:
            self.turn()

    def turn(self) -> None:
        """Wait until something is ready, and resume every task that it lets go on."""
        events = self._epoll.poll(self._deadlines.until_next(monotonic()))
        self.now = monotonic()
        for hook in self.on_wake:
            hook()
        for descriptor, _ in events:
            task = self._waiting.get(descriptor)
            if task is not None:
                self._wake(task)
            elif descriptor == self._pool.fileno():
                self._collect()
            else:
                self._unregister(descriptor)
        for task in self._deadlines.expired(self.now):
            self._waiting.pop(task.descriptor, None)
            self._resume(task, DeadlineExpired())
        for hook in self.after_turn:
            hook()

    def hasten(self, task: Task) -> None:
        """Let a waiting task's deadline expire in the next turn."""
        if task.deadline != inf:
            task.deadline = self.now - TICK  # so that its slot has come up already
            self._deadlines.file(task)

    def drop(self, task: Task) -> None:
        """Resume a waiting task never again."""
        self._waiting.pop(task.descriptor, None)
        self._deadlines.drop(task)

    def forget(self, descriptor: int) -> None:
        """Drop a descriptor that is about to be closed; its number may come back at once."""
        self._waiting.pop(descriptor, None)
        self._unregister(descriptor)

    def _collect(self) -> None:
        for job in self._pool.collect():
            if job.waiter is not None:
                self._resume(job.waiter)

    def _wake(self, task: Task) -> None:
        """Resume a task whose descriptor is ready, unless its attempt leaves nothing to do."""
        error = None
        if task.attempt is not None:
            try:
                deadline = task.attempt()
            except Exception as raised:
                error = raised
            else:
                if deadline is not None:
                    task.deadline = deadline
                    self._deadlines.file(task)
                    return
        del self._waiting[task.descriptor]
        self._resume(task, error)

    def _resume(self, task: Task, error: Exception | None = None) -> None:
        task.deadline = inf
        try:
            trap = task.coroutine.send(None) if error is None else task.coroutine.throw(error)
            while type(trap) is Job and not trap.started:
                self._pool.start(trap)
                trap = task.coroutine.send(None)
        except StopIteration:
            self._deadlines.drop(task)
        except Exception:
            # A fault in one task ends that task, never the worker and its other clients.
            self._deadlines.drop(task)
            logger.exception("a task ended by an unexpected error")
            if task.vital:
                raise
        else:
            self._park(task, trap)

    def _park(self, task: Task, trap: Any) -> None:
        if type(trap) is Job:
            trap.waiter = task
            return
        descriptor, events, task.deadline, task.attempt = trap
        task.descriptor = descriptor
        if descriptor != NOTHING:
            self._waiting[descriptor] = task
            if self._registered.get(descriptor) != events:
                self._register(descriptor, events)
        if task.deadline != inf:
            self._deadlines.file(task)

    def _register(self, descriptor: int, events: int) -> None:
        if descriptor in self._registered:
            self._epoll.modify(descriptor, events)
        else:
            self._epoll.register(descriptor, events)
        self._registered[descriptor] = events

    def _unregister(self, descriptor: int) -> None:
        if self._registered.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)
