"""The pidfile: who the daemon is, and the lock that lets there be only one.

The lock is the truth, the number in it a courtesy: flock(2) ends with the last process that holds
the open file, however it ends, so a file that was left behind never keeps anybody from starting.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG

from httpd.process import proc

# Anybody may ask who runs. No symlink is followed: in a folder that others can write to, it would
# let them choose the file that root overwrites.
PID_MODE = 0o644
PID_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
READ_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
# The flags may tell more than others should know, so only their owner reads them.
OPTIONS_MODE = 0o600
OPTIONS_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW

LONGEST = 32  # bytes: no pid is longer, so a longer file is somebody's own and stays as it is
# `read_pid` holds a shared lock for an instant; whoever wants the file looks a few times.
LOOKS = 5
BETWEEN_LOOKS = 0.01


class AlreadyRunning(Exception):
    """Another process holds the pidfile; `pid` is its number, None while it is starting."""

    def __init__(self, pid: int | None) -> None:
        """Take the pid of the one that runs."""
        super().__init__(f"already running, pid {pid}" if pid else "another start is under way")
        self.pid = pid


class PidFile:
    """A locked pidfile, with a companion that keeps the flags for a restart.

    The lock belongs to the open file, which fork(2) shares: a child that must not keep it calls
    `close`, and only the last process of the daemon `release`.
    """

    def __init__(self, path: Path) -> None:
        """Take the path; nothing is opened yet."""
        self.path = path
        self.options = options_path(path)
        self.stale = False  # whether `acquire` found what a dead process has left
        self._descriptor = -1

    def acquire(self) -> None:
        """Open the file and lock it. Raises AlreadyRunning, OSError."""
        while self._descriptor < 0:
            descriptor = os.open(self.path, PID_FLAGS, PID_MODE)
            try:
                self._lock(descriptor)
                # Between open and lock the last owner may have removed the file that we opened.
                if _names(self.path, descriptor):
                    self._descriptor, descriptor = descriptor, -1
            finally:
                if descriptor >= 0:
                    os.close(descriptor)
        self.stale = os.fstat(self._descriptor).st_size > 0

    def take_over(self, descriptor: int) -> None:
        """Hold the lock by the open file in `descriptor`, which another process has locked."""
        self._descriptor = descriptor

    def fileno(self) -> int:
        """Return the descriptor that holds the lock, which must survive the way to the master."""
        return self._descriptor

    def write(self, pid: int) -> None:
        """Write the number, where there is a file; a reader never sees an empty one."""
        if self._descriptor < 0:
            return
        data = f"{pid}\n".encode()
        os.pwrite(self._descriptor, data, 0)
        os.ftruncate(self._descriptor, len(data))

    def write_options(self, flags: list[str]) -> None:
        """Write the flags that the daemon runs with beside the pidfile."""
        descriptor = os.open(self.options, OPTIONS_FLAGS, OPTIONS_MODE)
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(file.fileno(), OPTIONS_MODE)  # also where an old one had other ideas
            json.dump(flags, file)

    def release(self) -> None:
        """Remove both files while the lock is held, then let go of it."""
        if self._descriptor < 0:
            return
        # Whoever gave up being root may not remove from root's folder: then an empty file stays.
        with suppress(OSError):
            os.truncate(self.options, 0)
            os.unlink(self.options)
        with suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            if _names(self.path, self._descriptor):
                os.unlink(self.path)
        self.close()

    def close(self) -> None:
        """Close this process's copy; the lock stays with the others that have one."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _lock(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        if not S_ISREG(status.st_mode) or status.st_size > LONGEST:
            raise OSError(errno.EEXIST, "there is a file that is no pidfile", str(self.path))
        for look in range(LOOKS):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if look < LOOKS - 1:
                    time.sleep(BETWEEN_LOOKS)
        raise AlreadyRunning(_number(descriptor))


def read_pid(path: Path) -> int | None:
    """Return the pid of the daemon that holds the file, None if nobody does. Raises OSError."""
    try:
        descriptor = os.open(path, READ_FLAGS)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = _number(descriptor)
        return pid if pid and proc.stat(pid) else None
    finally:
        os.close(descriptor)
    return None


def options_path(path: Path) -> Path:
    """Return the path of the companion that keeps the flags."""
    return path.with_name(f"{path.name}.opts")


def read_options(path: Path) -> list[str]:
    """Return the flags kept beside the pidfile. Raises OSError, and ValueError if unreadable."""
    with open(options_path(path)) as file:
        flags = json.load(file)
    return [str(flag) for flag in flags]


def _names(path: Path, descriptor: int) -> bool:
    """Tell whether the path is still the name of the open file."""
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _number(descriptor: int) -> int | None:
    try:
        return int(os.pread(descriptor, LONGEST, 0)) or None
    except ValueError:
        return None
