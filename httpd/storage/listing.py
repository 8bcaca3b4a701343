"""The names in a folder, in order and in bounded memory, however many they are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from heapq import nsmallest
from typing import NamedTuple

# Names that are held at once, 2 MB or so. A folder is read once more for every batch: one of
# 400,000 names, a 256th of a hundred million, is read 40 times, which its files dwarf.
BATCH = 10_000


class Entry(NamedTuple):
    """What a folder has: a name, and whether that is a regular file's."""

    name: str
    is_file: bool


def entries(folder: str, after: str = "") -> Iterator[Entry]:
    """Yield what is in `folder`, which is no symlink, by name, from behind `after` on.

    What is added or removed meanwhile may or may not be among it. Raises OSError.
    """
    while batch := nsmallest(BATCH, _read(folder, after)):
        yield from batch
        after = batch[-1].name


def usage(folder: str) -> tuple[int, int]:
    """Return the number of regular files in a folder, and their bytes. Raises OSError."""
    number = size = 0
    with os.scandir(folder) as found:
        for entry in found:
            if entry.is_file(follow_symlinks=False):
                with suppress(FileNotFoundError):  # removed since the folder was read
                    size += entry.stat(follow_symlinks=False).st_size
                    number += 1
    return number, size


def _read(folder: str, after: str) -> Iterator[Entry]:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(folder, flags)
    try:
        with os.scandir(descriptor) as found:
            for entry in found:
                if entry.name > after:
                    yield Entry(entry.name, entry.is_file(follow_symlinks=False))
    finally:
        os.close(descriptor)
