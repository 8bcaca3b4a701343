"""The shared numbers: one piece of memory for all processes of a daemon, a seat for each.

Every process counts in a seat of its own, so none waits for another. A seat whose process has died
is taken by the next one, which goes on with the counters that it finds: no sum ever goes backwards.
What is true only of the living, the gauges, begins at nought again, and counts for nothing while
nobody sits there.

A seat is held by a record lock (fcntl_locking(2)) on a byte of its own, which the kernel takes away
with the process, however that ends, and which no child inherits.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypeAlias

Cells: TypeAlias = "memoryview[int]"
"""Signed numbers of 8 bytes."""

CELL = 8
# Never all taken: a thousand workers that have been replaced while they still drained. Memory is
# taken by the pages that are written to, so the free seats cost nothing.
SEATS = 4096
# struct flock of fcntl(2), with the offsets of 64 bits that CPython asks for on every Linux.
_FLOCK = struct.Struct("@hhqqi0q")


class Seat(NamedTuple):
    """What one process has counted."""

    cells: Cells
    pid: int  # who sits there; 0: nobody any more


class Board:
    """The numbers of a daemon. Made by its master before it forks; every process joins it."""

    def __init__(
        self, head: int, cells: int, gauges: Sequence[int], descriptor: int | None = None
    ) -> None:
        """Make `head` cells that are the daemon's, and `cells` a seat; `gauges` are some of those.

        `descriptor`: of one that was made alike, to go on with. Raises OSError, and ValueError
        where that has another size.
        """
        self._gauges = gauges
        self._cells = cells
        self._head = head
        # A file without a name: no disk is ever written to, which would hold up who counts.
        size = CELL * (head + SEATS * (1 + cells))
        if descriptor is None:
            descriptor = os.memfd_create("filestored-metrics", os.MFD_CLOEXEC)
            os.ftruncate(descriptor, size)
        elif os.fstat(descriptor).st_size != size:
            raise ValueError("a board of another size")
        self._descriptor = descriptor
        self._all = memoryview(mmap.mmap(self._descriptor, size)).cast("q")
        self.head: Cells = self._all[:head]
        self._own = (0, 0)  # pid and number of the seat of this process, or of its parent

    def fileno(self) -> int:
        """Return the descriptor of the shared memory."""
        return self._descriptor

    def join(self) -> Cells | None:
        """Take the first seat that is free; None if there is none."""
        for number in range(SEATS):
            if self._lock(self._byte(number)):
                cells = self._seat(number)
                for gauge in self._gauges:
                    cells[gauge] = 0
                self._all[self._start(number)] = 1
                self._own = os.getpid(), number
                return cells
        return None

    def seats(self) -> Iterator[Seat]:
        """Yield every seat that somebody has ever sat on."""
        for number in range(SEATS):
            if not self._all[self._start(number)]:
                return  # those behind it have not been taken either
            yield Seat(self._seat(number), self._sitter(number))

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Do in the body what one process does for all; false where another is at it."""
        if not self._lock(0):
            yield False
            return
        try:
            yield True
        finally:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, 0)

    def _seat(self, number: int) -> Cells:
        start = self._start(number) + 1
        return self._all[start : start + self._cells]

    def _start(self, number: int) -> int:
        return self._head + number * (1 + self._cells)

    def _byte(self, number: int) -> int:
        return 1 + number

    def _lock(self, byte: int) -> bool:
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except BlockingIOError:
            return False
        return True

    def _sitter(self, number: int) -> int:
        """Return the pid of who sits there, 0 where nobody does."""
        if self._own == (os.getpid(), number):
            return os.getpid()  # to its holder a lock looks free
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, self._byte(number), 1, 0)
        kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(self._descriptor, fcntl.F_GETLK, asked))
        return 0 if kind == fcntl.F_UNLCK else int(pid)
