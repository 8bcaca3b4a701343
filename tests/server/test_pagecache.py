"""What is told of a file in memory; one that is not, for real, is in tests/test_cold_files.py."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from httpd.server.pagecache import fill, holds

SIZE = 300_000


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "file").write_bytes(bytes(SIZE))
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def fail_at(monkeypatch: pytest.MonkeyPatch, offsets: Sequence[int], number: int) -> None:
    """Let reads that do not wait fail at these places."""
    preadv = os.preadv

    def read(descriptor: int, buffers: Sequence[bytearray], offset: int, flags: int = 0) -> int:
        assert flags == os.RWF_NOWAIT
        if offset in offsets:
            raise OSError(number, os.strerror(number))
        return preadv(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", read)


def test_what_was_written_just_now_is_in_memory(file: int) -> None:
    assert holds(file, 0, SIZE)


@pytest.mark.parametrize("missing", [1000, 1999])
def test_what_lacks_its_begin_or_its_end_is_not(
    file: int, monkeypatch: pytest.MonkeyPatch, missing: int
) -> None:
    fail_at(monkeypatch, [missing], errno.EAGAIN)
    assert not holds(file, 1000, 1000)
    assert holds(file, missing + 1, 1000)


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EIO])
def test_where_nobody_can_tell_it_is_read_as_it_is(
    file: int, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    fail_at(monkeypatch, range(SIZE), number)
    assert holds(file, 0, SIZE)


@pytest.mark.parametrize(
    ("offset", "count"), [(0, SIZE), (10, 1), (SIZE - 1, 1), (SIZE - 1, 1000), (0, 1 << 40)]
)
def test_any_part_can_be_fetched_and_no_descriptor_is_left(
    file: int, offset: int, count: int
) -> None:
    before = os.listdir("/proc/self/fd")
    fill(file, offset, count)
    assert holds(file, offset, 1)
    assert os.listdir("/proc/self/fd") == before
    assert os.lseek(file, 0, os.SEEK_CUR) == 0


def test_what_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, bytes(SIZE))
    with pytest.raises(OSError, match="Bad file descriptor"):
        fill(descriptor, 0, SIZE)
    os.close(descriptor)
