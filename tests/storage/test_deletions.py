"""What all processes that use a store learn of deletions."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from httpd.storage import deletions
from httpd.storage.deletions import Deletions
from httpd.storage.digest import Digest
from httpd.storage.local import LocalStorage
from tests.storage.samples import HELLO, neighbour, upload

OTHER = Digest("md5", "00" * 16)


def test_a_deletion_is_seen_by_every_other_user_of_the_store(tmp_path: Path) -> None:
    one, other = (LocalStorage(tmp_path, "md5", durable=False) for _ in range(2))
    upload(one, b"hello")
    lasts, other_lasts = other.none_deleted(HELLO), other.none_deleted(OTHER)
    assert lasts is not None
    assert other_lasts is not None
    assert lasts()
    one.delete(HELLO)
    assert not lasts()
    assert other_lasts()


def test_a_deletion_in_another_process_is_seen(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path, "md5", durable=False)
    upload(storage, b"hello")
    lasts = storage.none_deleted(HELLO)
    child = os.fork()
    if child == 0:
        try:
            pickle.loads(pickle.dumps(storage)).delete(HELLO)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert lasts is not None
    assert not lasts()


def test_an_upload_changes_nothing(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path, "md5", durable=False)
    lasts = storage.none_deleted(HELLO)
    upload(storage, b"hello")
    upload(storage, neighbour(HELLO))
    assert lasts is not None
    assert lasts()


def test_where_the_file_cannot_be_used_nobody_can_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: str) -> object:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(deletions, "_File", refuse)
        storage = LocalStorage(tmp_path, "md5", durable=False)
        upload(storage, b"hello")
        assert storage.none_deleted(HELLO) is None
        with pytest.raises(PermissionError):  # nobody else would learn of it
            storage.delete(HELLO)
        storage.open(HELLO).close()
    storage.delete(HELLO)


def test_another_failure_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        Deletions(str(tmp_path / "link"))
