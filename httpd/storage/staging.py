"""Staging: content on its way in, in a locked temporary file, hashed as it comes.

The same for every backend; what it means to publish is the backend's, given as `place`.
"""

from __future__ import annotations

import fcntl
import os
import random
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from threading import Lock

from httpd import metrics
from httpd.storage import uncached
from httpd.storage.contract import SMALL, DigestMismatch, Piece, Sealed, Stored
from httpd.storage.digest import ALGORITHMS, Digest

# The mode of a blob from its first byte, so that no later chmod(2) has to be flushed: a group may
# read (backups, a web server beside), nobody but the daemon writes, others see nothing. While it
# is staged, the mode 0700 of its folder keeps the group out as well. The umask applies.
MODE = 0o640

# One system call, one hash update and one release of the GIL work on this much: small pieces off a
# socket are joined first. Measured: 256 MiB in pieces of 4 KiB take 0.9 s, not joined 1.6 s.
BATCH = 1 << 17

# Flushed while more is coming, so that the last flush is short. Measured on ext4, 1 GiB: the last
# step falls from 0.46 s to under 0.01 s; 8 and 32 MiB are the same within noise.
FLUSH_EVERY = 16 << 20

# One write(2). The kernel takes a file's memory in blocks as large as the writes, and in a virtual
# machine large ones may have been given back to the host. Measured in one, CPU for writing 1 GiB:
# by 1 MiB 0.3 to 2.9 s, by 256 KiB 0.3 s; the whole upload takes 2.7 s instead of 3.9 s.
WRITE = 1 << 18

# A file up to this size, an eighth of the machine's memory, stays in the page cache for those who
# download it next: off the disk that takes three times as long. A bigger one would push out all
# else, and does not stay; or not what is beyond, where its size is not said before.
CACHED = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 8


class TempFile:
    """A file that is locked by flock(2) for as long as its writer lives, so that sweep spares it.

    The lock goes with the open file description: it ends with the process however that dies, and
    no later process of the same pid can be taken for it. But a child that is forked meanwhile
    shares it and would keep it (O_CLOEXEC works at exec, not at fork): workers are forked before
    anything is staged.
    """

    def __init__(self, folder: str, cached: int = CACHED) -> None:
        """Create and lock a file of random name in `folder`. Raises OSError.

        `cached`: how many of its first bytes stay in the page cache.
        """
        self._cached = cached
        self._size = 0
        while True:
            self.path = f"{folder}/{random.getrandbits(128):032x}"  # seeded anew at a fork
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self.descriptor = os.open(self.path, flags, MODE)
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX)
            except OSError:
                self.discard()
                raise
            # A sweep between the creation and the lock has taken it for one of the dead.
            if os.fstat(self.descriptor).st_nlink:
                return
            os.close(self.descriptor)

    def write(self, content: Piece) -> None:
        """Append all of `content`, though a call may take only part of it. Raises OSError."""
        rest = memoryview(content)
        while rest:
            if self._size < self._cached:
                written = os.write(self.descriptor, rest[:WRITE])
            else:
                written = uncached.write(self.descriptor, rest, self._size)
            self._size += written
            rest = rest[written:]

    def rename(self, name: str, folder: int) -> None:
        """Move it to `name` in the folder of that descriptor. Raises OSError."""
        os.rename(self.path, name, dst_dir_fd=folder)
        self.path = ""

    def discard(self) -> None:
        """Remove it, unless it has been renamed, and let go of it. To be called once."""
        if self.path:
            with suppress(OSError):  # what cannot be removed now is left to sweep
                os.unlink(self.path)
        os.close(self.descriptor)


def sweep(folder: str) -> int:
    """Remove the files in `folder` whose writers are dead; return how many. Raises OSError."""
    return sum(1 for _ in unheld(folder, remove=True))


