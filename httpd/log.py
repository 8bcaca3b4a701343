"""The log files: life-cycle and errors in `filestored.log`, requests in `access.log`.

Several processes append to the same files. loguru's own rotation is made for one process (each
of several would rename the file away under the others), so `LogFile` does it here. The sinks are
opened by each process for itself, after the fork; until then nothing is configured.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from loguru import logger

if TYPE_CHECKING:
    from loguru import Record

LIFE = "filestored.log"
ACCESS = "access.log"

ROTATE_BYTES = 64 << 20  # an editor still opens it, and 6 of them do not fill a disk
KEEP = 5  # rotated files, .1 is the youngest
FILE_MODE = 0o640  # addresses and names of clients are nobody else's business
FOLDER_MODE = 0o750
APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW

# Time with its zone, level, process, request if any, message; loguru adds the traceback where there
# is one.
FORMAT = "{time:YYYY-MM-DD HH:mm:ss.SSS ZZ} {level: <8} {process.id: >7} {extra[request]}{message}"

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that is worked on, for every line that is logged meanwhile."""


class Output(Protocol):
    """Where finished lines go. None of its methods raises OSError."""

    def write(self, text: str) -> None:
        """Write whole lines at once."""

    def reopen(self) -> None:
        """Open the file anew by its name."""


class LogFile:
    """A file that several processes append to, and that one of them rotates.

    Within a process one thread writes at a time: loguru sees to that for its sinks, and the lines
    of requests all come from the loop.
    """

    def __init__(self, path: Path, limit: int = ROTATE_BYTES, keep: int = KEEP) -> None:
        """Take the path, the size in bytes to rotate at, and the number of old files to keep."""
        self._path = path
        self._limit = limit
        self._keep = keep
        self._descriptor = -1
        self._opened = (0, 0)  # device and inode of the open file
        self._reopen = False
        self._lost = 0  # writes since the last one that succeeded

    def write(self, text: str) -> None:
        """Append lines by one call of write, so that those of other processes stay whole as well.

        What cannot be written is dropped: a full disk must not stop the daemon.
        """
        if self._lost:
            text = f"({self._lost} writes to this log were lost)\n{text}"
        data = text.encode(errors="backslashreplace")
        try:
            self._make_room(len(data))
            written = os.write(self._descriptor, data)
        except OSError as error:
            self._complain(str(error))
            return
        if written == len(data):
            self._lost = 0
        else:
            self._complain("the last line was cut short")

    def reopen(self) -> None:
        """Let the next write open what is there by that name then; any thread may call it."""
        self._reopen = True

    def _make_room(self, length: int) -> None:
        """See to it that the descriptor is the named file's and that the file is not full."""
        status = self._current()
        if status.st_size and status.st_size + length > self._limit:
            with suppress(OSError):  # better too big a file than no lines
                self._rotate()
            self._current()

    def _current(self) -> os.stat_result:
        """Return the named file's status, opened anew if it was moved away or removed."""
        if self._reopen:
            self._close()
        try:
            named = os.stat(self._path, follow_symlinks=False)
            # While it is open nothing else can have its inode.
            if self._descriptor >= 0 and self._opened == (named.st_dev, named.st_ino):
                return named
        except FileNotFoundError:
            pass
        self._close()
        self._path.parent.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
        self._descriptor = os.open(self._path, APPEND, FILE_MODE)
        status = os.fstat(self._descriptor)
        self._opened = status.st_dev, status.st_ino
        return status

    def _rotate(self) -> None:
        """Rename the files one number up, in the one process that gets the full file's lock.

        The others go on writing to what they have, or see the new name: nobody waits.
        """
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        named = os.stat(self._path, follow_symlinks=False)
        if not os.path.samestat(named, os.fstat(self._descriptor)):
            return  # rotated between our look at its size and our lock
        # The full file goes last: until then nobody can begin and fill a new one.
        for number in range(self._keep - 1, 0, -1):
            with suppress(FileNotFoundError):
                os.rename(f"{self._path}.{number}", f"{self._path}.{number + 1}")
        os.rename(self._path, f"{self._path}.1")

    def _complain(self, reason: str) -> None:
        """Say on stderr that lines are lost, once until a write succeeds again."""
        self._lost += 1
        if self._lost == 1:
            StandardStream(2).write(f"filestored: {self._path} cannot be written: {reason}\n")

    def _close(self) -> None:
        self._reopen = False
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class StandardStream:
    """Stands in for a file where the daemon runs in the foreground."""

    def __init__(self, descriptor: int) -> None:
        """Take the descriptor: 1 or 2."""
        self._descriptor = descriptor

    def write(self, text: str) -> None:
        """Write to whatever the descriptor is."""
        with suppress(OSError):  # the reader of a pipe may have gone
            os.write(self._descriptor, text.encode(errors="backslashreplace"))

    def reopen(self) -> None:
        """Do nothing: it has no name to be opened by."""


_life: Output = StandardStream(2)
_access: Output = StandardStream(1)
_access_wanted = False


def open_sinks(folder: Path | None, level: str, access: Path | None = None) -> None:
    """Log to files in `folder` from `level` on; in this process only.

    Without a folder requests go to stdout, and all else to stderr. `access`: another folder for the
    log of requests.
    """
    global _life, _access, _access_wanted
    _life = LogFile(folder / LIFE) if folder else StandardStream(2)
    requests = access or folder
    _access = LogFile(requests / ACCESS) if requests else StandardStream(1)
    _access_wanted = logger.level(level).no <= logger.level("INFO").no
    logger.remove()
    logger.configure(patcher=_name_request)
    # diagnose would print the values of variables, and with them whatever a client has sent.
    logger.add(_life.write, format=FORMAT, level=level, backtrace=False, diagnose=False)


def check_folder(folder: Path) -> None:
    """Raise OSError if the log files cannot be opened there; make the folder if it is missing."""
    folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
    for name in (LIFE, ACCESS):
        os.close(os.open(folder / name, APPEND, FILE_MODE))


def _name_request(record: Record) -> None:
    current = request_id.get()
    record["extra"]["request"] = f"[{current}] " if current else ""


def reopen() -> None:
    """Let go of the files, as they may have been moved away to be packed."""
    _life.reopen()
    _access.reopen()


def access_wanted() -> bool:
    """Tell whether the level is low enough for a line about each request."""
    return _access_wanted


def access(lines: str) -> None:
    """Write a batch of finished lines, each with its end, to the log of requests."""
    _access.write(lines)
