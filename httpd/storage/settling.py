"""Settling a journal: what is in it comes to disk by itself, as the plain files that blobs are."""

from __future__ import annotations

import errno
import os
import weakref
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from enum import Enum
from stat import S_ISREG

from loguru import logger

from httpd.storage.digest import ALGORITHMS, Digest
from httpd.storage.folders import Folders
from httpd.storage.journal import Journal, Record
from httpd.storage.journals import Journals
from httpd.storage.staging import TempFile
from httpd.storage.syncfs import syncfs, tells_errors

PIECE = 1 << 20


class _Found(Enum):
    """What is there where a record's content belongs."""

    NOTHING = "nothing, or torn"
    SAME = "the content"
    OTHER = "other content of that digest, which was there first and stays as it is"


class Settling:
    """Settles the journals of a store. Raises OSError."""

    def __init__(
        self,
        folders: Folders,
        journals: Journals,
        staging: str,
        drop_damaged: Callable[[Digest], object],
    ) -> None:
        """Take the store's folders and journals, and its folder for temporary files.

        `drop_damaged` removes the damaged copy of a blob when there is a good one.
        """
        self._folders = folders
        self._journals = journals
        self._staging = staging
        self._drop_damaged = drop_damaged
        self._root: int | None = None

    def watch(self) -> None:
        """From now on let no data be lost on its way to disk without a settling that fails.

        syncfs(2) tells of it once for each open file, and only of what came after that was opened:
        so the one it is asked by is opened before anything is written.
        """
        if self._root is None:
            self._root = os.open(self._folders.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            weakref.finalize(self, os.close, self._root)

    def settle(self, journal: Journal) -> None:
        """Bring to disk what is in a journal of this process, and empty it.

        Its blobs are there as files, whole, since before they were acknowledged: they only have to
        be flushed. Where that fails nobody can tell which of them were lost on the way, and to
        flush again would prove nothing: so all of them are written anew.
        """
        try:
            self._flush_all(journal.records())
        except OSError as error:
            logger.error("a flush of the store failed, its blobs are written anew: {}", error)
            for record in journal.records():
                self._restore(journal, record, anew=True)
            self._flush_all(journal.records(), one_by_one=True)
        self._journals.empty(journal)

    def settle_dead(self) -> int:
        """Put back what the journals of dead processes have, and remove them; return how many.

        After a crash of the system the files may be missing or torn; what has the bytes of its
        digest is left alone, so this may be interrupted and begun again at any time.
        """
        self.watch()
        count = 0
        for journal in self._journals.dead():
            with closing(journal):
                for record in journal.records():
                    self._restore(journal, record, anew=False)
                self._flush_all(journal.records())
                for record in journal.records():
                    self._drop_damaged(record.digest)
                self._journals.remove(journal)
            count += 1
        return count

    def _restore(self, journal: Journal, record: Record, *, anew: bool) -> None:
        """Make sure that a record's content is there as a file, unless it was deleted.

        `anew`: even if it seems to be there, as what is in memory may differ from what is on disk.
        """
        content = journal.content(record)
        if content is None or not _has_digest(content, record.digest):
            return  # torn: it was never acknowledged
        prefix, name = record.digest.hex[:2], record.digest.hex
        with self._folders.locked(prefix, create=True) as folder:
            # Under the lock, which is held by who deletes until the record is void.
            if journal.is_valid(record):
                found = _look(folder, record.digest, content)
                if found is _Found.NOTHING or (anew and found is _Found.SAME):
                    self._write(folder, name, content, record.stamp)
            self._folders.remove_if_empty(prefix)

    def _write(self, folder: int, name: str, content: bytes, stamp: int) -> None:
        file = TempFile(self._staging)
        try:
            file.write(content)
            os.utime(file.descriptor, ns=(stamp, stamp))
            file.rename(name, folder)
        finally:
            file.discard()

    def _flush_all(self, records: Iterable[Record], *, one_by_one: bool = False) -> None:
        """Bring the files of the records to disk, and the folders that they are in."""
        if not self._folders.durable:
            return
        self.watch()
        assert self._root is not None
        syncfs(self._root)
        if one_by_one or not tells_errors(self._folders.root):
            prefixes = set()
            for record in records:
                with suppress(FileNotFoundError):  # deleted meanwhile
                    self._flush_file(record.digest)
                    prefixes.add(record.digest.hex[:2])
            for prefix in prefixes:
                with suppress(FileNotFoundError):
                    self._folders.flush_path(self._folders.path(prefix))
            self._folders.flush_path(self._folders.root)

    def _flush_file(self, digest: Digest) -> None:
        path = f"{self._folders.path(digest.hex[:2])}/{digest.hex}"
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            self._folders.flush(descriptor)
        finally:
            os.close(descriptor)


def _look(folder: int, digest: Digest, content: bytes) -> _Found:
    """Tell what the file of that digest has in it. Raises OSError."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(digest.hex, flags, dir_fd=folder)
    except FileNotFoundError:
        return _Found.NOTHING
    try:
        status = os.fstat(descriptor)
        if not S_ISREG(status.st_mode):
            raise FileExistsError(errno.EEXIST, "not a regular file", digest.hex)
        if status.st_size == len(content) and os.pread(descriptor, len(content), 0) == content:
            return _Found.SAME
        running, offset = ALGORITHMS[digest.algorithm].begin(), 0
        while piece := os.pread(descriptor, PIECE, offset):
            running.update(piece)
            offset += len(piece)
        return _Found.OTHER if running.hexdigest() == digest.hex else _Found.NOTHING
    except OSError as error:
        if error.errno == errno.EIO:  # it never came to disk as a whole
            return _Found.NOTHING
        raise
    finally:
        os.close(descriptor)


def _has_digest(content: bytes, digest: Digest) -> bool:
    running = ALGORITHMS[digest.algorithm].begin()
    running.update(content)
    return running.hexdigest() == digest.hex
