"""Journals: what is appended is there, what is torn is not, and nothing else ever counts."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from httpd.storage.digest import ALGORITHMS, Digest
from httpd.storage.journal import HEAD_BYTES, Journal

Batch = list[tuple[Digest, bytes]]


def entry(content: bytes, algorithm: str = "md5") -> tuple[Digest, bytes]:
    running = ALGORITHMS[algorithm].begin()
    running.update(content)
    return Digest(algorithm, running.hexdigest()), content


BATCH = [entry(b"hello"), entry(b""), entry(bytes(range(256)) * 200), entry(b"x", "blake2b")]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal.create(str(tmp_path))
    yield journal
    journal.close()


def append(journal: Journal, batch: Batch) -> list[int]:
    offsets = journal.write(batch)
    journal.flush(offsets)
    return offsets


def read(journal: Journal, *, void: bool = False) -> list[tuple[Digest, bytes | None]]:
    """Return what counts in a journal, as who settles it reads it."""
    return [
        (record.digest, journal.content(record))
        for record in journal.records()
        if journal.is_valid(record) or void
    ]


def test_what_is_appended_is_read_in_order(journal: Journal) -> None:
    assert read(journal) == []
    append(journal, BATCH[:1])
    append(journal, BATCH[1:])
    assert read(journal) == BATCH
    assert journal.count == len(BATCH)
    assert journal.size == os.fstat(journal.descriptor).st_size


def test_an_empty_one_has_nothing_of_what_was_in_it(journal: Journal) -> None:
    append(journal, BATCH)
    journal.empty()
    assert (read(journal), journal.count, journal.size) == ([], 0, HEAD_BYTES)
    append(journal, BATCH[:1])
    # Right behind that lies, byte for byte, a record of before.
    assert read(journal) == BATCH[:1]


def test_what_is_torn_ends_the_journal(tmp_path: Path, journal: Journal) -> None:
    append(journal, BATCH[:1])
    begin = journal.size
    append(journal, [entry(b"torn")])
    whole = Path(journal.path).read_bytes()
    for length in range(begin, len(whole)):
        torn = tmp_path / "torn"
        torn.write_bytes(whole[:length])
        dead = Journal.adopt(str(torn))
        assert dead
        assert [found for found in read(dead) if found[1] is not None] == BATCH[:1], length
        dead.close()


def test_a_record_with_a_wrong_byte_does_not_count(tmp_path: Path, journal: Journal) -> None:
    append(journal, BATCH[:1])
    begin = journal.size
    append(journal, [entry(b"torn")])
    whole = Path(journal.path).read_bytes()
    for offset in range(begin, len(whole)):
        wrong = bytearray(whole)
        wrong[offset] ^= 0x20
        (tmp_path / "wrong").write_bytes(wrong)
        dead = Journal.adopt(str(tmp_path / "wrong"))
        assert dead
        assert [found for found in read(dead) if found[1] is not None] == BATCH[:1], offset
        dead.close()


def test_content_that_looks_like_a_record_is_content(journal: Journal) -> None:
    append(journal, [entry(b"inner")])
    forged = Path(journal.path).read_bytes()[HEAD_BYTES:]
    journal.empty()
    append(journal, [entry(forged), entry(b"last")])
    assert read(journal) == [entry(forged), entry(b"last")]


def test_a_void_record_does_not_count_and_hides_none_behind_it(journal: Journal) -> None:
    offsets = append(journal, BATCH)
    journal.void(offsets[1])
    assert read(journal) == [BATCH[0], *BATCH[2:]]
    assert [record.valid for record in journal.records()] == [True, False, True, True]


def test_that_of_a_living_process_is_not_adopted(tmp_path: Path, journal: Journal) -> None:
    assert Journal.adopt(journal.path) is None
    assert Journal.adopt(str(tmp_path / "gone")) is None


def test_that_of_a_dead_one_is(tmp_path: Path) -> None:
    ours = Journal.create(str(tmp_path))
    append(ours, BATCH)
    ours.close()
    theirs = Journal.adopt(ours.path)
    assert theirs
    assert read(theirs) == BATCH
    theirs.close()


def test_one_that_is_taken_for_a_dead_ones_while_it_is_made_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, taken = fcntl.flock, []

    def tidied_up_first(descriptor: int, how: int) -> None:
        if not taken:
            [path] = tmp_path.iterdir()
            taken.append(path)
            path.unlink()
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", tidied_up_first)
    journal = Journal.create(str(tmp_path))
    assert [Path(journal.path)] == list(tmp_path.iterdir())
    journal.close()


def failing(name: str, monkeypatch: pytest.MonkeyPatch, number: int = errno.EIO) -> None:
    """Let the next call of os.`name` fail, and no other."""
    original = getattr(os, name)

    def fail(*args: object) -> None:
        monkeypatch.setattr(os, name, original)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, name, fail)


def test_a_write_that_fails_leaves_nothing(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(journal, BATCH[:1])
    pwrite, pieces = os.pwrite, iter([100, 5])

    def fill_up(descriptor: int, data: bytes, offset: int) -> int:
        if (size := next(pieces, None)) is None:
            monkeypatch.setattr(os, "pwrite", pwrite)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwrite(descriptor, data[:size], offset)

    monkeypatch.setattr(os, "pwrite", fill_up)
    with pytest.raises(OSError, match="No space left"):
        journal.write([entry(b"lost"), entry(b"lost, too")])
    assert read(journal) == BATCH[:1]
    assert journal.has_failed


def test_a_flush_that_fails_leaves_nothing(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(journal, BATCH[:1])
    offsets = journal.write([entry(b"lost"), entry(b"lost, too")])
    failing("fdatasync", monkeypatch)
    with pytest.raises(OSError, match="Input/output"):
        journal.flush(offsets)
    assert journal.has_failed
    assert read(journal) == BATCH[:1]
    journal.empty()
    assert not journal.has_failed


@pytest.mark.parametrize("call", ["pwrite", "fdatasync"])
def test_one_that_cannot_be_made_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    failing(call, monkeypatch, errno.ENOSPC)
    with pytest.raises(OSError, match="No space left"):
        Journal.create(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"filestored jour", b"something else" * 20])
def test_what_is_no_journal_has_no_records(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other").write_bytes(content)
    other = Journal.adopt(str(tmp_path / "other"))
    assert other
    assert read(other) == []
    other.close()
