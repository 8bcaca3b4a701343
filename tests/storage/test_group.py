"""Group commit on a local store: what is journaled, what is flushed, and what a failure leaves."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from httpd.storage import rotation
from httpd.storage.contract import Collision, NotFound, Stored
from httpd.storage.digest import Digest
from httpd.storage.journal import Journal
from httpd.storage.local import LocalStorage
from httpd.storage.settling import Settling
from tests.daemons import until
from tests.storage.samples import (
    COLLIDING,
    COLLIDING_DIGEST,
    HELLO,
    download,
    publish_together,
    upload,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def storage(root: Path) -> Iterator[LocalStorage]:
    storage = LocalStorage(root, "md5", durable=True)
    yield storage
    storage.close()


def journaled(root: Path) -> list[str]:
    """Return the hashes of what the journals of a store would bring back after a crash."""
    found = []
    folder = root / ".journal"
    for name in os.listdir(folder) if folder.exists() else []:
        descriptor = os.open(folder / name, os.O_RDONLY)
        try:
            journal = Journal(name, descriptor, _marker(descriptor))
            found += [record.digest.hex for record in journal.records() if record.valid]
        finally:
            os.close(descriptor)
    return found


def _marker(descriptor: int) -> bytes:
    return os.pread(descriptor, 16, 21)


@pytest.fixture
def never_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be settled by the time that passes."""
    monkeypatch.setattr(rotation, "IDLE_SECONDS", 3600.0)


@pytest.fixture
def flushes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record which files are flushed."""
    seen: list[str] = []
    for name in "fsync", "fdatasync":
        original: Callable[[int], None] = getattr(os, name)

        def record(descriptor: int, original: Callable[[int], None] = original) -> None:
            seen.append(os.readlink(f"/proc/self/fd/{descriptor}"))
            original(descriptor)

        monkeypatch.setattr(os, name, record)
    return seen


@pytest.mark.usefixtures("never_idle")
def test_a_group_is_flushed_once(storage: LocalStorage, root: Path, flushes: list[str]) -> None:
    publish_together(storage, b"the first makes the journal")
    flushes.clear()
    stored = publish_together(storage, *(bytes([number]) for number in range(50)))
    assert len(flushes) == 1
    assert flushes[0].startswith(f"{root}/.journal/")
    assert set(journaled(root)) >= {each.digest.hex for each in stored if isinstance(each, Stored)}


@pytest.mark.usefixtures("never_idle")
def test_a_scratch_store_has_no_journal(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path, "md5", durable=False)
    [stored] = publish_together(storage, b"hello")
    assert stored == (HELLO, 5, True)
    assert sorted(os.listdir(tmp_path)) == [".deletions", ".tmp", "5d"]


@pytest.mark.usefixtures("never_idle")
def test_a_deletion_takes_it_out_of_every_journal(
    storage: LocalStorage, root: Path, flushes: list[str]
) -> None:
    other = LocalStorage(root, "md5", durable=True)
    publish_together(storage, b"hello", b"stays")
    publish_together(other, b"stays, too")
    assert HELLO.hex in journaled(root)
    other.delete(HELLO)
    assert HELLO.hex not in journaled(root)
    publish_together(other, b"hello")
    assert HELLO.hex in journaled(root)
    storage.delete(HELLO)
    assert HELLO.hex not in journaled(root)
    assert len(journaled(root)) == 2
    other.close()


@pytest.mark.usefixtures("never_idle")
def test_a_record_is_void_before_the_file_goes_and_after_the_file_is_on_disk(
    storage: LocalStorage, root: Path, flushes: list[str]
) -> None:
    """Or a crash in between could bring back what others have seen to be gone, or leave it torn."""
    publish_together(storage, b"hello")
    flushes.clear()
    storage.delete(HELLO)
    names = [os.path.relpath(path.removesuffix(" (deleted)"), root) for path in flushes]
    assert names[0] == f"5d/{HELLO.hex}"
    assert os.path.dirname(names[1]) == ".journal"
    assert names[2:] == ["5d", "."]


@pytest.mark.usefixtures("never_idle")
def test_an_upload_that_meets_a_deletion_that_fails_does_not_rest_on_a_void_record(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As below; and the deletion fails when the record is void and the file still there."""
    other = LocalStorage(root, "md5", durable=True)
    upload(other, b"hello")
    damaged = root / ".quarantine" / HELLO.hex
    damaged.parent.mkdir()
    (root / "5d" / HELLO.hex).rename(damaged)
    flush = Journal.flush

    def come_between(journal: Journal, offsets: list[int]) -> None:
        flush(journal, offsets)
        monkeypatch.setattr(Journal, "flush", flush)
        failing_once(monkeypatch, os, "unlink")
        with pytest.raises(OSError, match="Input/output error"):
            other.delete(HELLO)

    monkeypatch.setattr(Journal, "flush", come_between)
    assert publish_together(storage, b"hello") == [None]
    assert journaled(root) == []
    other.close()


