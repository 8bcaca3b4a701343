"""What the local storage leaves on the disk, and in which order."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from httpd.storage.contract import Collision, NotFound, Storage
from httpd.storage.digest import Digest
from httpd.storage.local import LocalStorage
from tests.storage.samples import (
    COLLIDING,
    COLLIDING_DIGEST,
    HELLO,
    download,
    neighbour,
    upload,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def storage(root: Path) -> LocalStorage:
    return LocalStorage(root, "md5", durable=False)


def tree(root: Path) -> list[str]:
    """Return the paths of all that lies in the store."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def blob_path(root: Path, digest: Digest = HELLO) -> Path:
    return root / digest.hex[:2] / digest.hex


def test_a_blob_lies_under_the_first_two_digits_of_its_digest(storage: Storage, root: Path) -> None:
    upload(storage, b"hello")
    assert tree(root) == [".deletions", ".tmp", "5d", "5d/5d41402abc4b2a76b9719d911017c592"]
    assert blob_path(root).read_bytes() == b"hello"
    blob = storage.open(HELLO)
    assert blob.stored_at == blob_path(root).stat().st_mtime
    assert os.fstat(blob.fileno()).st_ino == blob_path(root).stat().st_ino
    blob.close()


def test_modes_are_tight(root: Path) -> None:
    before = os.umask(0)
    try:
        upload(LocalStorage(root, "md5", durable=False), b"hello")
    finally:
        os.umask(before)
    modes = {name: (root / name).stat().st_mode & 0o777 for name in [".", *tree(root)]}
    assert modes == {
        ".": 0o750,
        ".deletions": 0o600,
        ".tmp": 0o700,
        "5d": 0o750,
        f"5d/{HELLO.hex}": 0o640,
    }


def test_content_that_is_there_is_kept_and_needs_no_file(
    storage: Storage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(storage, b"hello")
    before = blob_path(root).stat()
    (root / ".tmp").rmdir()  # so that any attempt to stage fails
    assert not upload(storage, b"hello").created
    after = blob_path(root).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_what_was_put_there_by_hand_is_served_compared_and_deleted(
    storage: Storage, root: Path
) -> None:
    blob_path(root).parent.mkdir()
    blob_path(root).write_bytes(b"hello")
    assert download(storage, HELLO) == b"hello"
    assert not upload(storage, b"hello").created
    storage.delete(HELLO)
    assert tree(root) == [".deletions", ".tmp"]


@pytest.mark.parametrize("damaged", [b"", b"hell", b"hallo", b"hello!"])
def test_damage_is_never_taken_for_the_content(
    storage: Storage, root: Path, damaged: bytes
) -> None:
    upload(storage, b"hello")
    blob_path(root).write_bytes(damaged)
    with pytest.raises(Collision):
        upload(storage, b"hello")
    assert blob_path(root).read_bytes() == damaged


def test_the_folder_goes_with_its_last_file_only(storage: Storage, root: Path) -> None:
    upload(storage, b"hello")
    other = upload(storage, neighbour(HELLO)).digest
    storage.delete(HELLO)
    assert tree(root) == [".deletions", ".tmp", "5d", f"5d/{other.hex}"]
    (root / "5d" / "README").touch()
    storage.delete(other)
    assert tree(root) == [".deletions", ".tmp", "5d", "5d/README"]


def bound_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as unix:
        here = os.getcwd()
        os.chdir(path.parent)  # the address may have 107 bytes only (unix(7))
        try:
            unix.bind(path.name)
        finally:
            os.chdir(here)


# What may lie at store/5d/5d41… without being a blob, or at store/5d without being its folder.
# "outside" is a folder beside the store with the right file in it.
STRANGERS: dict[str, Callable[[Path, Path], object]] = {
    "symlink to the file": lambda path, outside: path.symlink_to(outside / HELLO.hex),
    "symlink to nothing": lambda path, outside: path.symlink_to(outside / "nothing"),
    "symlink to itself": lambda path, outside: path.symlink_to(path),
    "folder": lambda path, outside: path.mkdir(),
    "fifo": lambda path, outside: os.mkfifo(path),
    "socket": lambda path, outside: bound_socket(path),
}
PREFIX_STRANGERS: dict[str, Callable[[Path, Path], object]] = {
    "symlink to a folder": lambda path, outside: path.symlink_to(outside),
    "symlink to nothing": lambda path, outside: path.symlink_to(outside / "nothing"),
    "file": lambda path, outside: path.touch(),
    "fifo": lambda path, outside: os.mkfifo(path),
}


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / HELLO.hex).write_bytes(b"hello")
    return folder


