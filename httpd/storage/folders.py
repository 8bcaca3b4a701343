"""The folders of a store: who may change one, and how a change reaches the disk.

A prefix folder (`ab`) is made when it is needed and removed when it is empty; an exclusive flock(2)
on it keeps those who add and those who remove apart. Every operation opens the folder anew, so the
lock, which goes with the open file description, parts threads as well as processes. Bytes of blobs
are never moved, compared or flushed under it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# The store may be read by its group, as the blobs may.
MODE = 0o750

# No symlink is followed below the root, which may be one itself.
OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

# O_NONBLOCK: opening a FIFO that lies under a blob's name must not wait for its writer (open(2)).
OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class Folders:
    """The folders below a root; `durable`: what is flushed really is. Every call raises OSError."""

    def __init__(self, root: str, *, durable: bool) -> None:
        """Take the root's absolute path."""
        self.root = root
        self.durable = durable

    def path(self, name: str) -> str:
        """Return the path of a folder, of a prefix or of the store's own."""
        return f"{self.root}/{name}"

    def make(self, folder: Path, mode: int = MODE) -> None:
        """Make a folder durably, unless it is there."""
        if not folder.is_dir():
            folder.mkdir(mode, exist_ok=True)
            self.flush_path(str(folder.parent))

    @contextmanager
    def locked(self, prefix: str, *, create: bool) -> Iterator[int]:
        """Hold the lock of a prefix folder; its descriptor."""
        folder = self.lock(prefix, create=create)
        try:
            yield folder
        finally:
            os.close(folder)

    def lock(self, prefix: str, *, create: bool) -> int:
        """Do the same for who closes the descriptor, and lets go of the lock by that."""
        path = self.path(prefix)
        while True:
            folder = self._open(path, create=create)
            if folder is None:
                continue
            try:
                fcntl.flock(folder, fcntl.LOCK_EX)
                is_at = _is_at(folder, path)
            except BaseException:
                os.close(folder)
                raise
            if is_at:
                return folder
            os.close(folder)  # it was removed while this waited for the lock

    def _open(self, path: str, *, create: bool) -> int | None:
        """Open a prefix folder; None if it was made, or by another removed again, just now."""
        try:
            return os.open(path, OPEN)
        except FileNotFoundError:
            if not create:
                raise
        with suppress(FileExistsError):
            os.mkdir(path, MODE)
        return None

    def unlock(self, folder: int) -> None:
        """Let others at a locked folder before the end of `locked`."""
        fcntl.flock(folder, fcntl.LOCK_UN)

    def remove_if_empty(self, prefix: str) -> None:
        """Remove a prefix folder that is locked, if nothing is in it."""
        with suppress(OSError):  # ENOTEMPTY; a mount point (EBUSY) may stay as well
            os.rmdir(self.path(prefix))

    @contextmanager
    def emptied_on_failure(self, prefix: str) -> Iterator[None]:
        """Leave no empty prefix folder where the body, which was to put a file there, fails."""
        try:
            yield
        except OSError:
            self.remove_if_empty(prefix)
            raise

    def flush_entries(self, folder: int) -> None:
        """Bring what has changed in an open prefix folder to disk, and the folder itself.

        Both of them always: another process may have made the folder and not flushed it yet, and
        no answer may rest on that.
        """
        self.flush(folder)
        self.flush_path(self.root)

    def flush_path(self, folder: str) -> None:
        """Bring the entries of a folder to disk."""
        if self.durable:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def flush_file(self, name: str, folder: int) -> None:
        """Bring the bytes of a file in an open folder to disk."""
        descriptor = os.open(name, OPEN_FILE, dir_fd=folder)
        try:
            self.flush(descriptor)
        finally:
            os.close(descriptor)

    def flush(self, descriptor: int) -> None:
        """Bring an open file or folder to disk."""
        if self.durable:
            os.fsync(descriptor)


def is_there(path: str) -> bool:
    """Tell whether there is anything at a path, a symlink included.

    A third of what os.path.lexists takes, where nothing is: that catches an exception.
    """
    return os.access(path, os.F_OK, follow_symlinks=False)


def _is_at(folder: int, path: str) -> bool:
    """Tell whether the open folder is the one that is found at `path`."""
    try:
        return os.path.samestat(os.fstat(folder), os.lstat(path))
    except FileNotFoundError:
        return False
