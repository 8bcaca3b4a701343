"""Blobs as plain files on a local file system: `root/ab/abcdef…`, staged in `root/.tmp/`.

Any regular file under its right name is a blob, whoever put it there. A blob that was found to be
damaged is in quarantine: reading it fails then, and storing its content again, or deleting it,
removes the damaged copy. What was acknowledged and may not be on disk by itself yet is in a
journal. Here the parts are put together; each is described in its module.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from stat import S_ISREG

from httpd import metrics
from httpd.storage.blob import LocalBlob
from httpd.storage.contract import Collision, Damaged, NotFound, Space, Stored
from httpd.storage.deletions import Deletions
from httpd.storage.digest import Digest
from httpd.storage.folders import OPEN, OPEN_FILE, Folders
from httpd.storage.group import GroupCommit
from httpd.storage.journals import Journals
from httpd.storage.listing import Entry, entries, usage
from httpd.storage.quarantine import FOLDER as QUARANTINE
from httpd.storage.quarantine import Quarantine
from httpd.storage.rotation import Rotation
from httpd.storage.settling import Settling
from httpd.storage.staging import StagedFile, TempFile, sweep, unheld

# What is staged is the daemon's alone.
STAGING_MODE = 0o700

# A prefix folder is empty between two system calls of an upload; one that has been for so many
# seconds was left by a crash.
FORSAKEN_AFTER = 60

# What open(2) says where no blob can be: nothing there; no folder, or a symlink, for a prefix;
# a symlink, or a socket or device with nobody behind it, under the name.
_NO_BLOB = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ENODEV}


class LocalStorage:
    """Blobs below a folder, `contract.Storage`. May cross a fork."""

    def __init__(self, root: Path, algorithm: str, *, durable: bool) -> None:
        """Keep blobs under `root`, made if missing, new ones by `algorithm` (key of ALGORITHMS).

        `durable`: what a call has done is on disk when it returns. Raises OSError.
        """
        root = root.absolute()  # a daemon changes its working directory
        self._arguments = (root, algorithm, durable)
        self._algorithm = algorithm
        self._folders = folders = Folders(str(root), durable=durable)
        self._staging = folders.path(".tmp")
        for folder in reversed([root, *root.parents]):
            folders.make(folder)
        folders.make(Path(self._staging), STAGING_MODE)
        self._deletions = Deletions(folders.path(".deletions"))
        self._quarantine = Quarantine(folders)
        self._journals = Journals(folders)
        self._settling = Settling(folders, self._journals, self._staging, self._quarantine.drop)
        self._rotation = Rotation(self._journals, self._settling)
        self._group = GroupCommit(
            folders,
            algorithm,
            self._rotation,
            self._deletions,
            self._staging,
            self._quarantine,
        )

    def __reduce__(self) -> tuple[Callable[..., LocalStorage], tuple[object, ...]]:
        """Let another process open the store for itself."""
        root, algorithm, durable = self._arguments
        return partial(LocalStorage, durable=durable), (root, algorithm)

    def stage(self, also: Collection[str] = (), length: int | None = None) -> StagedFile:
        """Begin an upload. `also`: algorithms (keys of ALGORITHMS) of further digests to check.

        `length`: how many bytes are said to come, if that is known.
        """
        durable = self._folders.durable
        return StagedFile(
            self._staging, self._algorithm, also, self._place, length, durable=durable
        )

    def publish_together(
        self, uploads: Sequence[tuple[bytes, Collection[Digest]]]
    ) -> list[Stored | Exception | None]:
        """Publish what is new and small among uploads with one flush for all; None for the rest."""
        return self._group.publish(uploads)

    def open(self, digest: Digest) -> LocalBlob:
        """Open a blob for reading. Raises NotFound, Damaged, OSError."""
        path = self._folders.path(digest.hex[:2])
        try:
            folder = os.open(path, OPEN)
            try:
                descriptor = os.open(digest.hex, OPEN_FILE, dir_fd=folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise self._absence(digest, error) from None
        status = os.fstat(descriptor)
        if not S_ISREG(status.st_mode):
            os.close(descriptor)
            raise NotFound(digest)
        return LocalBlob(digest, f"{path}/{digest.hex}", descriptor, status)

    def none_deleted(self, digest: Digest) -> Callable[[], bool] | None:
        """Return what tells, at any later time, that the digest was not deleted by any process."""
        return self._deletions.none_since(digest)

    def confirm(self, digest: Digest) -> Stored:
        """Make sure that a blob which can be seen is durable. Raises NotFound, OSError."""
        with closing(self.open(digest)) as blob:
            if not self._confirm(blob):
                raise NotFound(digest)
            return Stored(digest, blob.size, created=False)

    def delete(self, digest: Digest) -> None:
        """Take a blob away, and its folder if that is empty now. Raises NotFound, OSError."""
        # With a damaged copy alone there may be no folder, but who heals it must be kept apart.
        damaged = self._quarantine.has(digest)
        try:
            with self._folders.locked(digest.hex[:2], create=damaged) as folder:
                status = _status(folder, digest)
                here = status is not None and S_ISREG(status.st_mode)
                dropped = False
                if here or damaged:
                    with self._deletions.noted(digest):
                        # No journal may bring back what anybody has seen to be gone: so its records
                        # are void before it goes, and its file is whole before they are.
                        flush = partial(self._folders.flush_file, digest.hex, folder)
                        self._journals.void(digest, flush if here else None)
                        # First: what is left by a crash in between is a blob, not a damaged one.
                        dropped = damaged and self._quarantine.drop(digest)
                        if here:
                            os.unlink(digest.hex, dir_fd=folder)
                    if status is not None and here:
                        metrics.blob_removed(digest.hex, status.st_size)
                self._folders.remove_if_empty(digest.hex[:2])
                if not (here or dropped):
                    raise NotFound(digest)
                self._folders.flush_entries(folder)
        except OSError as error:
            raise NotFound(digest) if error.errno in _NO_BLOB else error from None

    def recover(self) -> int:
        """Settle the journals of dead processes; return how many. Raises OSError."""
        return self._settling.settle_dead()

    def sweep(self, goes_on: Callable[[], object] = lambda: None) -> int:
        """Settle what dead processes have journaled, and remove what they have left staged.

        Calls `goes_on` again and again meanwhile. Returns how many files were staged. Raises
        OSError.
        """
        self._settling.settle_dead(goes_on)
        return sweep(self._staging)

    def close(self) -> None:
        """Settle what this process has journaled. The storage takes no uploads any more."""
        self._rotation.close()
        self._journals.close()

    def check_writable(self) -> None:
        """Raise OSError if nothing can be stored now: really write a file, and remove it."""
        probe = TempFile(self._staging)
        try:
            probe.write(b"\0")
        finally:
            probe.discard()

    def space(self) -> Space:
        """Return what room the file system has for us. Raises OSError."""
        status = os.statvfs(self._folders.root)
        return Space(status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize)

    def usage(self, prefix: int) -> tuple[int, int]:
        """Return the number of blobs in a prefix folder (0 to 255), and their bytes.

        Raises OSError.
        """
        with suppress(FileNotFoundError, NotADirectoryError):
            return usage(self._folders.path(f"{prefix:02x}"))
        return 0, 0

    def entries(self, folder: str = "", after: str = "") -> Iterator[Entry]:
        """Yield what is in a folder of the store, as `listing.entries`; nothing if it is gone."""
        with suppress(FileNotFoundError):
            yield from entries(self._folders.path(folder), after)

    def quarantined(self) -> Iterator[Entry]:
        """Yield the damaged blobs that were moved out of the way, healed ones included."""
        return self.entries(QUARANTINE)

    def abandoned(self, *, remove: bool) -> Iterator[tuple[str, int]]:
        """Yield what no upload holds of what is staged, as `staging.unheld`. Raises OSError."""
        return unheld(self._staging, remove=remove)

    def holds(self, blob: LocalBlob) -> bool:
        """Tell whether an open blob is still the one that is stored, and unchanged by any hand."""
        path = f"{self._folders.path(blob.digest.hex[:2])}/{blob.digest.hex}"
        with suppress(FileNotFoundError, NotADirectoryError):
            return _is_same(blob, os.lstat(path))
        return False

    def quarantine(self, blob: LocalBlob) -> bool:
        """Move a damaged blob out of the way, durably; false if it is no longer stored.

        Raises OSError.
        """
        self._quarantine.make()
        name, prefix = blob.digest.hex, blob.digest.hex[:2]
        try:
            with self._folders.locked(prefix, create=False) as folder:
                if not _is_same(blob, os.stat(name, dir_fd=folder, follow_symlinks=False)):
                    return False
                with self._deletions.noted(blob.digest):
                    self._quarantine.take(blob.digest, folder)
                metrics.blob_removed(name, blob.size)
                self._folders.remove_if_empty(prefix)
                self._folders.flush_entries(folder)
                return True
        except FileNotFoundError:
            return False

    def forsaken(self, prefix: str, *, remove: bool) -> bool:
        """Tell whether a prefix folder was left empty, and remove it if wished.

        What cannot be looked into, or is gone, was not.
        """
        try:
            with self._folders.locked(prefix, create=False) as folder:
                age = time.time() - os.fstat(folder).st_mtime
                if os.listdir(folder) or age < FORSAKEN_AFTER:
                    return False
                if remove:
                    self._folders.remove_if_empty(prefix)
                    self._folders.flush_entries(folder)
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
        with self._folders.locked(digest.hex[:2], create=True) as folder:
            status = _status(folder, digest)
            if status is not None:
                if S_ISREG(status.st_mode):
                    return False
                raise FileExistsError(errno.EEXIST, "not a regular file", digest.hex)
            with self._folders.emptied_on_failure(digest.hex[:2]):
                staged.rename(digest.hex, folder)
            metrics.blob_added(digest.hex, staged.size)
            try:
                self._folders.flush_entries(folder)
            except OSError:
                # Nobody knows whether the name is on disk, and to flush it again would prove
                # nothing (fsync(2)). Who tries again must find it gone, and gets a new one.
                with suppress(OSError), self._deletions.noted(digest):
                    os.unlink(digest.hex, dir_fd=folder)
                    metrics.blob_removed(digest.hex, staged.size)
                raise
        self._quarantine.drop(digest)  # only now that the good one is on disk
        return True

    def _confirm(self, blob: LocalBlob) -> bool:
        """Flush a blob that was there; false if it is gone. Raises OSError.

        Who put it there may not have done that yet, or, by hand, never.
        """
        self._folders.flush(blob.fileno())
        try:
            with self._folders.locked(blob.digest.hex[:2], create=False) as folder:
                named = os.stat(blob.digest.hex, dir_fd=folder, follow_symlinks=False)
                if not os.path.samestat(named, os.fstat(blob.fileno())):
                    return False
                self._folders.unlock(folder)
                self._folders.flush_entries(folder)
                return True
        except FileNotFoundError:
            return False

    def _absence(self, digest: Digest, error: OSError) -> Exception:
        """Return what to raise for `error`, NotFound or Damaged where it means no blob is there."""
        if error.errno not in _NO_BLOB:
            return error
        stamp = self._quarantine.stamp(digest)
        return NotFound(digest) if stamp is None else Damaged(digest, stamp)


def _status(folder: int, digest: Digest) -> os.stat_result | None:
    """Return the status of what has the digest's name in that folder, None if nothing has."""
    try:
        return os.stat(digest.hex, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _is_same(blob: LocalBlob, status: os.stat_result) -> bool:
    """Tell whether `status` is that of the blob's file, with the bytes that it was opened with."""
    unchanged = (status.st_size, status.st_mtime_ns) == (blob.size, blob.stamp)
    return unchanged and os.path.samestat(status, os.fstat(blob.fileno()))
