"""Damaged blobs: out of the way, told apart from missing ones, and gone when they are healed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from httpd.storage.contract import Damaged, NotFound
from httpd.storage.local import LocalStorage
from tests.storage.samples import HELLO, download, neighbour, upload


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path, "md5", durable=True)


@pytest.fixture
def quarantined(storage: LocalStorage, tmp_path: Path) -> Path:
    """The damaged copy of HELLO."""
    upload(storage, b"hello")
    (tmp_path / "5d" / HELLO.hex).write_bytes(b"jello")
    blob = storage.open(HELLO)
    assert storage.quarantine(blob)
    blob.close()
    copy = tmp_path / ".quarantine" / HELLO.hex
    assert copy.read_bytes() == b"jello"
    return copy


def test_it_is_damaged_and_not_just_missing(storage: LocalStorage, quarantined: Path) -> None:
    with pytest.raises(Damaged) as caught:
        storage.open(HELLO)
    assert caught.value.stamp == quarantined.stat().st_mtime_ns
    with pytest.raises(Damaged):
        storage.confirm(HELLO)
    assert [entry.name for entry in storage.quarantined()] == [HELLO.hex]


def test_an_upload_heals_it(storage: LocalStorage, quarantined: Path) -> None:
    assert upload(storage, b"hello").created
    assert download(storage, HELLO) == b"hello"
    assert not quarantined.exists()


def test_delete_removes_it_and_leaves_no_folder(
    storage: LocalStorage, quarantined: Path, tmp_path: Path
) -> None:
    storage.delete(HELLO)
    assert not quarantined.exists()
    assert not (tmp_path / "5d").exists()
    with pytest.raises(NotFound):
        storage.delete(HELLO)


def test_delete_removes_both_where_a_crash_came_between_healing_and_dropping(
    storage: LocalStorage, quarantined: Path
) -> None:
    upload(storage, b"hello")
    quarantined.write_bytes(b"jello")
    assert download(storage, HELLO) == b"hello"
    storage.delete(HELLO)
    with pytest.raises(NotFound) as caught:
        storage.open(HELLO)
    assert not isinstance(caught.value, Damaged)


def test_its_neighbours_stay(storage: LocalStorage, tmp_path: Path) -> None:
    other = upload(storage, neighbour(HELLO)).digest
    upload(storage, b"hello")
    blob = storage.open(HELLO)
    assert storage.quarantine(blob)
    blob.close()
    assert os.listdir(tmp_path / "5d") == [other.hex]


def delete(storage: LocalStorage, path: Path) -> None:
    storage.delete(HELLO)


def store_anew(storage: LocalStorage, path: Path) -> None:
    storage.delete(HELLO)
    upload(storage, b"hello")


def write_to_it(storage: LocalStorage, path: Path) -> None:
    path.write_bytes(b"by hand")


@pytest.mark.parametrize("change", [delete, store_anew, write_to_it])
def test_only_what_was_judged_is_moved(
    change: object, storage: LocalStorage, tmp_path: Path
) -> None:
    upload(storage, b"hello")
    blob = storage.open(HELLO)
    assert storage.holds(blob)
    change(storage, tmp_path / "5d" / HELLO.hex)  # type: ignore[operator]
    assert not storage.holds(blob)
    assert not storage.quarantine(blob)
    blob.close()
    assert list(storage.quarantined()) == []
