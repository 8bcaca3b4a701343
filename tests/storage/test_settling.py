"""What a dead process's journal brings back, whatever a power cut has left of its files."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from httpd.storage import rotation, settling
from httpd.storage.contract import Damaged, NotFound
from httpd.storage.digest import Digest
from httpd.storage.journal import Journal, Record
from httpd.storage.local import LocalStorage
from httpd.storage.settling import Settling
from httpd.storage.syncfs import _find, syncfs, tells_errors
from tests.storage.samples import (
    COLLIDING,
    COLLIDING_DIGEST,
    HELLO,
    download,
    publish_together,
    upload,
)

CONTENTS = [b"hello", b"", b"x" * 60_000, *(str(number).encode() for number in range(20))]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


def killed_after(act: Callable[[], object]) -> None:
    """Do it in a process that is killed then."""
    pid = os.fork()
    if pid == 0:
        try:
            act()
            os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def publish_and_die(root: Path, *contents: bytes, then: Callable[..., object] = id) -> None:
    """Let a process acknowledge uploads, and do something more, before it is killed."""

    def act() -> None:
        rotation.IDLE_SECONDS = 3600.0
        storage = LocalStorage(root, "md5", durable=True)
        assert all(publish_together(storage, *contents))
        then(storage)

    killed_after(act)


def digest_of(content: bytes) -> Digest:
    return Digest("md5", hashlib.md5(content).hexdigest())


def path_of(root: Path, content: bytes) -> Path:
    digest = digest_of(content).hex
    return root / digest[:2] / digest


def recovered(root: Path) -> LocalStorage:
    storage = LocalStorage(root, "md5", durable=True)
    storage.sweep()
    assert os.listdir(root / ".tmp") == []
    assert os.listdir(root / ".journal") == []
    return storage


def lose(path: Path) -> None:
    """Lose a name that had not reached the disk, and its folder with it."""
    path.unlink()
    if not os.listdir(path.parent):
        path.parent.rmdir()


def shorten(path: Path) -> None:
    """Leave the size of a file, as it is before its blocks are allocated."""
    os.truncate(path, 0)


def garble(path: Path) -> None:
    path.write_bytes(bytes(len(path.read_bytes())))


CUTS = {"nothing": lambda path: None, "lost": lose, "empty": shorten, "zeros": garble}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
def test_what_was_acknowledged_is_there(root: Path, cut: Callable[[Path], object]) -> None:
    publish_and_die(root, *CONTENTS)
    before = path_of(root, b"hello").stat()
    for content in CONTENTS:
        cut(path_of(root, content))
    storage = recovered(root)
    for content in CONTENTS:
        assert download(storage, digest_of(content)) == content
    after = path_of(root, b"hello").stat()
    assert after.st_mode == before.st_mode
    assert abs(after.st_mtime - before.st_mtime) < 1  # and not when it was put back


@pytest.mark.parametrize("cut", [CUTS["nothing"], CUTS["lost"]], ids=["nothing", "lost"])
def test_what_was_deleted_does_not_come_back(root: Path, cut: Callable[[Path], object]) -> None:
    publish_and_die(root, b"hello", b"stays", then=lambda storage: storage.delete(HELLO))
    cut(path_of(root, b"stays"))
    storage = recovered(root)
    assert download(storage, digest_of(b"stays")) == b"stays"
    with pytest.raises(NotFound):
        storage.open(HELLO)
    assert not path_of(root, b"hello").parent.exists()


def test_what_others_have_deleted_does_not_come_back(root: Path) -> None:
    other = LocalStorage(root, "md5", durable=True)
    publish_and_die(root, b"hello")
    other.delete(HELLO)
    with pytest.raises(NotFound):
        recovered(root).open(HELLO)
    other.close()


def test_what_is_deleted_while_it_is_put_back_does_not_come_back(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_and_die(root, b"hello")
    other = LocalStorage(root, "md5", durable=True)
    read = Journal.records

    def delete_then(journal: Journal) -> Iterator[Record]:
        yield from read(journal)
        monkeypatch.setattr(Journal, "records", read)
        other.delete(HELLO)

    monkeypatch.setattr(Journal, "records", delete_then)
    with pytest.raises(NotFound):
        recovered(root).open(HELLO)
    other.close()


def test_what_was_stored_again_after_its_deletion_is_there(root: Path) -> None:
    def again(storage: LocalStorage) -> None:
        storage.delete(HELLO)
        publish_together(storage, b"hello")

    publish_and_die(root, b"hello", then=again)
    lose(path_of(root, b"hello"))
    assert download(recovered(root), HELLO) == b"hello"


def test_other_content_of_the_same_digest_stays(root: Path) -> None:
    publish_and_die(root, COLLIDING[0])
    path_of(root, COLLIDING[0]).write_bytes(COLLIDING[1])
    assert download(recovered(root), COLLIDING_DIGEST) == COLLIDING[1]


def test_of_two_contents_of_one_digest_the_later_one_is_put_back(root: Path) -> None:
    """The first was removed by hand, so the other was taken and acknowledged."""

    def store_the_other(storage: LocalStorage) -> None:
        path_of(root, COLLIDING[0]).unlink()
        assert publish_together(storage, COLLIDING[1]) != [None]

    publish_and_die(root, COLLIDING[0], then=store_the_other)
    lose(path_of(root, COLLIDING[1]))
    assert download(recovered(root), COLLIDING_DIGEST) == COLLIDING[1]


def test_a_damaged_copy_stays_while_there_is_no_good_one(root: Path) -> None:
    """The record is void: its content was refused, or could not be stored."""
    damaged = root / ".quarantine" / HELLO.hex

    def refuse(storage: LocalStorage) -> None:
        damaged.parent.mkdir()
        damaged.write_bytes(b"jello")
        rename = os.rename

        def fail(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        os.rename = fail  # type: ignore[assignment]
        assert isinstance(publish_together(storage, b"hello")[0], OSError)
        os.rename = rename

    publish_and_die(root, b"another", then=refuse)
    with pytest.raises(Damaged):
        recovered(root).open(HELLO)
    assert damaged.read_bytes() == b"jello"


@pytest.fixture
def fails_once(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the first settling tell that data was lost; has what it was asked by."""
    failed: list[int] = []

    def fail(descriptor: int) -> None:
        monkeypatch.setattr(settling, "syncfs", syncfs)
        failed.append(descriptor)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(rotation, "IDLE_SECONDS", 3600.0)
    monkeypatch.setattr(settling, "syncfs", fail)
    return failed


