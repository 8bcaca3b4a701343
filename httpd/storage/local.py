"""Blobs as plain files on a local file system: `root/ab/abcdef…`, staged in `root/.tmp/`.

A blob that was found to be damaged is moved to `root/.quarantine/abcdef…`: reading it fails then,
and storing its content again, or deleting it, removes the damaged copy.

Any regular file under its right name is a blob, whoever put it there. A prefix folder (`ab`) is
made when it is needed and removed when it is empty; an exclusive flock(2) on it keeps those who
add and those who remove apart. Every operation opens the folder anew, so the lock, which goes with
the open file description, parts threads as well as processes. It is held for a few system calls
only, never while bytes are moved, compared or flushed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from stat import S_ISREG

from httpd.storage.contract import Collision, Damaged, NotFound, Stored
from httpd.storage.deletions import Deletions
from httpd.storage.digest import Digest
from httpd.storage.listing import Entry, entries
from httpd.storage.staging import StagedFile, TempFile, sweep, unheld

# What is staged is the daemon's alone; the store may be read by its group, as the blobs may.
STAGING_MODE = 0o700
FOLDER_MODE = 0o750

# A prefix folder is empty between two system calls of an upload; one that has been for so many
# seconds was left by a crash.
FORSAKEN_AFTER = 60

# No symlink is followed below the root, which may be one itself. O_NONBLOCK: opening a FIFO that
# lies under a blob's name must not wait for its writer (open(2)).
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK

# What open(2) says where no blob can be: nothing there; no folder, or a symlink, for a prefix;
# a symlink, or a socket or device with nobody behind it, under the name.
_NO_BLOB = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ENODEV}


class LocalBlob:
    """A blob in an open file, `contract.Blob`."""

    __slots__ = ("_descriptor", "digest", "size", "stamp", "stored_at")

    def __init__(self, digest: Digest, descriptor: int, status: os.stat_result) -> None:
        """Take over `descriptor`, whose fstat(2) is `status`."""
        self.digest = digest
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

    def close(self) -> None:
        """Close the file. May be called again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class LocalStorage:
    """Blobs below a folder, `contract.Storage`. May cross a fork."""

    def __init__(self, root: Path, algorithm: str, *, durable: bool) -> None:
        """Keep blobs under `root`, made if missing, new ones by `algorithm` (key of ALGORITHMS).

        `durable`: what a call has done is on disk when it returns. Raises OSError.
        """
        root = root.absolute()  # a daemon changes its working directory
        self._root = str(root)
        self._staging = f"{root}/.tmp"
        self._quarantine = f"{root}/.quarantine"
        self._algorithm = algorithm
        self._durable = durable
        for folder in reversed([root, *root.parents]):
            self._make(folder, FOLDER_MODE)
        self._make(Path(self._staging), STAGING_MODE)
        self._deletions = Deletions(f"{root}/.deletions")

    def stage(self, also: Collection[str] = ()) -> StagedFile:
        """Begin an upload. `also`: algorithms (keys of ALGORITHMS) of further digests to check."""
        return StagedFile(self._staging, self._algorithm, also, self._place, durable=self._durable)

    def open(self, digest: Digest) -> LocalBlob:
        """Open a blob for reading. Raises NotFound, Damaged, OSError."""
        try:
            folder = os.open(self._folder_path(digest.hex[:2]), _FOLDER)
            try:
                descriptor = os.open(digest.hex, _FILE, dir_fd=folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise self._absence(digest, error) from None
        status = os.fstat(descriptor)
        if not S_ISREG(status.st_mode):
            os.close(descriptor)
            raise NotFound(digest)
        return LocalBlob(digest, descriptor, status)

    def deletions(self, digest: Digest) -> int | None:
        """Return a number that is another one after the digest was deleted, in any process."""
        return self._deletions.seen(digest)

    def confirm(self, digest: Digest) -> Stored:
        """Make sure that a blob which can be seen is durable. Raises NotFound, OSError."""
        with closing(self.open(digest)) as blob:
            if not self._confirm(blob):
                raise NotFound(digest)
            return Stored(digest, blob.size, created=False)

    def delete(self, digest: Digest) -> None:
        """Take a blob away, and its folder if that is empty now. Raises NotFound, OSError."""
        # With a damaged copy alone there may be no folder, but who heals it must be kept apart.
        damaged = os.path.lexists(self._quarantine_path(digest))
        try:
            with self._locked_folder(digest.hex[:2], create=damaged) as folder:
                # First: what is left by a crash in between is a blob, and not a damaged one.
                dropped = damaged and self._drop_damaged(digest)
                here = S_ISREG(_mode(folder, digest))
                if here:
                    with self._deletions.noted(digest):
                        os.unlink(digest.hex, dir_fd=folder)
                self._remove_if_empty(digest.hex[:2])
                if not (here or dropped):
                    raise NotFound(digest)
                self._release(folder)
        except OSError as error:
            raise NotFound(digest) if error.errno in _NO_BLOB else error from None

    def sweep(self) -> int:
        """Remove what dead processes have left staged; return how many. Raises OSError."""
        return sweep(self._staging)

    def check_writable(self) -> None:
        """Raise OSError if nothing can be stored now: really write a file, and remove it."""
        probe = TempFile(self._staging)
        try:
            probe.write(b"\0")
        finally:
            probe.discard()

    def entries(self, folder: str = "", after: str = "") -> Iterator[Entry]:
        """Yield what is in a folder of the store, as `listing.entries`; nothing if it is gone."""
        with suppress(FileNotFoundError):
            yield from entries(f"{self._root}/{folder}", after)

    def quarantined(self) -> Iterator[Entry]:
        """Yield the damaged blobs that were moved out of the way, healed ones included."""
        return self.entries(".quarantine")

    def abandoned(self, *, remove: bool) -> Iterator[tuple[str, int]]:
        """Yield what no upload holds of what is staged, as `staging.unheld`. Raises OSError."""
        return unheld(self._staging, remove=remove)

    def holds(self, blob: LocalBlob) -> bool:
        """Tell whether an open blob is still the one that is stored, and unchanged by any hand."""
        path = f"{self._folder_path(blob.digest.hex[:2])}/{blob.digest.hex}"
        with suppress(FileNotFoundError, NotADirectoryError):
            return _is_same(blob, os.lstat(path))
        return False

    def quarantine(self, blob: LocalBlob) -> bool:
        """Move a damaged blob out of the way, durably; false if it is no longer stored.

        Raises OSError.
        """
        self._make(Path(self._quarantine), FOLDER_MODE)
        name, prefix = blob.digest.hex, blob.digest.hex[:2]
        try:
            with self._locked_folder(prefix, create=False) as folder:
                if not _is_same(blob, os.stat(name, dir_fd=folder, follow_symlinks=False)):
                    return False
                with self._deletions.noted(blob.digest):
                    os.rename(name, self._quarantine_path(blob.digest), src_dir_fd=folder)
                self._remove_if_empty(prefix)
                self._flush_path(self._quarantine)
                self._release(folder)
                return True
        except FileNotFoundError:
            return False

    def forsaken(self, prefix: str, *, remove: bool) -> bool:
        """Tell whether a prefix folder was left empty, and remove it if wished.

        What cannot be looked into, or is gone, was not.
        """
        try:
            with self._locked_folder(prefix, create=False) as folder:
                age = time.time() - os.fstat(folder).st_mtime
                if os.listdir(folder) or age < FORSAKEN_AFTER:
                    return False
                if remove:
                    self._remove_if_empty(prefix)
                    self._release(folder)
                return True
        except OSError:
            return False

    def _place(self, staged: StagedFile, digest: Digest) -> bool:
        """Make staged content visible; false if it was there. Raises Collision, OSError."""
        while True:  # once more whenever somebody has added or removed the blob in between
            try:
                blob = self.open(digest)
            except NotFound:
                staged.complete()
                if self._add(staged, digest):
                    return True
            else:
                with closing(blob):
                    # Comparing may take long and needs no lock, since a blob never changes.
                    if not staged.same_as(blob.fileno()):
                        raise Collision(digest)
                    if self._confirm(blob):
                        return False

    def _add(self, staged: StagedFile, digest: Digest) -> bool:
        """Give the complete file its name; false if a blob has that now. Raises OSError."""
        with self._locked_folder(digest.hex[:2], create=True) as folder:
            mode = _mode(folder, digest)
            if S_ISREG(mode):
                return False
            if mode:
                raise FileExistsError(errno.EEXIST, "not a regular file", digest.hex)
            staged.rename(digest.hex, folder)
            self._release(folder)
        self._drop_damaged(digest)  # only now, when the good one is on disk
        return True

    def _confirm(self, blob: LocalBlob) -> bool:
        """Flush a blob that was there; false if it is gone. Raises OSError.

        Who put it there may not have done that yet, or, by hand, never.
        """
        self._flush(blob.fileno())
        try:
            with self._locked_folder(blob.digest.hex[:2], create=False) as folder:
                named = os.stat(blob.digest.hex, dir_fd=folder, follow_symlinks=False)
                if not os.path.samestat(named, os.fstat(blob.fileno())):
                    return False
                self._release(folder)
                return True
        except FileNotFoundError:
            return False

    def _drop_damaged(self, digest: Digest) -> bool:
        """Remove the damaged copy of a blob; false if there is none. Raises OSError."""
        try:
            os.unlink(self._quarantine_path(digest))
        except FileNotFoundError:
            return False
        self._flush_path(self._quarantine)
        return True

    def _absence(self, digest: Digest, error: OSError) -> Exception:
        """Return what to raise for `error`, NotFound or Damaged where it means no blob is there."""
        if error.errno not in _NO_BLOB:
            return error
        try:
            return Damaged(digest, os.lstat(self._quarantine_path(digest)).st_mtime_ns)
        except FileNotFoundError:
            return NotFound(digest)

    def _remove_if_empty(self, prefix: str) -> None:
        with suppress(OSError):  # ENOTEMPTY; a mount point (EBUSY) may stay as well
            os.rmdir(self._folder_path(prefix))

    @contextmanager
    def _locked_folder(self, prefix: str, *, create: bool) -> Iterator[int]:
        """Hold the lock of a prefix folder; its descriptor. Raises OSError."""
        path = self._folder_path(prefix)
        while True:
            if create:
                with suppress(FileExistsError):
                    os.mkdir(path, FOLDER_MODE)
            try:
                folder = os.open(path, _FOLDER)
            except FileNotFoundError:
                if create:  # removed again since mkdir
                    continue
                raise
            try:
                fcntl.flock(folder, fcntl.LOCK_EX)
                if _is_at(folder, path):  # else it was removed while this waited for the lock
                    yield folder
                    return
            finally:
                os.close(folder)

    def _release(self, folder: int) -> None:
        """Let others at a locked folder, then flush it and the root.

        Both of them always: another process may have made the folder and not flushed it yet, and
        this answer must not rest on that.
        """
        fcntl.flock(folder, fcntl.LOCK_UN)
        self._flush(folder)
        self._flush_path(self._root)

    def _make(self, folder: Path, mode: int) -> None:
        if not folder.is_dir():
            folder.mkdir(mode, exist_ok=True)
            self._flush_path(str(folder.parent))

    def _flush_path(self, folder: str) -> None:
        if self._durable:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _flush(self, descriptor: int) -> None:
        if self._durable:
            os.fsync(descriptor)

    def _folder_path(self, prefix: str) -> str:
        return f"{self._root}/{prefix}"

    def _quarantine_path(self, digest: Digest) -> str:
        return f"{self._quarantine}/{digest.hex}"


def _mode(folder: int, digest: Digest) -> int:
    """Return the st_mode of what has the digest's name in that folder, 0 if nothing has."""
    try:
        return os.stat(digest.hex, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return 0


def _is_at(folder: int, path: str) -> bool:
    """Tell whether the open folder is the one that is found at `path`."""
    try:
        return os.path.samestat(os.fstat(folder), os.lstat(path))
    except FileNotFoundError:
        return False


def _is_same(blob: LocalBlob, status: os.stat_result) -> bool:
    """Tell whether `status` is that of the blob's file, with the bytes that it was opened with."""
    unchanged = (status.st_size, status.st_mtime_ns) == (blob.size, blob.stamp)
    return unchanged and os.path.samestat(status, os.fstat(blob.fileno()))
