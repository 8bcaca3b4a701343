"""A small file beside the blobs: how far a long task has come."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from httpd.storage.staging import TempFile

VERIFIED = ".verified"
"""Name of the note that tells what the last whole check of the store has found."""


class Note:
    """A file in the store's root that is there whole, or not at all. Every call raises OSError."""

    def __init__(self, root: Path, name: str) -> None:
        """Take the store's folder, which has been opened once, and the file's name."""
        self._root = root
        self._name = name

    def read(self) -> bytes:
        """Return what was written last, b"" where there is none."""
        with suppress(FileNotFoundError):
            return (self._root / self._name).read_bytes()
        return b""

    def write(self, content: bytes) -> None:
        """Put it in the place of what is there; a power cut leaves the one or the other."""
        folder = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            file = TempFile(f"{self._root}/.tmp")
            try:
                file.write(content)
                os.fsync(file.descriptor)
                file.rename(self._name, folder)
            finally:
                file.discard()
        finally:
            os.close(folder)

    def remove(self) -> None:
        """Remove it, if it is there."""
        (self._root / self._name).unlink(missing_ok=True)
