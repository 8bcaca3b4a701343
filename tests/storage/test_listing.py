from __future__ import annotations

import os
from pathlib import Path

import pytest

from httpd.storage import listing
from httpd.storage.listing import entries

NAMES = ["a", "b\n", "c\udce4", "d", "\u00e9"]


@pytest.mark.parametrize("batch", [1, 2, 5, 100])
def test_every_name_comes_once_and_in_order(
    batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "BATCH", batch)
    for name in NAMES:
        (tmp_path / name).touch()
    assert [entry.name for entry in entries(str(tmp_path))] == sorted(NAMES)
    assert [entry.name for entry in entries(str(tmp_path), "b\n")] == sorted(NAMES)[2:]


def test_what_is_removed_meanwhile_does_not_confuse_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "BATCH", 2)
    for name in "abcdef":
        (tmp_path / name).touch()
    found = []
    for entry in entries(str(tmp_path)):
        found.append(entry.name)
        (tmp_path / entry.name).unlink()
    assert found == list("abcdef")


def test_only_regular_files_are_files(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    assert [entry.name for entry in entries(str(tmp_path)) if entry.is_file] == ["file"]


@pytest.mark.parametrize(
    ("name", "error"),
    [("file", NotADirectoryError), ("link", NotADirectoryError), ("no", FileNotFoundError)],
)
def test_what_is_no_folder_raises(name: str, error: type[OSError], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(error):
        list(entries(str(tmp_path / name)))
