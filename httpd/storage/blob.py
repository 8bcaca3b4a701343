"""A blob in a file, open for reading."""

from __future__ import annotations

import errno
import os

from httpd.storage.digest import Digest
from httpd.storage.folders import OPEN_FILE


class LocalBlob:
    """A blob in an open file, `contract.Blob`."""

    __slots__ = ("_descriptor", "_file", "_path", "digest", "size", "stamp", "stored_at")

    def __init__(self, digest: Digest, path: str, descriptor: int, status: os.stat_result) -> None:
        """Take over `descriptor`, opened by `path`, whose fstat(2) is `status`."""
        self.digest = digest
        self._path = path
        self._file = status.st_dev, status.st_ino
        self.size = status.st_size
        self.stored_at = status.st_mtime
        self.stamp = status.st_mtime_ns
        self._descriptor = descriptor

    def fileno(self) -> int:
        """Return the file's descriptor, valid until `close`."""
        return self._descriptor

    def read(self, length: int, offset: int) -> bytes:
        """Return `length` bytes from `offset` on, fewer only at the end. Raises OSError."""
        return os.pread(self._descriptor, length, offset)

    def read_now(self, length: int, offset: int) -> bytes | None:
        """Do the same from memory alone, None where not all of it is there. Raises OSError."""
        content = bytearray(length)
        try:
            count = os.preadv(self._descriptor, (content,), offset, os.RWF_NOWAIT)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            # A file system that has no such call: tmpfs, where all is in memory; FUSE.
            return self.read(length, offset)
        if count == length:
            return bytes(content)
        is_end = offset + count >= os.fstat(self._descriptor).st_size
        return bytes(memoryview(content)[:count]) if is_end else None

    def reopen(self) -> LocalBlob | None:
        """Open the same file once more; None if that is not there any more. Raises OSError."""
        # By its path at once: what a symlink in place of the folder leads to is compared as well.
        try:
            descriptor = os.open(self._path, OPEN_FILE)
        except FileNotFoundError:
            return None
        status = os.fstat(descriptor)
        if (status.st_dev, status.st_ino) == self._file:
            blob = LocalBlob(self.digest, self._path, descriptor, status)
            if (blob.size, blob.stamp) == (self.size, self.stamp):
                return blob
        os.close(descriptor)
        return None

    def close(self) -> None:
        """Close the file. May be called again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
