from __future__ import annotations

import errno
import fcntl
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from httpd.process import pidfile as module
from httpd.process.pidfile import AlreadyRunning, PidFile, read_options, read_pid

UNUSED_PID = 4_194_305  # above the kernel's largest pid_max (proc(5))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pid"


@pytest.fixture
def held(path: Path) -> Iterator[PidFile]:
    """A pidfile that this process holds."""
    file = PidFile(path)
    file.acquire()
    yield file
    file.release()


def in_child(action: Callable[[], object]) -> int:
    """Fork a process for the action, which exits with its value; return its pid."""
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            status = int(action() or 0)
        finally:
            os._exit(status)
    return pid


def status_of(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_holder_is_told_to_whoever_comes_next(held: PidFile, path: Path) -> None:
    held.write(os.getpid())
    assert path.read_text() == f"{os.getpid()}\n"
    assert read_pid(path) == os.getpid()
    with pytest.raises(AlreadyRunning, match=f"already running, pid {os.getpid()}") as caught:
        PidFile(path).acquire()
    assert caught.value.pid == os.getpid()


def test_holder_that_has_not_told_its_pid_yet(held: PidFile, path: Path) -> None:
    assert not held.stale
    assert read_pid(path) is None
    with pytest.raises(AlreadyRunning, match="another start is under way"):
        PidFile(path).acquire()


@pytest.mark.parametrize("left", [b"", b"1\n", b"99999999\n", b"not a number", b"\0" * 5, b"-1\n"])
def test_file_that_was_left_behind_blocks_nobody(left: bytes, path: Path) -> None:
    path.write_bytes(left)
    assert read_pid(path) is None
    file = PidFile(path)
    file.acquire()
    assert file.stale == bool(left)
    file.write(7)
    assert path.read_bytes() == b"7\n"
    file.release()
    assert not path.exists()


def make_symlink(path: Path) -> None:
    path.with_name("target").write_bytes(b"precious")
    path.symlink_to("target")


@pytest.mark.parametrize(
    ("make", "number"),
    [
        (make_symlink, errno.ELOOP),
        (Path.mkdir, errno.EISDIR),
        (os.mkfifo, errno.EEXIST),
        (lambda path: path.write_bytes(b"precious" * 5), errno.EEXIST),
        (lambda path: path.symlink_to("nowhere"), errno.ELOOP),
    ],
    ids=["symlink", "folder", "fifo", "somebody's own", "dangling symlink"],
)
def test_what_is_no_pidfile_is_left_alone(
    make: Callable[[Path], object], number: int, path: Path
) -> None:
    make(path)
    before = sorted(os.listdir(path.parent)), os.lstat(path)
    with pytest.raises(OSError, match=str(path)) as caught:
        PidFile(path).acquire()
    assert caught.value.errno == number
    assert (sorted(os.listdir(path.parent)), os.lstat(path)) == before


def test_release_removes_both_files_and_frees_the_lock(path: Path) -> None:
    file = PidFile(path)
    file.acquire()
    file.write(1)
    file.write_options(["--port=1"])
    file.release()
    file.release()  # once more does no harm
    assert os.listdir(path.parent) == []
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file.fileno())


def test_release_leaves_the_file_of_somebody_else(held: PidFile, path: Path) -> None:
    path.unlink()
    path.write_text("other\n")
    held.release()
    assert path.read_text() == "other\n"


def test_file_removed_between_open_and_lock(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, first = fcntl.flock, []

    def flock(descriptor: int, operation: int) -> None:
        if not first:
            first.append(descriptor)
            path.unlink()  # as the last owner does, while it still holds the lock
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    file = PidFile(path)
    file.acquire()
    assert os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    file.release()


def test_look_by_read_pid_does_not_keep_anybody_from_starting(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.touch()
    reader = open(path)  # noqa: SIM115 - closed when the other has waited
    fcntl.flock(reader, fcntl.LOCK_SH)
    monkeypatch.setattr(module.time, "sleep", lambda _: reader.close())
    file = PidFile(path)
    file.acquire()
    assert reader.closed
    file.release()


def test_one_of_many_at_once_gets_it(path: Path) -> None:
    path.write_text("1\n")
    start, go = os.pipe()
    until_all_tried, tried = os.pipe()

    def race() -> int:
        os.close(go)
        os.read(start, 1)  # until the parent closes its end
        try:
            PidFile(path).acquire()
        except AlreadyRunning:
            return 1
        os.close(tried)
        os.read(until_all_tried, 1)  # the winner holds it until the last of the others has left
        return 0

    children = [in_child(race) for _ in range(8)]
    for descriptor in (start, go, tried):
        os.close(descriptor)
    assert sorted(map(status_of, children)) == [0] + [1] * 7
    os.close(until_all_tried)


def test_lock_goes_with_its_last_holder_even_if_that_is_killed(path: Path) -> None:
    ready, tell = os.pipe()

    def hold() -> None:
        file = PidFile(path)
        file.acquire()
        file.write(os.getpid())
        os.write(tell, b".")
        signal.pause()

    pid = in_child(hold)
    os.read(ready, 1)
    assert read_pid(path) == pid
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
    assert read_pid(path) is None
    file = PidFile(path)
    file.acquire()
    assert file.stale
    file.release()
    os.waitpid(pid, 0)
    os.close(ready)
    os.close(tell)


def test_lock_survives_the_parent_and_is_not_kept_by_a_child_that_has_closed_it(
    path: Path,
) -> None:
    go_on, stop = os.pipe()
    file = PidFile(path)
    file.acquire()

    def daemon() -> None:
        os.close(stop)
        os.read(go_on, 1)

    def worker() -> None:
        file.close()
        daemon()

    holder, other = in_child(daemon), in_child(worker)
    file.write(holder)
    file.close()
    assert read_pid(path) == holder
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    assert read_pid(path) is None  # although the worker is still alive
    os.close(stop)
    os.close(go_on)
    assert status_of(other) == 0


def test_pid_of_nobody_is_not_told_even_if_the_lock_is_held(held: PidFile, path: Path) -> None:
    held.write(UNUSED_PID)
    assert read_pid(path) is None


@pytest.mark.root
def test_what_may_not_be_removed_is_emptied(public_folder: Path) -> None:
    path = public_folder / "pid"
    file = PidFile(path)
    file.acquire()
    file.write(1)
    file.write_options(["--port=1"])
    for each in (path, file.options):
        os.chown(each, 65534, 65534)

    def release() -> None:
        os.setuid(65534)
        file.release()

    assert status_of(in_child(release)) == 0
    assert (path.read_bytes(), file.options.read_bytes()) == (b"", b"")
    file.release()


def test_flags_are_kept_for_their_owner_only(held: PidFile, path: Path) -> None:
    held.options.touch(0o644)
    flags = ["--port=9001", "--store=/a b\n/ü"]
    held.write_options(flags)
    assert held.options.name == "pid.opts"
    assert held.options.stat().st_mode & 0o777 == 0o600
    assert read_options(path) == flags


def test_flags_are_not_written_through_a_symlink(held: PidFile, path: Path) -> None:
    held.options.symlink_to("target")
    with pytest.raises(OSError, match="symbolic links"):
        held.write_options([])
    assert not path.with_name("target").exists()


@pytest.mark.parametrize(
    ("content", "error"), [(None, FileNotFoundError), ("", ValueError), ("[1", ValueError)]
)
def test_flags_that_cannot_be_read(content: str | None, error: type[Exception], path: Path) -> None:
    if content is not None:
        path.with_name("pid.opts").write_text(content)
    with pytest.raises(error):
        read_options(path)
