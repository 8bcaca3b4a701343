"""Damaged blobs, kept out of the way in `.quarantine/abcdef…` until they are stored again."""

from __future__ import annotations

import os
from pathlib import Path

from httpd.storage.digest import Digest
from httpd.storage.folders import Folders, is_there

FOLDER = ".quarantine"


class Quarantine:
    """The damaged copies of a store. Raises OSError."""

    def __init__(self, folders: Folders) -> None:
        """Take the store's folders."""
        self._folders = folders

    def exists(self) -> bool:
        """Tell whether there has ever been any.

        A copy is moved here under the lock of its prefix folder. So who has named content, under
        that lock, and sees none here afterwards, knows that there was none of it before.
        """
        return is_there(self._folders.path(FOLDER))

    def has(self, digest: Digest) -> bool:
        """Tell whether there is a damaged copy."""
        return is_there(self._path(digest))

    def stamp(self, digest: Digest) -> int | None:
        """Return the damaged copy's stamp, None where there is none."""
        try:
            return os.lstat(self._path(digest)).st_mtime_ns
        except FileNotFoundError:
            return None

    def take(self, digest: Digest, folder: int) -> None:
        """Move a blob here, out of its open and locked prefix folder; that is still to be flushed.

        The folder must have been made.
        """
        os.rename(digest.hex, self._path(digest), src_dir_fd=folder)
        self._folders.flush_path(self._folders.path(FOLDER))

    def make(self) -> None:
        """Make the folder, unless it is there."""
        self._folders.make(Path(self._folders.path(FOLDER)))

    def drop(self, digest: Digest) -> bool:
        """Remove the damaged copy, durably; false if there is none."""
        if not self.has(digest):
            return False
        try:
            os.unlink(self._path(digest))
        except FileNotFoundError:
            return False
        self._folders.flush_path(self._folders.path(FOLDER))
        return True

    def _path(self, digest: Digest) -> str:
        return f"{self._folders.path(FOLDER)}/{digest.hex}"
