"""A journal: content that was acknowledged, and may not be on disk by itself yet.

One file, to which one process appends, and which is used again and again:

    head    "filestored journal 1", the marker
    record  head (the marker, a state, when, lengths, checksums), the digest, the content
    record  …

The marker is random, and a new one makes the journal empty at once: only what begins with it, from
the head on without a gap, is a record. So an append that a power cut has torn ends the journal, and
what lies behind it from earlier times counts for nothing. That blocks are overwritten and not
appended also spares most flushes the file system's own journal.

A record is never removed: it is voided by one byte, by whoever deletes its content.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from struct import Struct
from typing import NamedTuple
from zlib import crc32

from httpd import metrics
from httpd.storage.digest import Digest

TITLE = b"filestored journal 1\n"
MARKER_BYTES = 16
HEAD_BYTES = 64  # of the file: within one sector, which a disk writes whole or not at all
# Marker, state; when, length and checksum of the content, length of the digest; their checksum.
_RECORD = Struct("!16sc17sI")
_FIELDS = Struct("!QIIB")
_STATE_OFFSET = MARKER_BYTES
# Read at once of a record: its head, and the longest `algorithm:hex`.
_MOST_HEAD = _RECORD.size + 160
VALID, VOID = b"V", b"-"
MODE = 0o600


class Record(NamedTuple):
    """One record: where it lies in the file, and what it is about."""

    offset: int  # of its head
    digest: Digest
    stamp: int  # when it was written, in nanoseconds since the epoch
    start: int  # offset of the content
    length: int  # of the content, in bytes
    checksum: int  # of the content
    valid: bool  # not voided, when it was read

    @property
    def end(self) -> int:
        """Where the next record begins."""
        return self.start + self.length


class Journal:
    """An open journal, locked by flock(2) for as long as its process lives.

    One thread appends. Raises OSError.
    """

    def __init__(self, path: str, descriptor: int, marker: bytes) -> None:
        """Take an open and locked file; `create` and `adopt` do this."""
        self.path = path
        self.descriptor = descriptor
        self.count = 0  # of records that were appended since it was empty
        self.has_failed = False  # to be settled before it is used any more
        self._marker = marker
        self._end = HEAD_BYTES

    @classmethod
    def create(cls, folder: str) -> Journal:
        """Make an empty one in a folder, which is to be flushed by the caller."""
        while True:
            path = f"{folder}/{secrets.token_hex(16)}"
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            journal = cls(path, os.open(path, flags, MODE), b"")
            try:
                fcntl.flock(journal.descriptor, fcntl.LOCK_EX)
                # Whoever tidies up may have taken it, unlocked as it was, for one of the dead.
                if os.fstat(journal.descriptor).st_nlink:
                    journal.empty()
                    return journal
            except OSError:
                os.unlink(path)
                journal.close()
                raise
            journal.close()

    @classmethod
    def adopt(cls, path: str) -> Journal | None:
        """Open that of a dead process; None while its process lives, or if it is gone."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return cls(path, descriptor, marker_of(descriptor))
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:
            os.close(descriptor)
            raise

    @property
    def size(self) -> int:
        """The bytes from its begin to the end of its last record."""
        return self._end

    def write(self, batch: Sequence[tuple[Digest, bytes]]) -> list[int]:
        """Append content, not durable before `flush`; return where each record lies.

        If that fails nothing of the batch is in the journal, and `has_failed` is set.
        """
        now = time.time_ns()
        pieces: list[bytes] = []
        offsets = []
        end = self._end
        for digest, content in batch:
            head = self._head(digest, content, now)
            offsets.append(end)
            pieces += head, content
            end += len(head) + len(content)
        try:
            _write(self.descriptor, b"".join(pieces), self._end)
        except OSError:
            self._fail()
            raise
        self._end = end
        self.count += len(batch)
        return offsets

    def flush(self, offsets: Sequence[int]) -> None:
        """Make durable what the last `write` has appended, at `offsets`.

        If that fails nobody knows what is on disk: it is taken out again, and `has_failed` is set.
        """
        begun = time.monotonic()
        try:
            os.fdatasync(self.descriptor)
        except OSError:
            self._end = offsets[0]
            self._fail()
            raise
        metrics.observe_flush(time.monotonic() - begun, len(offsets))

    def void(self, offset: int) -> None:
        """Void a record of content that was not stored after all, durably.

        If that fails `has_failed` is set: the record is to be gone soon, with all others.
        """
        try:
            void(self.descriptor, offset)
            os.fdatasync(self.descriptor)
        except OSError:
            self.has_failed = True
            raise

    def records(self) -> Iterator[Record]:
        """Yield what is in it, in order."""
        return records(self.descriptor, self._marker, HEAD_BYTES)

    def content(self, record: Record) -> bytes | None:
        """Return a record's content, None where a power cut has torn it."""
        content = os.pread(self.descriptor, record.length, record.start)
        whole = len(content) == record.length and crc32(content) == record.checksum
        return content if whole else None

    def is_valid(self, record: Record) -> bool:
        """Tell whether a record has not been voided until now."""
        return os.pread(self.descriptor, 1, record.offset + _STATE_OFFSET) == VALID

    def empty(self) -> None:
        """Give it another marker, durably: no record is in it any more."""
        marker = secrets.token_bytes(MARKER_BYTES)
        os.pwrite(self.descriptor, (TITLE + marker).ljust(HEAD_BYTES, b"\0"), 0)
        os.fdatasync(self.descriptor)
        self._marker = marker
        self._end = HEAD_BYTES
        self.count = 0
        self.has_failed = False

    def close(self) -> None:
        """Let go of it, and of its lock."""
        os.close(self.descriptor)

    def _head(self, digest: Digest, content: bytes, now: int) -> bytes:
        name = f"{digest.algorithm}:{digest.hex}".encode()
        fields = _FIELDS.pack(now, len(content), crc32(content), len(name))
        checksum = _checksum(self._marker, fields, name)
        return _RECORD.pack(self._marker, VALID, fields, checksum) + name

    def _fail(self) -> None:
        """End the journal for good where the failed batch begins, as far as that can be done.

        Others may have read the batch already, and would look for what follows behind it.
        """
        self.has_failed = True
        # If it cannot, it may come back after a crash. That is no harm: who sent it was told of a
        # failure, after which content may or may not be there.
        with suppress(OSError):
            os.pwrite(self.descriptor, bytes(MARKER_BYTES), self._end)


