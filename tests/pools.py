"""Closing a pool. A worker never does: it leaves by _exit(2), and its threads with it."""

from __future__ import annotations

import os
from threading import Semaphore

from httpd.server.pool import Pool
from tests.daemons import PATIENCE


class _Last:
    """In place of a job: a thread that takes it has told of all its jobs, and gets no other."""

    def __init__(self) -> None:
        self.taken = Semaphore(0)
        self._never = Semaphore(0)

    def run(self) -> None:
        self.taken.release()
        self._never.acquire()


def close(pool: Pool) -> None:
    """Close the eventfd of a pool once none of its threads will write to it any more.

    A late one would write into whatever has that number by then, such as another test's socket.
    """
    last = _Last()
    for _ in range(pool._threads):
        pool._queue.put(last)  # type: ignore[arg-type]  # to be run is all that is asked of it
    for _ in range(pool._threads):
        assert last.taken.acquire(timeout=PATIENCE), "a job never ends"
    os.close(pool.fileno())
