"""Files of an older store on their way into this one; nothing of the older one is changed."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from stat import S_ISREG

from httpd.storage.contract import Staged, Storage
from httpd.upkeep.pace import Pace
from httpd.upkeep.report import Report

# Read at once; what is staged takes it all before the next.
PIECE = 1 << 20


class Unreadable(Exception):
    """A file cannot be read; the message says why."""


class Original:
    """A regular file of the older store, open for reading; `close` it."""

    def __init__(self, path: str) -> None:
        """Open it, if it is no symlink. Raises Unreadable."""
        try:
            # O_NONBLOCK: opening a FIFO must not wait for its writer (open(2)).
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            self._descriptor = os.open(path, flags)
        except OSError as error:
            raise Unreadable(error.strerror) from None
        status = os.fstat(self._descriptor)
        if not S_ISREG(status.st_mode):
            self.close()
            raise Unreadable("not a regular file")
        self.changed_at = datetime.fromtimestamp(status.st_mtime, UTC)

    def __iter__(self) -> Iterator[bytes]:
        """Yield its bytes in pieces. Raises Unreadable."""
        try:
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            while piece := os.read(self._descriptor, PIECE):
                yield piece
        except OSError as error:
            raise Unreadable(error.strerror) from None

    def close(self) -> None:
        """Close it."""
        os.close(self._descriptor)


class Copying:
    """Stages originals, at a pace, and counts what is copied."""

    def __init__(self, report: Report, pace: Pace) -> None:
        """Take who counts the bytes, and the pace."""
        self._report = report
        self._pace = pace

    def stage(self, original: Original, storage: Storage, also: Collection[str] = ()) -> Staged:
        """Stage a copy of all bytes. Raises Unreadable, OSError."""
        staged = storage.stage(also)
        try:
            for piece in self.read(original):
                staged.append(piece)
                staged.hash_batch()
                staged.write_batch()
                if staged.wants_flush():
                    staged.flush()
        except BaseException:
            staged.discard()
            raise
        return staged

    def read(self, original: Original) -> Iterator[bytes]:
        """Yield the bytes in pieces. Raises Unreadable."""
        for piece in original:
            self._report.tally.counts["bytes"] += len(piece)
            self._pace.spend(len(piece))
            yield piece
