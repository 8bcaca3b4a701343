"""Disks whose power can be cut: file systems on loop devices.

The cut is the kernel's own (FS_IOC_SHUTDOWN, which xfstests calls "godown"): from that moment on
the file system neither reads nor writes, and what had not reached its device is lost. Mounted
again, it recovers from its log, as after a real power cut. Needs root.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
import subprocess
from functools import cache
from pathlib import Path
from time import monotonic
from typing import NamedTuple

from tests.daemons import until

FS_IOC_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32), linux/fs.h
# The file system's log is written once more before the cut, or it is not: what was logged and not
# flushed survives in the one case, and is lost in the other.
WITH_LOG, WITHOUT_LOG = 1, 2

# Sparse; xfs takes no less than 300 MiB.
SIZE = 512 << 20

_libc = ctypes.CDLL(None, use_errno=True)


class Moment(NamedTuple):
    """When the power was cut, on the monotonic clock: not before `begun`, not after `ended`."""

    begun: float
    ended: float


CLONE_NEWNS = 0x20000
MS_REC, MS_PRIVATE = 0x4000, 0x40000  # linux/mount.h


@cache
def stay_alone() -> None:
    """Have a mount namespace of our own from now on.

    A file system that somebody else has a copy of, in another namespace, is not let go of when it
    is unmounted here, and mounted again it would still be cut off.
    """
    _check(_libc.unshare(CLONE_NEWNS))
    _check(_libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))


class Disk:
    """A file system of its own at `path`, mounted from its making until `close`."""

    def __init__(self, folder: Path, kind: str) -> None:
        """Make a file system of that kind, ext4 or xfs, below `folder`."""
        stay_alone()
        self.path = folder / "disk"
        self.kind = kind
        image = folder / "disk.img"
        with image.open("wb") as file:
            file.truncate(SIZE)
        subprocess.run([f"mkfs.{kind}", "-q", image], check=True)
        self.path.mkdir()
        made = subprocess.run(
            ["losetup", "--find", "--show", image], check=True, capture_output=True, text=True
        )
        self._device = made.stdout.strip()
        self._image = image
        self.mount()

    def mount(self) -> None:
        """Mount it, which recovers it after a cut."""
        _check(_libc.mount(self._device.encode(), bytes(self.path), self.kind.encode(), 0, None))

    def cut(self, how: int) -> Moment:
        """Cut the power; `how` is WITH_LOG or WITHOUT_LOG. Returns when that was."""
        root = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            begun = monotonic()
            fcntl.ioctl(root, FS_IOC_SHUTDOWN, struct.pack("I", how))
            return Moment(begun, monotonic())
        finally:
            os.close(root)

    def unmount(self) -> None:
        """Unmount it for real: mounted again while it is in use, it would still be cut off."""
        until(self._unmounted, f"{self.path} is in use")

    def close(self) -> None:
        """Take it away."""
        self.unmount()
        subprocess.run(["losetup", "--detach", self._device], check=True)
        self._image.unlink()
        self.path.rmdir()

    def _unmounted(self) -> bool:
        try:
            _check(_libc.umount2(bytes(self.path), 0))
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            return False
        return True


def syncfs(folder: Path) -> None:
    """Bring all of a file system to disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _check(_libc.syncfs(descriptor))
    finally:
        os.close(descriptor)


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
