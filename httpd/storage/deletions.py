"""What every process that uses a store knows of deletions, without a system call.

A worker may hold small content in memory and answer from there for as long as nothing has been
deleted: once a DELETE is acknowledged, no process may serve the content any more.
"""

from __future__ import annotations

import errno
import mmap
import os
import secrets

from httpd.storage.digest import Digest

# One for every prefix folder: a deletion costs the others a 256th of what they hold at most.
SLOTS = 256
SLOT_BYTES = 8
MODE = 0o600


class Deletions:
    """A small file that all processes map: for each prefix a number that changes at a deletion."""

    def __init__(self, path: str) -> None:
        """Map the file, made if missing; its bytes matter to the living only, and are not flushed.

        A store that cannot be written now is no error: this process remembers nothing then. Raises
        OSError.
        """
        self._path = path
        self._slots: memoryview[int] | None = None
        try:
            self.prepare()
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EACCES):
                raise

    def __reduce__(self) -> tuple[type[Deletions], tuple[str]]:
        """Let another process map the file for itself."""
        return Deletions, (self._path,)

    def prepare(self) -> None:
        """See to it that `note` can tell the others; before anything is deleted. Raises OSError."""
        if self._slots is None:
            try:
                self._slots = _map(self._path)
            except OSError as error:
                # No room to make it: so there is none, and nobody to tell. What is deleted makes
                # room, and must not be kept from that.
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise

    def seen(self, digest: Digest) -> int | None:
        """Return the present number of the digest's prefix, None where nobody can tell it.

        Whoever asks before opening a blob, and gets the same number later, knows that the blob has
        not been deleted in between.
        """
        return None if self._slots is None else self._slots[int(digest.hex[:2], 16)]

    def note(self, digest: Digest) -> None:
        """Change the number: after the content is gone, before that is acknowledged."""
        self.prepare()
        if self._slots is not None:
            # Random and not counted up: two processes that count at the same time may both write
            # the same, and a third that came in between would not see the second deletion.
            self._slots[int(digest.hex[:2], 16)] = secrets.randbits(8 * SLOT_BYTES)


def _map(path: str) -> memoryview[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, MODE)
    try:
        # Not ftruncate(2): a map of blocks that are not there yet kills whoever writes to it, by
        # SIGBUS, when the disk has no room for them (mmap(2)).
        os.posix_fallocate(descriptor, 0, SLOTS * SLOT_BYTES)
        return memoryview(mmap.mmap(descriptor, SLOTS * SLOT_BYTES)).cast("Q")
    finally:
        os.close(descriptor)
