"""The workers' heartbeats: when the loop of each has last turned.

Times lie in memory that the master and its workers share, so a beat costs no system call and is
there to be read however long its worker has been stuck.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Collection
from mmap import mmap

EVERY_SECONDS = 1.0  # a worker that has nothing to do wakes up no more often than that
SLOTS = 8192  # workers at a time, those that are leaving counted in
SLOT_BYTES = 8  # of a C double: written and read in one piece


class Heartbeats:
    """A table of times on the monotonic clock, in seconds, one for each worker's slot."""

    def __init__(self, descriptor: int | None = None) -> None:
        """Make an empty table, or open the one that an earlier self has left in `descriptor`."""
        if descriptor is None:
            descriptor = os.memfd_create("heartbeats")
            os.ftruncate(descriptor, SLOTS * SLOT_BYTES)
        self._descriptor = descriptor
        self._table = memoryview(mmap(descriptor, SLOTS * SLOT_BYTES)).cast("d")

    def fileno(self) -> int:
        """Return the descriptor of the shared memory."""
        return self._descriptor

    def free_slot(self, used: Collection[int]) -> int:
        """Return a slot that nobody uses. Raises OSError where there is none."""
        for slot in range(SLOTS):
            if slot not in used:
                return slot
        raise OSError(errno.EAGAIN, f"there are {SLOTS} workers already")

    def beat(self, slot: int) -> None:
        """Note that the loop of that slot's worker turns."""
        self._table[slot] = time.monotonic()

    def last(self, slot: int) -> float:
        """Return when the loop of that slot's worker has last turned."""
        return self._table[slot]