def assert_is_no_blob_and_stays(storage: Storage, stranger: Path) -> None:
    before = stranger.lstat()
    for attempt in storage.open, storage.delete:
        with pytest.raises(NotFound):
            attempt(HELLO)
    with pytest.raises((FileExistsError, NotADirectoryError)):
        upload(storage, b"hello")
    assert stranger.lstat() == before
    assert storage.sweep() == 0


@pytest.mark.parametrize("put", STRANGERS.values(), ids=STRANGERS)
def test_only_a_regular_file_is_a_blob(
    storage: Storage, root: Path, outside: Path, put: Callable[[Path, Path], object]
) -> None:
    blob_path(root).parent.mkdir()
    put(blob_path(root), outside)
    assert_is_no_blob_and_stays(storage, blob_path(root))


@pytest.mark.parametrize("put", PREFIX_STRANGERS.values(), ids=PREFIX_STRANGERS)
def test_only_a_folder_is_a_prefix_folder(
    storage: Storage, root: Path, outside: Path, put: Callable[[Path, Path], object]
) -> None:
    put(root / "5d", outside)
    assert_is_no_blob_and_stays(storage, root / "5d")
    assert (outside / HELLO.hex).read_bytes() == b"hello"


def test_the_root_is_made_with_its_parents_and_may_be_there(tmp_path: Path) -> None:
    root = tmp_path / "a" / "b"
    for durable in True, False:
        upload(LocalStorage(root, "md5", durable=durable), b"hello")
    assert tree(tmp_path) == [
        *("a", "a/b", "a/b/.deletions", "a/b/.tmp", "a/b/5d"),
        f"a/b/5d/{HELLO.hex}",
    ]


def test_the_root_may_be_a_symlink_and_relative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "store").symlink_to("disk")
    monkeypatch.chdir(tmp_path)
    storage = LocalStorage(Path("store"), "md5", durable=True)
    monkeypatch.chdir("/")
    upload(storage, b"hello")
    assert download(storage, HELLO) == b"hello"
    assert blob_path(tmp_path / "disk").exists()


@pytest.mark.parametrize("name", ["store", "store/.tmp", ""])
def test_a_file_in_the_way_of_the_store_is_an_error(tmp_path: Path, name: str) -> None:
    path = tmp_path / name if name else tmp_path / "file"
    path.parent.mkdir(exist_ok=True)
    path.touch()
    with pytest.raises(FileExistsError):
        LocalStorage(tmp_path / "store" if name else path / "store", "md5", durable=False)


def test_a_store_that_has_gone_is_not_writable(storage: Storage, root: Path) -> None:
    shutil.rmtree(root)
    with pytest.raises(FileNotFoundError):
        storage.check_writable()
    with pytest.raises(FileNotFoundError):
        upload(storage, b"hello")


# --- what happens between two steps of an upload ---


def once_before(
    monkeypatch: pytest.MonkeyPatch, name: str, action: Callable[[], object]
) -> list[object]:
    """Do `action` before the first call of os.`name` or fcntl.`name`; return its results."""
    module = fcntl if name == "flock" else os
    original = getattr(module, name)
    results: list[object] = []

    def wrapper(*args: object, **kwargs: object) -> object:
        if not results:
            results.append("under way")
            results[0] = action()
        return original(*args, **kwargs)

    monkeypatch.setattr(module, name, wrapper)
    return results


