from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from httpd.storage.contract import Storage
from httpd.storage.local import LocalStorage
from tests.storage.samples import OpenStorage

# A backend is named here once, and test_contract.py runs over it.
BACKENDS: dict[str, Callable[[Path, str], Storage]] = {
    "local-durable": lambda path, algorithm: LocalStorage(path, algorithm, durable=True),
    "local-scratch": lambda path, algorithm: LocalStorage(path, algorithm, durable=False),
}


@pytest.fixture(params=BACKENDS)
def open_storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenStorage]:
    """Open the test's store, as another process would: each call makes another instance."""
    backend = BACKENDS[request.param]
    opened: list[Storage] = []

    def make(algorithm: str = "md5") -> Storage:
        opened.append(backend(tmp_path / "store", algorithm))
        return opened[-1]

    yield make
    for storage in opened:
        storage.close()


@pytest.fixture
def storage(open_storage: OpenStorage) -> Storage:
    return open_storage()


@pytest.fixture(autouse=True)
def _no_descriptor_left_open() -> Iterator[None]:
    before = _open_files()
    yield
    assert _open_files() <= before  # what others have left may go meanwhile


def _open_files() -> set[str]:
    """Return the open descriptors, but for what a storage has for as long as it lives."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            target = os.readlink(f"/proc/self/fd/{number}")
            is_map, is_root = "/.deletions" in target, os.path.exists(f"{target}/.tmp")
            if not (is_map or is_root):
                found.add(number)
    return found


@pytest.fixture
def file_size_limit() -> Iterator[int]:
    """Let no file grow beyond so many bytes: write(2) is cut short there, then fails: EFBIG."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield 100_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