def marker_of(descriptor: int) -> bytes:
    """Return the marker of a journal's records, b"" where there is none yet."""
    head = os.pread(descriptor, HEAD_BYTES, 0)
    return head[len(TITLE) :][:MARKER_BYTES] if head.startswith(TITLE) else b""


def records(descriptor: int, marker: bytes, offset: int) -> Iterator[Record]:
    """Yield the records from an offset on, up to the first that is not there or not whole."""
    while marker:
        record = _read(os.pread(descriptor, _MOST_HEAD, offset), marker, offset)
        if record is None:
            return
        yield record
        offset = record.end


def void(descriptor: int, offset: int) -> None:
    """Void the record at `offset`; durable when the file is flushed."""
    os.pwrite(descriptor, VOID, offset + _STATE_OFFSET)


def _read(data: bytes, marker: bytes, offset: int) -> Record | None:
    if len(data) < _RECORD.size or not data.startswith(marker):
        return None
    _, state, fields, checksum = _RECORD.unpack_from(data)
    stamp, length, content_checksum, name_length = _FIELDS.unpack(fields)
    name = data[_RECORD.size :][:name_length]
    if checksum != _checksum(marker, fields, name):
        return None
    algorithm, _, hexdigits = name.decode().partition(":")
    start = offset + _RECORD.size + name_length
    digest = Digest(algorithm, hexdigits)
    return Record(offset, digest, stamp, start, length, content_checksum, state == VALID)


def _checksum(marker: bytes, fields: bytes, name: bytes) -> int:
    return crc32(marker + fields + name)


def _write(descriptor: int, data: bytes, offset: int) -> None:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[written:], offset + written