def test_a_folder_that_is_removed_before_it_is_locked_is_made_again(
    root: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = storage.stage()
    staged.append(b"hello")
    staged.write_batch()
    removed = once_before(monkeypatch, "flock", (root / "5d").rmdir)
    assert staged.publish().created
    assert removed == [None]
    assert download(storage, HELLO) == b"hello"


def test_a_folder_that_is_removed_before_it_is_opened_is_made_again(
    root: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir, made = os.mkdir, []

    def mkdir_in_vain(path: str, mode: int) -> None:
        mkdir(path, mode)
        made.append(path)
        if len(made) == 1:
            os.rmdir(path)

    monkeypatch.setattr(os, "mkdir", mkdir_in_vain)
    assert upload(storage, b"hello").created
    assert len(made) == 2


def test_a_blob_that_appears_before_the_lock_is_a_hit(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = storage.stage()
    staged.append(b"hello")
    staged.write_batch()
    others = once_before(monkeypatch, "flock", lambda: upload(storage, b"hello"))
    assert staged.publish() == (HELLO, 5, False)
    assert others == [(HELLO, 5, True)]


def test_a_collision_that_appears_before_the_lock_is_refused(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = storage.stage()
    staged.append(COLLIDING[0])
    staged.write_batch()
    once_before(monkeypatch, "flock", lambda: upload(storage, COLLIDING[1]))
    with pytest.raises(Collision):
        staged.publish()
    assert download(storage, COLLIDING_DIGEST) == COLLIDING[1]


@pytest.mark.parametrize("moment", ["pread", "flock"], ids=["comparing", "locking"])
@pytest.mark.parametrize("company", [True, False], ids=["folder stays", "folder goes"])
def test_a_blob_that_is_deleted_while_it_is_compared_is_stored_anew(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, moment: str, *, company: bool
) -> None:
    upload(storage, b"hello")
    if company:
        upload(storage, neighbour(HELLO))
    deleted = once_before(monkeypatch, moment, lambda: storage.delete(HELLO))
    assert upload(storage, b"hello") == (HELLO, 5, True)
    assert deleted == [None]
    assert download(storage, HELLO) == b"hello"


def test_a_blob_that_is_replaced_while_it_is_compared_is_compared_again(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace() -> None:
        storage.delete(COLLIDING_DIGEST)
        upload(storage, COLLIDING[1])

    upload(storage, COLLIDING[0])
    once_before(monkeypatch, "flock", replace)
    with pytest.raises(Collision):
        upload(storage, COLLIDING[0])


@pytest.mark.parametrize("slow", ["pread", "write", "fsync"])
@pytest.mark.parametrize("created", [True, False], ids=["new", "there already"])
def test_the_folder_is_free_while_bytes_are_moved_compared_or_flushed(
    root: Path, monkeypatch: pytest.MonkeyPatch, slow: str, *, created: bool
) -> None:
    storage = LocalStorage(root, "md5", durable=True)
    upload(storage, neighbour(HELLO) if created else b"hello")
    original = getattr(os, slow)

    def wrapper(descriptor: int, *args: object) -> object:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            return original(descriptor, *args)  # the entries, of which it may be the last word
        folder = os.open(root / "5d", os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError if it is held
        finally:
            os.close(folder)
        return original(descriptor, *args)

    staged = storage.stage()
    staged.append(b"hello")
    monkeypatch.setattr(os, slow, wrapper)
    assert staged.publish().created == created


# --- durability ---


@pytest.fixture
def calls(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record what changes or flushes the store, in order: the calls that succeed."""
    recorded: list[str] = []

    def where(descriptor: int) -> str:
        return os.readlink(f"/proc/self/fd/{descriptor}").removesuffix(" (deleted)")

    def record(name: str, path_of: Callable[..., str]) -> None:
        original = getattr(os, name)

        def wrapper(*args: object, **kwargs: object) -> None:
            path = os.path.relpath(path_of(*args, **kwargs), root)
            original(*args, **kwargs)
            recorded.append(f"{name} {'temp' if path.startswith('.tmp/') else path}")

        monkeypatch.setattr(os, name, wrapper)

    record("fsync", where)
    record("fdatasync", where)
    record("mkdir", lambda path, mode: path)
    record("rmdir", lambda path: path)
    record("rename", lambda temp, name, dst_dir_fd: f"{where(dst_dir_fd)}/{name}")
    record("unlink", lambda name, dir_fd=None: f"{where(dir_fd)}/{name}" if dir_fd else name)
    return recorded


BLOB = f"5d/{HELLO.hex}"
COMPANY = neighbour(HELLO)
# what is stored before, what is done then, and in which order it reaches the disk
ORDERS: dict[str, tuple[list[bytes], Callable[[Storage], object], list[str]]] = {
    "upload": (
        [],
        lambda storage: upload(storage, b"hello"),
        ["fsync temp", "mkdir 5d", f"rename {BLOB}", "fsync 5d", "fsync ."],
    ),
    "upload into a folder that is there": (
        [COMPANY],
        lambda storage: upload(storage, b"hello"),
        ["fsync temp", f"rename {BLOB}", "fsync 5d", "fsync ."],
    ),
    "upload of what is there": (
        [b"hello"],
        lambda storage: upload(storage, b"hello"),
        [f"fsync {BLOB}", "fsync 5d", "fsync ."],
    ),
    "confirmation of what is there": (
        [b"hello"],
        lambda storage: storage.confirm(HELLO),
        [f"fsync {BLOB}", "fsync 5d", "fsync ."],
    ),
    "deletion": (
        [b"hello"],
        lambda storage: storage.delete(HELLO),
        [f"unlink {BLOB}", "rmdir 5d", "fsync 5d", "fsync ."],
    ),
    "deletion that leaves the folder": (
        [b"hello", COMPANY],
        lambda storage: storage.delete(HELLO),
        [f"unlink {BLOB}", "fsync 5d", "fsync ."],
    ),
}


@pytest.mark.parametrize("durable", [True, False], ids=["durable", "scratch"])
@pytest.mark.parametrize(("before", "act", "order"), ORDERS.values(), ids=ORDERS)
def test_an_answer_rests_on_what_is_flushed(
    root: Path,
    calls: list[str],
    before: list[bytes],
    act: Callable[[Storage], object],
    order: list[str],
    *,
    durable: bool,
) -> None:
    storage = LocalStorage(root, "md5", durable=durable)
    for content in before:
        upload(storage, content)
    calls.clear()
    act(storage)
    assert calls == [call for call in order if durable or not call.startswith("fsync")]


def test_a_new_store_is_flushed_into_its_parents(tmp_path: Path, calls: list[str]) -> None:
    LocalStorage(tmp_path / "a" / "store", "md5", durable=True)
    made = ["mkdir ../a", "fsync ..", "mkdir ../a/store", "fsync ../a"]
    assert calls == [*made, "mkdir ../a/store/.tmp", "fsync ../a/store"]


@pytest.mark.parametrize("failing", range(3), ids=["file", "folder", "root"])
def test_a_flush_that_fails_fails_the_upload(
    root: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    storage = LocalStorage(root, "md5", durable=True)
    flushes = iter(range(3))

    def fsync(_: int) -> None:
        if next(flushes) == failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="Input/output"):
        upload(storage, b"hello")
    assert list((root / ".tmp").iterdir()) == []


# --- a full disk ---


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 256 KiB and 8 inodes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ["-o", "size=256k,nr_inodes=9"]
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", *options, "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mount.returncode:
        pytest.skip(f"mount(8) refuses: {mount.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)  # a storage may live still


def fill_inodes(folder: Path) -> None:
    for number in range(os.statvfs(folder).f_ffree):
        (folder / str(number)).touch()
    assert os.statvfs(folder).f_ffree == 0


@pytest.mark.root
@pytest.mark.parametrize("durable", [True, False], ids=["durable", "scratch"])
def test_a_full_disk_fails_the_upload_and_nothing_else(small_disk: Path, *, durable: bool) -> None:
    storage = LocalStorage(small_disk, "md5", durable=durable)
    upload(storage, b"hello")
    before = tree(small_disk)
    with pytest.raises(OSError, match="No space left"):
        upload(storage, bytes(300_000))
    assert tree(small_disk) == before
    assert download(storage, HELLO) == b"hello"
    assert upload(storage, b"x" * 100_000).created


@pytest.mark.root
def test_a_disk_without_inodes_is_not_writable_but_is_served_and_freed(small_disk: Path) -> None:
    storage = LocalStorage(small_disk, "md5", durable=True)
    upload(storage, b"hello")
    fill_inodes(small_disk)
    with pytest.raises(OSError, match="No space left"):
        storage.check_writable()
    with pytest.raises(OSError, match="No space left"):
        upload(storage, b"world")
    assert not upload(storage, b"hello").created
    storage.delete(HELLO)
    storage.check_writable()


@pytest.mark.root
def test_no_space_for_the_folder_fails_the_upload(small_disk: Path) -> None:
    storage = LocalStorage(small_disk, "md5", durable=True)
    staged = storage.stage()
    staged.append(b"hello")
    staged.write_batch()
    fill_inodes(small_disk)
    with pytest.raises(OSError, match="No space left"):
        staged.publish()
    assert list((small_disk / ".tmp").iterdir()) == []
    assert not (small_disk / "5d").exists()


@pytest.mark.root
def test_a_disk_that_is_full_from_the_start_is_freed_by_deleting(small_disk: Path) -> None:
    blob = small_disk / "5d" / HELLO.hex
    blob.parent.mkdir()
    (small_disk / ".tmp").mkdir()
    blob.write_bytes(b"hello")
    with suppress(OSError), open(small_disk / "filler", "wb", buffering=0) as filler:
        while filler.write(bytes(4096)):
            pass
    storage = LocalStorage(small_disk, "md5", durable=False)
    assert storage.none_deleted(HELLO) is None
    storage.delete(HELLO)
    assert not blob.exists()


# ---- reading without waiting


def test_what_is_in_memory_is_read_without_waiting(storage: Storage) -> None:
    content = os.urandom(10_000)
    with closing(storage.open(upload(storage, content).digest)) as blob:
        assert blob.read_now(10_000, 0) == content
        assert blob.read_now(100, 9_950) == content[9_950:]
        assert blob.read_now(0, 0) == b""


def test_a_file_that_has_become_shorter_is_read_to_its_end(storage: Storage, root: Path) -> None:
    with closing(storage.open(upload(storage, bytes(100)).digest)) as blob:
        os.truncate(root / blob.digest.hex[:2] / blob.digest.hex, 40)
        assert blob.read_now(100, 0) == bytes(40)


@pytest.mark.parametrize("there", [0, 4096])
def test_what_is_not_in_memory_as_a_whole_is_not_read(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, there: int
) -> None:
    def some(*_: object) -> int:
        if not there:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return there

    with closing(storage.open(upload(storage, bytes(10_000)).digest)) as blob:
        monkeypatch.setattr(os, "preadv", some)
        assert blob.read_now(10_000, 0) is None


def test_where_no_read_can_be_without_waiting_it_is_read_all_the_same(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On tmpfs, where all is in memory, or FUSE."""
    with closing(storage.open(upload(storage, b"content").digest)) as blob:
        failing(monkeypatch, errno.EOPNOTSUPP)
        assert blob.read_now(7, 0) == b"content"
        failing(monkeypatch, errno.EIO)
        with pytest.raises(OSError, match="Input/output"):
            blob.read_now(7, 0)


def failing(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "preadv", fail)
