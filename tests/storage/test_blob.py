"""A blob that is opened once more: the same file, or none."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from httpd.storage.blob import LocalBlob
from httpd.storage.local import LocalStorage
from tests.storage.samples import HELLO, upload

CONTENT = b"hello"


@pytest.fixture
def blob(tmp_path: Path) -> LocalBlob:
    """A blob that was opened and is closed."""
    storage = LocalStorage(tmp_path / "store", "md5", durable=False)
    upload(storage, CONTENT)
    blob = storage.open(HELLO)
    blob.close()
    return blob


@pytest.fixture
def path(blob: LocalBlob, tmp_path: Path) -> Path:
    """Its file."""
    return tmp_path / "store" / HELLO.hex[:2] / HELLO.hex


def test_the_same_file_is_opened_however_often(blob: LocalBlob) -> None:
    for _ in range(2):
        again = blob.reopen()
        assert again is not None
        with closing(again):
            told = again.digest, again.size, again.stamp, again.stored_at
            assert told == (HELLO, len(CONTENT), blob.stamp, blob.stored_at)
            assert again.read(10, 0) == CONTENT
            blob = again


def remove(path: Path) -> None:
    path.unlink()


def remove_with_its_folder(path: Path) -> None:
    path.unlink()
    path.parent.rmdir()


def touch(path: Path) -> None:
    os.utime(path, (0, 0))


def lengthen(path: Path) -> None:
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.write_bytes(CONTENT * 2)
    os.utime(path, ns=times)


def replace(path: Path) -> None:
    """Put another file of the same length and time there."""
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    other = path.with_name("other")
    other.write_bytes(CONTENT)
    os.utime(other, ns=times)
    other.rename(path)


def lead_elsewhere(path: Path) -> None:
    """Let the folder be a symlink to one with such a file."""
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.parent.rename(path.parent.with_name("aside"))
    elsewhere = path.parent.with_name("elsewhere")
    elsewhere.mkdir()
    (elsewhere / path.name).write_bytes(CONTENT)
    os.utime(elsewhere / path.name, ns=times)
    path.parent.symlink_to(elsewhere)


def put_a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


CHANGES = [remove, remove_with_its_folder, touch, lengthen, replace, lead_elsewhere, put_a_fifo]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_anything_else_is_not(change: Callable[[Path], None], blob: LocalBlob, path: Path) -> None:
    change(path)
    assert blob.reopen() is None


def test_a_symlink_under_its_name_is_not_followed(blob: LocalBlob, path: Path) -> None:
    path.rename(path.with_name("other"))
    path.symlink_to("other")
    with pytest.raises(OSError, match="symbolic links"):
        blob.reopen()
