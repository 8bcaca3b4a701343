"""syncfs(2), which Python's os module does not have: one flush for all that was written."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from functools import cache

# Since then it tells of data that could not be written (syncfs(2), "VERSIONS").
TELLING_KERNEL = (5, 8)
# Stacked file systems flush what lies below them, and keep its errors to themselves.
SILENT = {"overlay", "fuse", "fuseblk"}


def syncfs(descriptor: int) -> None:
    """Bring all that was written to a file system, by anybody, to disk. Raises OSError.

    Data that could not be written since the file of `descriptor` was opened is an error, too, where
    `tells_errors`.
    """
    if _libc().syncfs(descriptor):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def tells_errors(path: str) -> bool:
    """Tell whether syncfs on that file system fails when data has been lost."""
    return _kernel() >= TELLING_KERNEL and _type_of(path) not in SILENT


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


@cache
def _kernel() -> tuple[int, ...]:
    numbers = os.uname().release.split("-")[0].split(".")
    return tuple(int(number) for number in numbers[:2] if number.isdecimal())


def _type_of(path: str) -> str:
    """Return the type of the file system that a path is on, as /proc/self/mountinfo names it.

    The fields are those of proc(5): `… major:minor root mount-point … - type source options`.
    """
    status = os.stat(path)
    wanted = f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
        return _find(mounts, wanted)


def _find(mounts: Iterable[str], wanted: str) -> str:
    found = "fuse"  # unknown, as btrfs is, which gives each subvolume a number of its own
    for line in mounts:
        before, _, after = line.partition(" - ")
        if before.split()[2] == wanted:
            found = after.split()[0]
    return found
