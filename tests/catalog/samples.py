"""Files for the catalog tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from httpd.catalog.catalog import Catalog
from httpd.catalog.rows import File

DIGEST = "5d41402abc4b2a76b9719d911017c592"
OTHER_DIGEST = "7d793037a0760186574b0282f2f435e7"
PROCESSES = 3  # in the fixture of that name: more than there are cores on a small machine
START = datetime(2024, 2, 29, 23, 59, 59, 999_999, UTC)


def a_file(number: int = 1, name: str = "a.txt", digest: str = DIGEST, second: int = 0) -> File:
    """Return a file with an id made of its number, created so many seconds after START."""
    created_at = START + timedelta(seconds=second)
    return File(str(UUID(int=number)), "md5", digest, "text/plain", name, 5, created_at)


def upload(catalog: Catalog, *files: File) -> None:
    """Note and add files, the way the application does."""
    for file in files:
        with catalog.locked(file.digest):
            new = catalog.note(file.digest, file.algorithm, file.size, "token")
            catalog.add(file, stored_by_hash=False if new else None)
