"""How many connections each client has with all workers together, in memory that they share."""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
from hashlib import blake2b

# A place for each client, chosen by hash. Two clients in one place count as one, so each has two
# places, and the smaller number is taken: of 1,000 clients at the same time about fifteen are then
# taken for more than they are, and by no more than what those in both of their places have.
PLACES = 1 << 14
ROW = PLACES + 1  # the last number of a row is that of all clients together
NUMBER_BYTES = 4
KEY_BYTES = 64  # in front of the rows
# Workers that are replaced keep their connections for a while, beside their successors.
GENERATIONS = 4


class Tally:
    """Numbers in rows, one row a worker: only its owner writes to it, so adding needs no lock.

    Made before the workers are forked. A row belongs to whoever holds its lock, which the kernel
    takes from a worker that dies (fcntl(2), advisory record locks).
    """

    def __init__(self, workers: int, left: int | None = None) -> None:
        """Make the rows for that many workers. Raises OSError.

        `left`: descriptor of the tally of the master's earlier self, whose workers count there
        still, and have the connections that they have.
        """
        count = workers * GENERATIONS
        if left is None:
            self._file = os.memfd_create("filestored-clients", os.MFD_CLOEXEC)
            os.write(self._file, secrets.token_bytes(KEY_BYTES))
        else:
            self._file = left
            count = max(count, (os.fstat(left).st_size - KEY_BYTES) // (ROW * NUMBER_BYTES))
        os.ftruncate(self._file, KEY_BYTES + count * ROW * NUMBER_BYTES)
        shared = memoryview(mmap.mmap(self._file, 0))
        self._key = bytes(shared[:KEY_BYTES])
        numbers = shared[KEY_BYTES:].cast("I")
        self._rows = [numbers[row * ROW : (row + 1) * ROW] for row in range(count)]
        self._own = -1

    def fileno(self) -> int:
        """Return the descriptor of the shared memory."""
        return self._file

    def claim(self) -> None:
        """Take a row, in the worker that will count in it.

        A worker that finds none left counts on its own, and the others do not see its connections.
        """
        self._own = next(filter(self._lock, range(len(self._rows))), len(self._rows))
        if self._own == len(self._rows):
            self._rows.append(memoryview(bytearray(ROW * NUMBER_BYTES)).cast("I"))
        self._clear(self._own)

    def add(self, client: str, change: int) -> int:
        """Count a connection (1) or the end of one (-1); return what all workers have counted."""
        high, low = self.places_of(client)
        own = self._rows[self._own]
        own[high] += change
        if low != high:
            own[low] += change
        return min(sum(row[high] for row in self._rows), sum(row[low] for row in self._rows))

    def places_of(self, client: str) -> tuple[int, int]:
        """Return the two places of a client.

        The key of the hash is the daemon's own: nobody can choose whom to share a place with.
        """
        digest = blake2b(client.encode(), key=self._key, digest_size=8).digest()
        return divmod(int.from_bytes(digest) % (PLACES * PLACES), PLACES)

    def add_to_all(self, change: int) -> None:
        """Count a connection of whomever (1) or the end of one (-1)."""
        self._rows[self._own][PLACES] += change

    @property
    def total(self) -> int:
        """The connections that all workers have counted."""
        return sum(row[PLACES] for row in self._rows)

    def forget_the_dead(self) -> None:
        """Clear what workers have counted that are no more."""
        for row in range(len(self._rows)):
            if row != self._own and self._lock(row):
                self._clear(row)
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, row)

    def _lock(self, row: int) -> bool:
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, row)
        except OSError:  # EACCES or EAGAIN: it is another worker's
            return False
        return True

    def _clear(self, row: int) -> None:
        self._rows[row][:] = memoryview(bytes(ROW * NUMBER_BYTES)).cast("I")
