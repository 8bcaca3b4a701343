"""What every process that uses a store knows of deletions, without a system call.

A worker may hold small content in memory and answer from there for as long as nothing has been
deleted: once a DELETE is acknowledged, no process may serve the content any more.
"""

from __future__ import annotations

import errno
import mmap
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from httpd.storage.digest import Digest

# One for every prefix folder: a deletion costs the others a 256th of what they hold at most.
SLOTS = 256
SLOT_BYTES = 8
MODE = 0o600


class Deletions:
    """A small file that all processes map: for each prefix a number that changes at a deletion.

    It is mapped for reading, and written only at a deletion: a file that is open for writing would
    keep its file system from being made read-only. Its bytes matter to the living only, so nothing
    is flushed.
    """

    def __init__(self, path: str) -> None:
        """Map the file, made if missing. Raises OSError.

        A store that cannot be written now is no error: this process remembers nothing then.
        """
        self._path = path
        self._slots: memoryview[int] | None = None
        try:
            with closing(_File(path)) as file:
                self._slots = file.map()
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EACCES, errno.ENOSPC, errno.EDQUOT):
                raise

    def __reduce__(self) -> tuple[type[Deletions], tuple[str]]:
        """Let another process map the file for itself."""
        return Deletions, (self._path,)

    def seen(self, digest: Digest) -> int | None:
        """Return the present number of the digest's prefix, None where nobody can tell it.

        Whoever asks before opening a blob, and gets the same number later, knows that the blob has
        not been deleted in between.
        """
        return None if self._slots is None else self._slots[_slot(digest)]

    def none_since(self, digest: Digest) -> Callable[[], bool] | None:
        """Return what tells, whenever it is called, whether nothing has been deleted until then.

        None where nobody can tell. It is called for every answer out of memory, so it is one call.
        """
        slots, slot = self._slots, _slot(digest)
        if slots is None:
            return None
        seen = slots[slot]
        return lambda: slots[slot] == seen

    @contextmanager
    def noted(self, digest: Digest) -> Iterator[None]:
        """Delete in the body: the number changes before the body's end is acknowledged.

        And where the body fails: nobody knows what it has done by then. Raises OSError, before the
        body where the others could not be told of it.
        """
        try:
            file = _File(self._path)
        except OSError as error:
            # No room to make it: so there is none, and nobody to tell. What is deleted makes room,
            # and must not be kept from that.
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            yield
            return
        with closing(file):
            try:
                yield
            finally:
                file.change(digest)


class _File:
    """The file, open for reading and writing."""

    def __init__(self, path: str) -> None:
        """Open it, made if missing. Raises OSError."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._path = path
        self._descriptor = os.open(path, flags, MODE)
        try:
            # Not ftruncate(2): blocks that are not there yet may find no room later, when they are
            # written, and whoever reads them in a map is killed by SIGBUS (mmap(2)).
            os.posix_fallocate(self._descriptor, 0, SLOTS * SLOT_BYTES)
        except OSError:
            self.close()
            raise

    def map(self) -> memoryview[int]:
        """Return its numbers, as they are at any time. Raises OSError."""
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            size = SLOTS * SLOT_BYTES
            return memoryview(mmap.mmap(descriptor, size, prot=mmap.PROT_READ)).cast("Q")
        finally:
            os.close(descriptor)

    def change(self, digest: Digest) -> None:
        """Give the digest's prefix another number. Raises OSError."""
        # Random and not counted up: two processes that count at the same time may both write the
        # same, and a third that came in between would not see the second deletion.
        number = secrets.token_bytes(SLOT_BYTES)
        os.pwrite(self._descriptor, number, SLOT_BYTES * _slot(digest))

    def close(self) -> None:
        """Close it; what is mapped stays."""
        os.close(self._descriptor)


def _slot(digest: Digest) -> int:
    return int(digest.hex[:2], 16)