@pytest.mark.usefixtures("never_idle")
def test_an_upload_that_meets_a_deletion_does_not_rest_on_a_void_record(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the journal and the name, others store the same content and delete it again."""
    other = LocalStorage(root, "md5", durable=True)
    flush = Journal.flush

    def come_between(journal: Journal, offsets: list[int]) -> None:
        flush(journal, offsets)
        monkeypatch.setattr(Journal, "flush", flush)
        upload(other, b"hello")
        other.delete(HELLO)

    monkeypatch.setattr(Journal, "flush", come_between)
    assert publish_together(storage, b"hello") == [None]
    assert journaled(root) == []
    other.close()


@pytest.mark.usefixtures("never_idle")
@pytest.mark.parametrize("fails", [False, True], ids=["", "and no file can be made"])
def test_other_content_of_the_same_digest_that_is_faster_stays(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch, *, fails: bool
) -> None:
    """Also where all that was journaled has to be written anew: that is in no journal any more."""
    publish_together(storage, b"before")
    other = LocalStorage(root, "md5", durable=True)
    flush = Journal.flush

    def come_between(journal: Journal, offsets: list[int]) -> None:
        flush(journal, offsets)
        monkeypatch.setattr(Journal, "flush", flush)
        upload(other, COLLIDING[1])
        if fails:
            failing_once(monkeypatch, os, "write", errno.ENOSPC)

    monkeypatch.setattr(Journal, "flush", come_between)
    [outcome] = publish_together(storage, COLLIDING[0])
    assert isinstance(outcome, OSError) if fails else outcome is None
    assert COLLIDING_DIGEST.hex not in journaled(root)
    with pytest.raises(Collision):
        upload(storage, COLLIDING[0])
    assert download(storage, COLLIDING_DIGEST) == COLLIDING[1]
    other.close()


@pytest.mark.usefixtures("never_idle")
def test_content_with_a_name_stays_in_the_journal_though_the_damaged_copy_could_not_go(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is there for everybody, so it must be whole after a crash."""
    publish_together(storage, b"before")
    damaged = root / ".quarantine" / HELLO.hex
    damaged.parent.mkdir()
    damaged.write_bytes(b"jello")
    failing_once(monkeypatch, os, "unlink")
    [outcome] = publish_together(storage, b"hello")
    assert isinstance(outcome, OSError)
    assert download(storage, HELLO) == b"hello"
    assert HELLO.hex in journaled(root)


@pytest.mark.usefixtures("never_idle")
def test_a_journal_with_a_record_that_cannot_be_voided_is_settled(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_together(storage, b"before")
    failing_once(monkeypatch, os, "rename", errno.ENOSPC)
    fdatasync = os.fdatasync

    def fail(descriptor: int) -> None:
        failing_once(monkeypatch, os, "fdatasync")
        fdatasync(descriptor)

    monkeypatch.setattr(os, "fdatasync", fail)  # the second time
    [outcome] = publish_together(storage, b"hello")
    assert isinstance(outcome, OSError)
    until(lambda: journaled(root) == [], "the journal is settled")


def failing_once(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, number: int = errno.EIO
) -> None:
    original = getattr(owner, name)

    def fail(*_: object, **__: object) -> None:
        monkeypatch.setattr(owner, name, original)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(owner, name, fail)


@pytest.mark.usefixtures("never_idle")
def test_a_flush_that_fails_acknowledges_none_of_the_group(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_together(storage, b"before")
    failing_once(monkeypatch, os, "fdatasync")
    outcomes = publish_together(storage, b"hello", b"world")
    assert [type(each) for each in outcomes] == [OSError, OSError]
    with pytest.raises(NotFound):
        storage.open(HELLO)
    assert os.listdir(root / ".tmp") == []
    # The journal is settled, and used again: nothing of what failed is in it.
    until(lambda: journaled(root) == [])
    assert publish_together(storage, b"hello") == [(HELLO, 5, True)]


@pytest.mark.usefixtures("never_idle")
def test_where_the_journal_has_no_room_each_has_a_flush_of_its_own(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_together(storage, b"before")
    failing_once(monkeypatch, os, "pwrite", errno.ENOSPC)
    assert publish_together(storage, b"hello", b"world") == [None, None]
    # Others may know what was half written: it is settled, and begins anew.
    until(lambda: journaled(root) == [], "the journal is settled")
    assert publish_together(storage, b"hello") == [(HELLO, 5, True)]


def test_a_journal_whose_folder_cannot_be_flushed_is_not_used(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / ".journal").mkdir()
    failing_once(monkeypatch, os, "fsync")
    assert publish_together(storage, b"hello") == [None]
    assert os.listdir(root / ".journal") == []


@pytest.mark.usefixtures("never_idle")
def test_a_deletion_finds_what_was_appended_after_a_failure(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = LocalStorage(root, "md5", durable=True)
    flush = Journal.flush

    def fail_after_others_have_looked(journal: Journal, offsets: list[int]) -> None:
        monkeypatch.setattr(Journal, "flush", flush)
        upload(other, b"unrelated")
        other.delete(Digest("md5", hashlib.md5(b"unrelated").hexdigest()))
        failing_once(monkeypatch, os, "fdatasync")
        flush(journal, offsets)

    publish_together(storage, b"before")
    monkeypatch.setattr(Journal, "flush", fail_after_others_have_looked)
    publish_together(storage, b"longer than what comes then", b"and another")
    while publish_together(storage, b"hello") != [(HELLO, 5, True)]:
        pass  # the journal is being settled
    other.delete(HELLO)
    assert HELLO.hex not in journaled(root)
    other.close()


def test_where_no_journal_can_be_made_each_has_a_flush_of_its_own(
    storage: LocalStorage, root: Path
) -> None:
    (root / ".journal").touch()
    assert publish_together(storage, b"hello") == [None]
    assert upload(storage, b"hello").created


@pytest.mark.usefixtures("never_idle")
@pytest.mark.parametrize("call", ["write", "rename"])
def test_content_that_gets_no_name_is_not_left_in_the_journal(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    publish_together(storage, b"before")
    failing_once(monkeypatch, os, call, errno.ENOSPC)
    [first, second] = publish_together(storage, b"hello", b"world")
    assert isinstance(first, OSError)
    assert isinstance(second, Stored)
    assert HELLO.hex not in journaled(root)
    assert os.listdir(root / ".tmp") == []
    assert not (root / "5d").exists()


def test_the_journal_is_settled_when_nothing_comes(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotation, "IDLE_SECONDS", 0.01)
    publish_together(storage, b"hello")
    until(lambda: journaled(root) == [], "the journal is settled")
    assert download(storage, HELLO) == b"hello"
    assert len(os.listdir(root / ".journal")) == 1


@pytest.mark.usefixtures("never_idle")
def test_a_full_journal_is_settled_while_another_takes_uploads(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotation, "JOURNAL_RECORDS", 10)
    for start in range(0, 100, 5):
        contents = [str(number).encode() for number in range(start, start + 5)]
        for outcome, content in zip(publish_together(storage, *contents), contents, strict=True):
            if outcome is None:  # the disk is slower than the uploads
                upload(storage, content)
    until(lambda: len(journaled(root)) < 10, "the full ones are settled")
    assert len(os.listdir(root / ".journal")) <= rotation.MOST_JOURNALS


@pytest.mark.usefixtures("never_idle")
def test_one_that_cannot_be_settled_is_kept_and_tried_again(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotation, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(rotation, "JOURNAL_RECORDS", 1)
    tries: list[list[str]] = []
    settle = Settling.settle

    def fail_twice(settling: Settling, journal: Journal) -> None:
        tries.append(journaled(root))
        if len(tries) < 3:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        settle(settling, journal)

    monkeypatch.setattr(Settling, "settle", fail_twice)
    publish_together(storage, b"hello")
    until(lambda: journaled(root) == [], "the journal is settled at last")
    assert tries == [[HELLO.hex]] * 3


@pytest.mark.usefixtures("never_idle")
def test_closing_settles_and_removes_the_journals(root: Path) -> None:
    storage = LocalStorage(root, "md5", durable=True)
    publish_together(storage, b"hello")
    storage.close()
    assert os.listdir(root / ".journal") == []
    assert publish_together(storage, b"world") == [None]
    storage.close()
