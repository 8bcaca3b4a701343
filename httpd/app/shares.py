"""What the big uploads of a worker share: memory to receive into, and the cores that hash."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from mmap import mmap

from httpd.traps import Lane

# What the buffers of all uploads take together, in all workers, in bytes. With more than 32 at a
# time it is more, as each has AT_ONCE of the SMALLEST.
MEMORY = 12 * 1024 * 1024
# The buffers of one upload: one is received into, one is hashed, and one is there for the hash to
# go on with at once.
AT_ONCE = 3
# Handing a buffer over costs the same whatever is in it. Measured, CPU for 1 GiB, 1.7 s of which
# are MD5's own: buffers of 256 KiB 4.2 s, 512 KiB 3.7 s, 1 MiB 3.2 s.
LARGEST = 1024 * 1024
SMALLEST = 128 * 1024
# What an upload begins with, if its share allows. Smaller ones make a file of 3 MiB 6 % slower.
FIRST = 256 * 1024


class Shares:
    """Shares it out: large buffers to few uploads, smaller ones to many."""

    def __init__(self, workers: int, cores: int) -> None:
        """Take how many workers have an equal part of the memory each, and how many cores."""
        self._memory = MEMORY // workers
        self._uploads = 0
        self._hashing = [Lane() for _ in range(cores)]

    def hashing(self) -> Lane:
        """Return the lane with the least to do, for an upload of which nothing is to be hashed yet.

        As many hash at a time as there are cores. More threads that compute would only be in the
        way of the one that answers. Measured on one core, beside 16 uploads as fast as they go: 1.3
        to 3 times as many downloads as with a lane for each upload.
        """
        return min(self._hashing, key=lambda lane: lane.taken + len(lane.waiting))

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Take part in sharing the memory with other uploads."""
        self._uploads += 1
        try:
            yield
        finally:
            self._uploads -= 1

    def renew(self, buffer: memoryview | None, received: int) -> memoryview:
        """Return that buffer, or a new one where it has not the size that is right by now.

        Beyond the FIRST size it is at most a quarter of what an upload has `received`, in bytes: so
        little of a file is left to be hashed and written when its last byte has come.
        """
        size = self._size(max(FIRST, received // 4))
        if buffer is not None and len(buffer) == size:
            return buffer
        # Not a bytearray, whose bytes all are set: what a slow client has not filled takes nothing.
        return memoryview(mmap(-1, size))

    def _size(self, most: int) -> int:
        """Return a power of two: at most this, and AT_ONCE times it an upload's share."""
        share = self._memory // (AT_ONCE * max(1, self._uploads))
        fitting = 1 << max(1, min(share, most)).bit_length() - 1
        return min(LARGEST, max(SMALLEST, fitting))
