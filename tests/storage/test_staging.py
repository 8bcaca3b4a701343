from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from threading import Event

import pytest

import httpd
from httpd.storage import staging, uncached
from httpd.storage.staging import StagedFile, TempFile, sweep

Stage = Callable[..., StagedFile]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Stage in tmp_path; publishing only completes the file. All are discarded in the end."""
    made = []

    def stage(length: int | None = None, *, durable: bool = False) -> StagedFile:
        def place(staged: StagedFile, _: object) -> bool:
            staged.complete()
            return True

        made.append(StagedFile(str(tmp_path), "md5", (), place, length, durable=durable))
        return made[-1]

    yield stage
    for staged in made:
        staged.discard()


def only_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def only_size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


@pytest.mark.parametrize("most", [1, 2, 3, 1000])
def test_writes_that_are_cut_short_are_continued(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:most]))
    staged = stage()
    for piece in b"hello", b", ", b"world":
        staged.append(piece)
    staged.write_batch()
    assert only_file(tmp_path).read_bytes() == b"hello, world"


@pytest.mark.parametrize(
    "refused", [0, errno.EOPNOTSUPP, errno.EPERM], ids=["dontcache", "an old kernel", "a sandbox"]
)
@pytest.mark.parametrize("most", [1000, 1 << 20], ids=["cut short", "whole"])
@pytest.mark.parametrize(
    ("length", "cached"), [(None, 100_000), (300_000, 0), (100_000, 100_000)],
    ids=["unknown", "big", "wrong"],
)  # fmt: skip
def test_what_is_too_big_does_not_stay_in_the_page_cache(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    most: int, length: int | None, cached: int, refused: int,
) -> None:  # fmt: skip
    """It is the same file, whether the kernel can do it or not."""
    pwritev, asked = os.pwritev, list[tuple[int, int]]()

    def spy(file: int, pieces: tuple[memoryview], offset: int, flags: int) -> int:
        asked.append((offset, flags))
        if refused:
            raise OSError(refused, "not here")
        return pwritev(file, (pieces[0][:most],), offset)  # whatever this kernel is

    monkeypatch.setattr(os, "pwritev", spy)
    monkeypatch.setattr(staging, "CACHED", 100_000)
    content = Random(1).randbytes(300_000)
    staged = stage(length=length)
    for begin in range(0, len(content), 60_000):
        staged.append(content[begin : begin + 60_000])
    while staged.size > only_size(tmp_path):
        staged.write_batch()
    assert only_file(tmp_path).read_bytes() == content
    assert {flags for _, flags in asked} == {uncached.RWF_DONTCACHE}
    first = min(offset for offset, _ in asked)
    assert first == 0 if cached == 0 else cached <= first < cached + 60_000 + staging.BATCH


def test_a_write_past_the_page_cache_that_fails_is_told(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "pwritev", full)
    monkeypatch.setattr(staging, "CACHED", 5)
    staged = stage()
    staged.append(b"hello")
    staged.write_batch()
    staged.append(b"world")
    with pytest.raises(OSError, match="full"):
        staged.write_batch()
    with pytest.raises(OSError, match="full"):
        staged.publish()


def test_there_is_no_file_before_the_first_byte_is_written(stage: Stage, tmp_path: Path) -> None:
    staged = stage()
    staged.append(b"hello")
    staged.hash_batch()
    assert list(tmp_path.iterdir()) == []
    staged.write_batch()
    assert only_file(tmp_path).read_bytes() == b"hello"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o640), (0o077, 0o600), (0, 0o640)])
def test_files_are_closed_to_others(stage: Stage, tmp_path: Path, umask: int, mode: int) -> None:
    staged = stage()
    staged.append(b"hello")
    before = os.umask(umask)
    try:
        staged.write_batch()
    finally:
        os.umask(before)
    assert only_file(tmp_path).stat().st_mode & 0o777 == mode


@pytest.mark.parametrize(
    ("durable", "flushed_at"), [(True, [10, 20, 32]), (False, [])], ids=["durable", "scratch"]
)
def test_content_is_flushed_while_more_is_coming(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, flushed_at: list[int], *, durable: bool
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(staging, "FLUSH_EVERY", 10)
    monkeypatch.setattr(os, "fdatasync", lambda file: seen.append(os.fstat(file).st_size))
    staged = stage(durable=durable)
    for length in 4, 6, 9, 1, 12:
        staged.append(bytes(length))
        staged.write_batch()
        if staged.wants_flush():
            staged.flush()
    assert seen == flushed_at


def test_a_failed_flush_fails_the_upload(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    staged = stage(durable=True)
    staged.append(b"hello")
    staged.flush()  # of nothing yet
    staged.write_batch()
    with pytest.raises(OSError, match="Input/output"):
        staged.flush()
    for attempt in staged.flush, staged.write_batch, staged.publish:
        with pytest.raises(OSError, match="Input/output"):
            attempt()


def test_content_is_written_and_hashed_while_it_is_flushed(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushing, go_on = Event(), Event()

    def slow_flush(_: int) -> None:
        flushing.set()
        assert go_on.wait(10)

    monkeypatch.setattr(os, "fdatasync", slow_flush)
    staged = stage(durable=True)
    staged.append(b"hello")
    staged.write_batch()
    with ThreadPoolExecutor(2) as pool:
        flusher = pool.submit(staged.flush)
        assert flushing.wait(10)
        staged.append(b", world")
        staged.write_batch()
        staged.hash_batch()
        assert only_file(tmp_path).read_bytes() == b"hello, world"
        # The descriptor's number must not go to another file before the flush of it is done.
        discarder = pool.submit(staged.discard)
        with pytest.raises(TimeoutError):
            discarder.result(timeout=0.1)
        go_on.set()
        flusher.result()
        discarder.result()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_made_fails_the_upload(stage: Stage, tmp_path: Path) -> None:
    staged = stage()
    staged.append(b"hello")
    tmp_path.rmdir()
    with pytest.raises(FileNotFoundError):
        staged.write_batch()
    tmp_path.mkdir()
    with pytest.raises(FileNotFoundError):
        staged.publish()
    assert list(tmp_path.iterdir()) == []


def test_a_batch_is_all_that_one_call_writes(stage: Stage, tmp_path: Path) -> None:
    """Who feeds the queue waits for single calls: one that never ends would hold everybody up."""
    staged = stage()
    for _ in range(3):
        staged.append(bytes(staging.BATCH))
    staged.write_batch()
    assert only_file(tmp_path).stat().st_size == staging.BATCH


def test_discarding_waits_for_a_write_under_way(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The descriptor's number must not go to another file before the write to it is done."""
    write, writing, go_on = os.write, Event(), Event()

    def slow_write(file: int, data: bytes) -> int:
        writing.set()
        assert go_on.wait(10)
        return write(file, data)

    monkeypatch.setattr(os, "write", slow_write)
    staged = stage()
    staged.append(b"hello")
    with ThreadPoolExecutor(2) as pool:
        writer = pool.submit(staged.write_batch)
        assert writing.wait(10)
        discarder = pool.submit(staged.discard)
        with pytest.raises(TimeoutError):
            discarder.result(timeout=0.1)
        assert only_file(tmp_path).exists()
        go_on.set()
        discarder.result()
        writer.result()
    with pytest.raises(ValueError, match="no longer"):
        staged.write_batch()
    assert list(tmp_path.iterdir()) == []