def test_other_content_of_the_same_digest_stays_when_everything_is_written_anew(
    root: Path, fails_once: list[int]
) -> None:
    """The record is of what somebody has removed by hand, before others stored the other."""
    storage = LocalStorage(root, "md5", durable=True)
    publish_together(storage, COLLIDING[0])
    path_of(root, COLLIDING[0]).unlink()
    other = LocalStorage(root, "md5", durable=True)
    upload(other, COLLIDING[1])
    storage.close()
    other.close()
    assert fails_once
    assert path_of(root, COLLIDING[1]).read_bytes() == COLLIDING[1]


def test_what_cannot_be_read_is_written_anew(
    root: Path, monkeypatch: pytest.MonkeyPatch, fails_once: list[int]
) -> None:
    storage = LocalStorage(root, "md5", durable=True)
    publish_together(storage, b"hello")
    before = path_of(root, b"hello").stat().st_ino
    pread = os.pread

    def fail(descriptor: int, length: int, offset: int) -> bytes:
        if os.fstat(descriptor).st_ino == before:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return pread(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", fail)
    storage.close()
    assert fails_once
    assert path_of(root, b"hello").stat().st_ino != before
    assert path_of(root, b"hello").read_bytes() == b"hello"
    assert os.listdir(root / ".journal") == []


def test_a_damaged_copy_goes_when_the_good_one_is_back(root: Path) -> None:
    publish_and_die(root, b"hello")
    path_of(root, b"hello").write_bytes(b"jello")
    storage = LocalStorage(root, "md5", durable=True)
    blob = storage.open(HELLO)
    assert storage.quarantine(blob)
    blob.close()
    assert download(recovered(root), HELLO) == b"hello"
    assert os.listdir(root / ".quarantine") == []


def test_who_waits_hears_that_it_goes_on(root: Path) -> None:
    publish_and_die(root, *CONTENTS)
    there: list[int] = []
    storage = LocalStorage(root, "md5", durable=True)
    for content in CONTENTS:
        lose(path_of(root, content))
    storage.sweep(lambda: there.append(len(list(root.glob("??")))))
    folders = {path_of(root, content).parent for content in CONTENTS}
    assert there == list(range(1, len(folders) + 1))


def test_the_journals_of_the_living_are_left_alone(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotation, "IDLE_SECONDS", 3600.0)
    living = LocalStorage(root, "md5", durable=True)
    publish_together(living, b"hello")
    before = os.listdir(root / ".journal")
    LocalStorage(root, "md5", durable=True).sweep()
    assert os.listdir(root / ".journal") == before
    living.close()


@pytest.mark.parametrize("step", range(12))
def test_putting_back_may_be_interrupted_at_any_step(root: Path, step: int) -> None:
    contents = CONTENTS[:3]
    publish_and_die(root, *contents)
    for content in contents:
        lose(path_of(root, content))

    def interrupted() -> None:
        left = iter(range(step))

        def die(name: str) -> None:
            original = getattr(os, name)

            def wrapper(*args: object, **kwargs: object) -> object:
                if next(left, None) is None:
                    os.kill(os.getpid(), signal.SIGKILL)
                return original(*args, **kwargs)

            setattr(os, name, wrapper)

        for name in "write", "rename", "fsync", "unlink", "utime":
            die(name)
        LocalStorage(root, "md5", durable=True).sweep()

    killed_after(interrupted)
    storage = recovered(root)
    for content in contents:
        assert download(storage, digest_of(content)) == content


@pytest.mark.parametrize("tells", [True, False], ids=["told by syncfs", "told by each file"])
def test_a_flush_that_fails_writes_everything_anew(
    root: Path, monkeypatch: pytest.MonkeyPatch, fails_once: list[int], *, tells: bool
) -> None:
    monkeypatch.setattr(settling, "tells_errors", lambda _: tells)
    storage = LocalStorage(root, "md5", durable=True)
    publish_together(storage, *CONTENTS)
    before = {content: path_of(root, content).stat().st_ino for content in CONTENTS}
    flushed = []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        flushed.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    storage.close()
    assert fails_once
    for content in CONTENTS:
        assert path_of(root, content).stat().st_ino != before[content]
        assert str(path_of(root, content)) in flushed
        assert str(path_of(root, content).parent) in flushed
        assert download(storage, digest_of(content)) == content
    assert os.listdir(root / ".journal") == []


def test_where_syncfs_tells_nothing_each_file_is_flushed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_and_die(root, *CONTENTS)
    monkeypatch.setattr(settling, "tells_errors", lambda _: False)
    flushed = set()
    fsync = os.fsync

    def record(descriptor: int) -> None:
        flushed.add(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    recovered(root)
    paths = [path_of(root, content) for content in CONTENTS]
    assert flushed >= {str(each) for path in paths for each in (path, path.parent, root)}


def test_a_journal_that_cannot_be_settled_stays(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_and_die(root, b"hello")
    lose(path_of(root, b"hello"))

    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(settling, "syncfs", fail)
    with pytest.raises(OSError, match="Input/output"):
        LocalStorage(root, "md5", durable=True).sweep()
    monkeypatch.setattr(settling, "syncfs", syncfs)
    assert download(recovered(root), HELLO) == b"hello"


MOUNTS = [
    "21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw",
    "99 21 0:55 /a\\040b /mnt rw master:3 propagate_from:2 - overlay overlay rw,lowerdir=/l",
]


@pytest.mark.parametrize(
    ("kernel", "number", "tells"),
    [((6, 1), "254:0", True), ((5, 4), "254:0", False), ((6, 1), "0:55", False),
     ((6, 1), "0:99", False)],
)  # fmt: skip
def test_only_new_kernels_on_known_file_systems_tell_of_lost_data(
    monkeypatch: pytest.MonkeyPatch, kernel: tuple[int, int], number: str, *, tells: bool
) -> None:
    monkeypatch.setattr("httpd.storage.syncfs._kernel", lambda: kernel)
    monkeypatch.setattr("httpd.storage.syncfs._type_of", lambda path: _find(MOUNTS, number))
    assert tells_errors("/") == tells


def test_syncfs_fails_as_other_calls_do() -> None:
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        syncfs(-1)
    assert caught.value.errno == errno.EBADF


def test_settling_is_what_a_sweep_does_first(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is staged of the dead may be what their settling was about to put in place."""
    order = []
    monkeypatch.setattr(Settling, "settle_dead", lambda *_: order.append("settle"))
    monkeypatch.setattr("httpd.storage.local.sweep", lambda _: order.append("sweep"))
    LocalStorage(root, "md5", durable=True).sweep()
    assert order == ["settle", "sweep"]
