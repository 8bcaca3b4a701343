"""The folder of journals, `.journal`: whose they are, and deletions in all of them.

Content that is deleted must not come back from anybody's journal after a crash. So who deletes it
voids its records in every journal there is; that a journal can be emptied or removed meanwhile is
what the lock of the folder is for.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from httpd.storage.digest import Digest
from httpd.storage.folders import OPEN, Folders
from httpd.storage.journal import HEAD_BYTES, Journal, marker_of, records, void

FOLDER = ".journal"
MODE = 0o700  # content of uploads lies in it, whoever may read the blobs


@dataclass(slots=True)
class _Known:
    """What this process has read of a journal: where the valid and the void records of what are."""

    descriptor: int
    marker: bytes = b""
    end: int = HEAD_BYTES
    offsets: dict[str, list[int]] = field(default_factory=dict)  # by the digest in hex

    def read_on(self) -> None:
        """Read what was appended since; all of it, where the journal was emptied meanwhile."""
        marker = marker_of(self.descriptor)
        if marker != self.marker:
            self.marker, self.end, self.offsets = marker, HEAD_BYTES, {}
        for record in records(self.descriptor, marker, self.end):
            self.offsets.setdefault(record.digest.hex, []).append(record.offset)
            self.end = record.end

    def void(self, digest: Digest) -> None:
        """Void, durably, what it has of a digest."""
        for offset in self.offsets[digest.hex]:
            void(self.descriptor, offset)
        os.fdatasync(self.descriptor)
        del self.offsets[digest.hex]  # not before: who has failed may try again


class Journals:
    """The journals of a store, of all processes. Raises OSError."""

    def __init__(self, folders: Folders) -> None:
        """Take the store's folders; the journals' own is made with the first of them."""
        self._folders = folders
        self._path = folders.path(FOLDER)
        self._known: dict[str, _Known] = {}
        self._lock = Lock()

    def create(self) -> Journal:
        """Make one for this process, durably."""
        self._folders.make(Path(self._path), MODE)
        journal = Journal.create(self._path)
        try:
            self._folders.flush_path(self._path)
        except OSError:
            os.unlink(journal.path)
            journal.close()
            raise
        return journal

    def dead(self) -> Iterator[Journal]:
        """Yield those whose processes have died, each open; the caller closes it."""
        for name in self._names():
            journal = Journal.adopt(f"{self._path}/{name}")
            if journal is not None:
                yield journal

    def empty(self, journal: Journal) -> None:
        """Let go of what is in it, when all of that is on disk by itself."""
        with self._folder_locked(fcntl.LOCK_EX):
            journal.empty()

    def remove(self, journal: Journal) -> None:
        """Remove it, when all that was in it is on disk by itself."""
        with self._folder_locked(fcntl.LOCK_EX):
            os.unlink(journal.path)
            self._folders.flush_path(self._path)

    def void(self, digest: Digest, flush_file: Callable[[], None] | None = None) -> None:
        """Void, durably, what any journal has of content that is about to be deleted.

        `flush_file` brings its file to disk, if there is one: called where a journal has it, since
        the record must not go before. Held off meanwhile, by the lock of the prefix folder, is
        whoever would make it visible.
        """
        with self._lock:
            try:
                with self._folder_locked(fcntl.LOCK_SH):
                    holding = [each for each in self._read_on() if digest.hex in each.offsets]
                    if holding and flush_file is not None:
                        flush_file()
                    for known in holding:
                        known.void(digest)
            except FileNotFoundError:
                return  # there has never been a journal

    def close(self) -> None:
        """Let go of what was opened to void records."""
        with self._lock:
            for known in self._known.values():
                os.close(known.descriptor)
            self._known.clear()

    def _read_on(self) -> list[_Known]:
        """Bring to the present what is known of each journal."""
        names = self._names()
        for name in self._known.keys() - set(names):
            os.close(self._known.pop(name).descriptor)
        for name in names:
            if name not in self._known:
                flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
                with suppress(FileNotFoundError):  # its making has failed this moment
                    self._known[name] = _Known(os.open(f"{self._path}/{name}", flags))
        for known in self._known.values():
            known.read_on()
        return list(self._known.values())

    def _names(self) -> list[str]:
        try:
            return os.listdir(self._path)
        except FileNotFoundError:
            return []

    @contextmanager
    def _folder_locked(self, how: int) -> Iterator[None]:
        """Hold the folder's lock: LOCK_SH to read all journals, LOCK_EX to let go of one.

        Else who has looked into a journal that was emptied this moment would take for gone what
        comes back in a power cut, since that was not on disk yet.
        """
        folder = os.open(self._path, OPEN)
        try:
            fcntl.flock(folder, how)
            yield
        finally:
            os.close(folder)