def test_sweeping_removes_what_no_writer_holds_and_nothing_else(tmp_path: Path) -> None:
    held = TempFile(str(tmp_path))
    (tmp_path / "left behind").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    assert sweep(str(tmp_path)) == 1
    assert sorted(os.listdir(tmp_path)) == sorted([Path(held.path).name, "folder", "link"])
    held.discard()
    assert sweep(str(tmp_path)) == 0


def test_a_sweep_before_the_lock_makes_the_writer_begin_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = fcntl.flock
    swept: list[int] = []

    def sweep_then_lock(file: int, operation: int) -> None:
        if operation == fcntl.LOCK_EX and not swept:
            swept.append(sweep(str(tmp_path)))
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", sweep_then_lock)
    file = TempFile(str(tmp_path))
    assert swept == [1]
    assert str(only_file(tmp_path)) == file.path
    assert os.fstat(file.descriptor).st_nlink == 1
    file.discard()


def test_a_file_that_is_gone_when_the_sweep_gets_to_it_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "left behind").touch()
    flock = fcntl.flock

    def lock_then_remove(file: int, operation: int) -> None:
        flock(file, operation)
        os.unlink(tmp_path / "left behind")

    monkeypatch.setattr(fcntl, "flock", lock_then_remove)
    assert sweep(str(tmp_path)) == 0


def test_a_file_that_cannot_be_locked_is_not_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(file: int, operation: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(OSError, match="No locks"):
        TempFile(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_leaves_is_swept_but_not_while_it_lives(tmp_path: Path) -> None:
    program = (
        "import sys, time; from httpd.storage.staging import TempFile;"
        "file = TempFile(sys.argv[1]); file.write(b'hello'); print('staged', flush=True);"
        "sys.stdin.read()"
    )
    uploader = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=Path(httpd.__path__[0]).parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with uploader:
        assert uploader.stdout is not None
        assert uploader.stdout.readline() == b"staged\n"
        assert sweep(str(tmp_path)) == 0
        assert only_file(tmp_path).read_bytes() == b"hello"
        uploader.send_signal(signal.SIGKILL)
    assert sweep(str(tmp_path)) == 1
    assert list(tmp_path.iterdir()) == []
