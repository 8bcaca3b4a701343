"""The threads for calls that block: hashing a big piece, write, fsync, link."""

from __future__ import annotations

import os
from collections import deque
from queue import SimpleQueue
from threading import Thread
from typing import Any

from httpd.traps import Job


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
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """Return the descriptor that is readable while finished jobs wait to be collected."""
        return self._event

    def start(self, job: Job[Any]) -> None:
        """Queue a job; another thread is started while there are more jobs than threads.

        Where the system gives no thread at all, the job has failed with RuntimeError at once.
        """
        job.started = True
        if self._threads < min(self._size, self._unfinished + 1):
            try:
                self._add_thread()
            except RuntimeError as error:  # pthread_create(3), EAGAIN
                if not self._threads:
                    job.error = error
                    job.done = True
                    return
        self._unfinished += 1
        self._queue.put(job)

    def collect(self) -> list[Job[Any]]:
        """Take the finished jobs, in the order in which they finished."""
        os.eventfd_read(self._event)
        jobs = [self._finished.popleft() for _ in range(len(self._finished))]
        self._unfinished -= len(jobs)
        return jobs

    def _add_thread(self) -> None:
        # A daemon thread: a worker leaves by os._exit and waits for nobody.
        Thread(target=self._work, name=f"pool-{self._threads + 1}", daemon=True).start()
        self._threads += 1

    def _work(self) -> None:
        while True:
            job = self._queue.get()
            job.run()
            self._finished.append(job)
            os.eventfd_write(self._event, 1)
            del job  # or an idle thread would keep what it has worked on in memory
