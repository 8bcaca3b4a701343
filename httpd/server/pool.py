"""The threads for calls that block: hashing a big piece, write, fsync, rename."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any

from httpd.traps import Job

# Items of one shared call. It answers all of them at its end, and holds their content until then.
MOST_TOGETHER = 64

# Jobs of a lane that a thread runs in a row while others wait for one.
TURNS = 16


class Group:
    """The jobs that share the calls of one function, see `traps.together`."""

    def __init__(self, function: Callable[[list[Any]], Sequence[Any]]) -> None:
        """Take the function."""
        self._function = function
        self._waiting: deque[Job[Any]] = deque()
        self._lock = Lock()
        self._called = False

    def add(self, job: Job[Any]) -> bool:
        """Let a job wait for the next call; tell whether none is made, so that one has to be."""
        with self._lock:
            self._waiting.append(job)
            starts, self._called = not self._called, True
            return starts

    def take(self) -> list[Job[Any]]:
        """Take the jobs for one call; where there are none, no call is made any more."""
        with self._lock:
            count = min(len(self._waiting), MOST_TOGETHER)
            self._called = count > 0
            return [self._waiting.popleft() for _ in range(count)]

    def call(self, jobs: list[Job[Any]]) -> None:
        """Make the call for these jobs, in a thread of the pool."""
        try:
            outcomes = self._function([job.args[0] for job in jobs])
        except BaseException as error:
            outcomes = [error] * len(jobs)
        for job, outcome in zip(jobs, outcomes, strict=True):
            job.finish(outcome)


class Pool:
    """Up to `size` threads that run jobs, and an eventfd(2) that tells the loop of finished ones.

    Not `concurrent.futures`: a submit there costs ten times a put into a SimpleQueue, and its
    futures carry locks that a loop with one thread of its own does not need.
    """

    def __init__(self, size: int) -> None:
        """Make the pool; threads start with the jobs that need them, never before a fork."""
        self._size = size
        self._threads = 0
        self._unfinished = 0
        self._queue: SimpleQueue[Job[Any]] = SimpleQueue()
        self._finished: deque[Job[Any]] = deque()
        self._lanes = Lock()  # held wherever a lane is used
        self._groups: dict[Callable[..., Any], Group] = {}
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """Return the descriptor that is readable while finished jobs wait to be collected."""
        return self._event

    def start(self, job: Job[Any]) -> None:
        """Queue a job; another thread is started while there are more jobs than threads.

        Where the system gives no thread at all, the job has failed with RuntimeError at once.
        """
        job.started = True
        if job.shared:
            self._start_shared(job)
            return
        if self._threads < min(self._size, self._unfinished + 1):
            try:
                self._add_thread()
            except RuntimeError as error:  # pthread_create(3), EAGAIN
                if not self._threads:
                    job.finish(error)
                    return
        self._unfinished += 1
        if self._enter_lane(job):
            self._queue.put(job)

    def collect(self) -> list[Job[Any]]:
        """Take the finished jobs, in the order in which they finished."""
        os.eventfd_read(self._event)
        jobs = [self._finished.popleft() for _ in range(len(self._finished))]
        self._unfinished -= sum(not job.shared for job in jobs)
        return jobs

    def _start_shared(self, job: Job[Any]) -> None:
        group = self._groups.get(job.function)
        if group is None:
            group = self._groups[job.function] = Group(job.function)
        if group.add(job):
            calls: Job[None] = Job(self._call_for_all, (group,))
            self.start(calls)
            if calls.error is not None:
                for each in group.take():
                    each.finish(calls.error)
                group.take()

    def _call_for_all(self, group: Group) -> None:
        while jobs := group.take():
            group.call(jobs)
            self._finished.extend(jobs)
            os.eventfd_write(self._event, 1)

    def _enter_lane(self, job: Job[Any]) -> bool:
        """Let a job into its lane; tell whether it is its turn at once."""
        if job.lane is None:
            return True
        with self._lanes:
            if job.lane.taken:
                job.lane.waiting.append(job)
                return False
            job.lane.taken = True
            return True

    def _leave_lane(self, job: Job[Any]) -> Job[Any] | None:
        """End a job's turn in its lane; return the job whose turn it is now."""
        if job.lane is None:
            return None
        with self._lanes:
            if job.lane.waiting:
                return job.lane.waiting.popleft()
            job.lane.taken = False
            return None

    def _add_thread(self) -> None:
        # A daemon thread: a worker leaves by os._exit and waits for nobody.
        Thread(target=self._work, name=f"pool-{self._threads + 1}", daemon=True).start()
        self._threads += 1

    def _work(self) -> None:
        # A thread that is given work does not interrupt the loop that gives it, see sched(7).
        # Measured, 64 connections on one core: 340 µs of CPU for a small upload, and not 415.
        with suppress(OSError):  # a container may not allow it
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        while True:
            job: Job[Any] | None = self._queue.get()
            turns = 0
            while job is not None:
                job.run()
                self._finished.append(job)
                os.eventfd_write(self._event, 1)
                job = self._leave_lane(job)
                turns += 1
                if job is not None and turns >= TURNS and not self._queue.empty():
                    self._queue.put(job)
                    break
            del job  # or an idle thread would keep what it has worked on in memory
