"""Settling a journal: what is in it comes to disk by itself, as the plain files that blobs are."""

from __future__ import annotations

import errno
import os
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from enum import Enum
from stat import S_ISREG

from loguru import logger

from httpd.storage.digest import ALGORITHMS, Digest
from httpd.storage.folders import OPEN, OPEN_FILE, Folders
from httpd.storage.journal import Journal, Record
from httpd.storage.journals import Journals
from httpd.storage.staging import TempFile
from httpd.storage.syncfs import syncfs, tells_errors

PIECE = 1 << 20


class _Found(Enum):
    """What is there where a record's content belongs."""

    NOTHING = "nothing"
    TORN = "what has not the digest"
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
            self._flush_all(journal)
        except OSError as error:
            logger.error("a flush of the store failed, its blobs are written anew: {}", error)
            for _ in self._restore(journal, anew=True):
                pass
            self._flush_all(journal, one_by_one=True)
        self._journals.empty(journal)

    def settle_dead(self, goes_on: Callable[[], object] = lambda: None) -> int:
        """Put back what the journals of dead processes have, and remove them; return how many.

        After a crash of the system the files may be missing or torn; what has the bytes of its
        digest is left alone, so this may be interrupted and begun again at any time. `goes_on` is
        called again and again meanwhile.
        """
        self.watch()
        count = 0
        for journal in self._journals.dead():
            with closing(journal):
                there: list[Digest] = []
                for found in self._restore(journal, anew=False):
                    there += found
                    goes_on()
                self._flush_all(journal)
                for digest in there:
                    self._drop_damaged(digest)
                self._journals.remove(journal)
            count += 1
        return count

    def _restore(self, journal: Journal, *, anew: bool) -> Iterator[list[Digest]]:
        """Make sure that what is in a journal is there as files, unless it was deleted.

        `anew`: even if it seems to be there, as what is in memory may differ from what is on disk.
        Yields what is there, a prefix folder at a time.
        """
        for prefix, records in _by_prefix(journal).items():
            with self._folders.locked(prefix, create=True) as folder:
                there = [
                    record.digest
                    for record in records.values()
                    if self._restore_one(journal, record, folder, anew=anew)
                ]
                self._folders.remove_if_empty(prefix)
            yield there

    def _restore_one(self, journal: Journal, record: Record, folder: int, *, anew: bool) -> bool:
        content = journal.content(record)
        # Is it valid still? The folder is locked, and who deletes holds that until it is not.
        if content is None or not journal.is_valid(record):
            return False  # torn, and so never acknowledged; or deleted
        name, stamp = record.digest.hex, record.stamp
        found = _look(folder, record.digest, content)
        if found is _Found.OTHER or (found is _Found.SAME and not anew):
            return True
        if (
            found is not _Found.SAME
            and Digest.of(content, record.digest.algorithm) != record.digest
        ):
            return False  # torn as well
        if found is _Found.TORN and not anew:
            # A file that is replaced ext4 brings to disk at once, each by itself (ext4(5),
            # auto_da_alloc). Measured: 8,000 of them take 2.0 s, and so they take 0.2 s.
            os.unlink(name, dir_fd=folder)
        self._write(folder, name, content, stamp)
        return True

    def _write(self, folder: int, name: str, content: bytes, stamp: int) -> None:
        file = TempFile(self._staging)
        try:
            file.write(content)
            os.utime(file.descriptor, ns=(stamp, stamp))
            file.rename(name, folder)
        finally:
            file.discard()

    def _flush_all(self, journal: Journal, *, one_by_one: bool = False) -> None:
        """Bring the files of a journal to disk, and the folders that they are in."""
        if not self._folders.durable:
            return
        self.watch()
        assert self._root is not None
        syncfs(self._root)
        if one_by_one or not tells_errors(self._folders.root):
            for prefix, records in _by_prefix(journal).items():
                with suppress(FileNotFoundError):  # deleted meanwhile
                    self._flush_folder(prefix, records)
            self._folders.flush_path(self._folders.root)

    def _flush_folder(self, prefix: str, names: Iterable[str]) -> None:
        folder = os.open(self._folders.path(prefix), OPEN)
        try:
            for name in names:
                with suppress(FileNotFoundError):
                    self._folders.flush_file(name, folder)
            self._folders.flush(folder)
        finally:
            os.close(folder)


def _by_prefix(journal: Journal) -> dict[str, dict[str, Record]]:
    """Return the records of a journal that are valid, by prefix folder and name.

    The last one of a name: it can be of other content than one before only after that has gone, by
    a hand or as damaged.
    """
    found: dict[str, dict[str, Record]] = {}
    for record in journal.records():
        if record.valid:
            name = record.digest.hex
            found.setdefault(name[:2], {})[name] = record
    return found


def _look(folder: int, digest: Digest, content: bytes) -> _Found:
    """Tell what the file of that digest has in it. Raises OSError."""
    try:
        descriptor = os.open(digest.hex, OPEN_FILE, dir_fd=folder)
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
        return _Found.OTHER if running.hexdigest() == digest.hex else _Found.TORN
    except OSError as error:
        if error.errno == errno.EIO:  # it never came to disk as a whole
            return _Found.TORN
        raise
    finally:
        os.close(descriptor)