def unheld(folder: str, *, remove: bool) -> Iterator[tuple[str, int]]:
    """Yield name and size of the files in `folder` that no writer holds. Raises OSError.

    They are what the dead have left; or one is so young that it is not locked yet, and then it is
    empty. With `remove` they are gone when they are yielded.
    """
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
    for name in names:
        size = _size_if_unheld(f"{folder}/{name}", remove=remove)
        if size is not None:
            yield name, size


def _size_if_unheld(path: str, *, remove: bool) -> int | None:
    with suppress(FileNotFoundError):  # published or discarded just now
        # For writing, since NFS grants LOCK_EX on nothing else (flock(2)).
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if remove:
                os.unlink(path)
            return os.fstat(descriptor).st_size
        except BlockingIOError:  # its writer lives
            pass
        finally:
            os.close(descriptor)
    return None


class StagedFile:
    """Content on its way in, `contract.Staged`; and for a backend's `place`, what to do with it.

    The temporary file is made when the first byte is written, so that small content that is
    stored already never needs one.
    """

    def __init__(
        self,
        folder: str,
        algorithm: str,
        also: Collection[str],
        place: Callable[[StagedFile, Digest], bool],
        length: int | None = None,
        *,
        durable: bool,
    ) -> None:
        """Stage in `folder`. `algorithm` makes the blob's own digest, `also` those to be checked.

        `length`: how many bytes are said to come; it is not relied on.

        `place` makes the content visible under its digest and returns true, or returns false if
        it has been there; it raises Collision or OSError.
        """
        self.size = 0
        self._folder = folder
        self._algorithm = algorithm
        self._hashes = {name: ALGORITHMS[name].begin() for name in (algorithm, *also)}
        self._place = place
        self._cached = 0 if length is not None and length > CACHED else CACHED
        self._durable = durable
        self._to_hash: deque[Piece] = deque()
        self._to_write: deque[Piece] = deque()
        self._hashing = Lock()
        self._writing = Lock()  # held wherever the temporary file is used, but to flush it
        self._flushing = Lock()
        self._written = 0
        self._flushed = 0
        self._file: TempFile | None = None
        self._failure: Exception | None = None

    def wants_flush(self) -> bool:
        """Tell, once, whether so much is written and not flushed that to do it now pays."""
        written = self._written
        if not self._durable or written - self._flushed < FLUSH_EVERY:
            return False
        self._flushed = written
        return True

    def append(self, piece: Piece) -> None:
        """Queue the content's next bytes. Never blocks, never fails."""
        self.size += len(piece)
        self._to_hash.append(piece)
        self._to_write.append(piece)

    def hash_batch(self) -> None:
        """Hash the next batch of what is queued for it, if anything is."""
        with self._hashing:
            self._work_off(self._to_hash, self._hash)

    def write_batch(self) -> None:
        """Write the next batch of what is queued for it, if anything is. Raises OSError."""
        with self._writing:
            self._work_off(self._to_write, self._write)

    def flush(self) -> None:
        """Bring what is written by now to disk, while more is coming. Raises OSError."""
        with self._flushing, self._failure_kept():
            file = self._file
            if file is not None:
                os.fdatasync(file.descriptor)

    def seal(self, expected: Collection[Digest] = ()) -> Sealed:
        """Work off what is pending, and stamp the content by the time of its file.

        The clock of utime(2) is exact to the nanosecond, and no two copies are made in the same;
        a backup or a restore that keeps times keeps the stamp. Raises as `publish` does.
        """
        with self._discarded_on_failure():
            digest = self.check(expected)
            self._write_all()
            with self._writing:
                descriptor = self._open_file().descriptor
                now = time.time_ns()
                os.utime(descriptor, ns=(now, now))
                return Sealed(digest, self.size, os.fstat(descriptor).st_mtime_ns)

    def publish(self, expected: Collection[Digest] = (), *, keep: bool = False) -> Stored:
        """Work off what is pending, make the content durable and visible; the last step.

        With `keep`, content that is there already stays staged. Raises DigestMismatch, Collision,
        OSError, and ValueError after `discard` or `publish`.
        """
        with self._discarded_on_failure():
            digest = self.check(expected)
            created = self._place(self, digest)
        if created or not keep:
            self.discard()
        return Stored(digest, self.size, created)

    def discard(self) -> None:
        """Give the content up and free what it holds. May be called again and after publish."""
        # Set without waiting: it stops a thread that is at work between two batches.
        self._failure = self._failure or ValueError("this content is no longer staged")
        with self._flushing, self._writing:
            file, self._file = self._file, None
            if file is not None:
                file.discard()

    def same_as(self, descriptor: int) -> bool:
        """Tell whether that file has the same bytes, for `place`. Raises OSError."""
        if os.fstat(descriptor).st_size != self.size:
            return False
        offset = 0
        with self._writing:
            for piece in self._pieces():
                if os.pread(descriptor, len(piece), offset) != piece:
                    return False
                offset += len(piece)
        return True

    def complete(self) -> None:
        """Bring all bytes into the temporary file, and to disk if durable, for `place`."""
        self._write_all()
        with self._writing:
            file = self._open_file()
            if self._durable:
                begun = time.monotonic()
                os.fsync(file.descriptor)
                metrics.observe_flush(time.monotonic() - begun, 1)

    def rename(self, name: str, folder: int) -> None:
        """Move the complete file to `name` in the folder of that descriptor, for `place`."""
        with self._writing:
            self._open_file().rename(name, folder)

    def unwritten(self) -> bytes | None:
        """Return the content if it is SMALL, and nothing of it is written yet."""
        self._raise_failure()
        if self.size > SMALL or self._written:
            return None
        return b"".join(self._to_write)

    def check(self, expected: Collection[Digest]) -> Digest:
        """Hash the rest; return the digest. Raises DigestMismatch."""
        self._raise_failure()
        while self._to_hash:
            self.hash_batch()
        for digest in expected:
            actual = self._digest(digest.algorithm)
            if actual != digest:
                raise DigestMismatch(digest, actual)
        return self._digest(self._algorithm)

    def _work_off(self, queue: deque[Piece], work: Callable[[Piece], None]) -> None:
        """Do `work` on a batch of the queue."""
        with self._failure_kept():
            batch = _take(queue)
            if batch:
                work(batch)

    @contextmanager
    def _failure_kept(self) -> Iterator[None]:
        """Let a failure of any work stay, and be raised by all that comes after it."""
        try:
            self._raise_failure()
            yield
        except Exception as error:
            self._failure = self._failure or error
            raise

    def _hash(self, batch: Piece) -> None:
        for running in self._hashes.values():
            running.update(batch)

    def _write(self, batch: Piece) -> None:
        self._open_file().write(batch)
        self._written += len(batch)

    def _pieces(self) -> Iterator[Piece]:
        """Read the content back: what is written from the file, the rest from the queue."""
        self._raise_failure()
        if self._file is not None:
            for offset in range(0, self._written, BATCH):
                yield os.pread(self._file.descriptor, BATCH, offset)
        yield from self._to_write

    def _open_file(self) -> TempFile:
        self._raise_failure()
        if self._file is None:
            self._file = TempFile(self._folder, self._cached)
        return self._file

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _write_all(self) -> None:
        while self._to_write:
            self.write_batch()

    @contextmanager
    def _discarded_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.discard()
            raise

    def _digest(self, algorithm: str) -> Digest:
        return Digest(algorithm, self._hashes[algorithm].hexdigest())


def _take(queue: deque[Piece]) -> Piece:
    """Take pieces off the queue, joined to about BATCH bytes; none are left if that is empty."""
    pieces = []
    size = 0
    while queue and size < BATCH:
        pieces.append(queue.popleft())
        size += len(pieces[-1])
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
