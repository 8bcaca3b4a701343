"""A reload: the master becomes a new program under its old pid, and loses nothing on the way.

Its code may be a new version's, so it is started anew (execve(2)) and told what it holds: the
listeners, its workers, who waits for an answer. There is no way back from that, so it is rehearsed
before, in a process of its own: all of the new code that must work for a worker to come up.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path

from httpd import config
from httpd.process.readiness import LONGEST, READY

TAIL = 4096  # bytes of what a failed rehearsal has printed: a traceback's last line is in there
NOBODY = -1  # in place of a descriptor


@dataclass(frozen=True)
class Succession:
    """What a master leaves to its next self. Descriptors, but for `workers` and the truths.

    It passes between two versions of this program as a JSON object, so a field keeps its meaning.
    A version that does not know one, or misses one, fails in the rehearsal.
    """

    listeners: list[int]
    lent: bool
    detached: bool
    pidfile: int
    orders: int
    life: list[int]  # both ends of the pipe by which the workers know that the master lives
    heartbeats: int
    board: int  # where all processes count, see `httpd.metrics`
    tally: int  # where the workers count connections, see `httpd.server.tally`
    workers: list[list[float | str]]  # see `httpd.process.crew.Worker`
    predecessors: list[int]  # masters that are on their way out
    asker: int  # the conversation of whoever waits for the answer
    rehearsal: int = NOBODY  # where a rehearsal answers; nothing else is there then

    def descriptors(self) -> list[int]:
        """Return what must survive the exec."""
        several = [*self.listeners, *self.life, self.pidfile, self.orders]
        several += [self.heartbeats, self.board, self.tally]
        several += [*self.predecessors, self.asker, *(int(worker[1]) for worker in self.workers)]
        return [each for each in several if each != NOBODY]


def find(descriptor: int) -> Succession:
    """Read what an earlier self has left. Raises OSError, TypeError, ValueError."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    with open(descriptor, "rb") as file:
        found = Succession(**json.load(file))
    if found.rehearsal == NOBODY:
        for each in found.descriptors():
            os.set_inheritable(each, False)
    else:
        os.set_inheritable(found.rehearsal, False)
    return found


def own_program() -> list[str]:
    """Return the beginning of this process's command line, up to its own arguments.

    Absolute, because a daemon leaves its folder, but through the symlinks that were named: the
    next version may be where they lead by then.
    """
    script = sys.argv[0]
    options = sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv) + 1]
    if options and options[-1] == script and Path(script).exists():
        options[-1] = os.path.abspath(script)
    return [sys.executable, *options]


class Rehearsal:
    """A process that starts all that the next self will be, up to a worker that could serve."""

    def __init__(
        self, program: Sequence[str], flags: Sequence[str], succession: Succession, patience: float
    ) -> None:
        """Start it. Raises OSError. `patience`: seconds that it is given."""
        self.flags = list(flags)
        self.kill_at = time.monotonic() + patience
        self._answer, report = os.pipe()
        self._printed = os.memfd_create("printed")
        left = _leave({**asdict(succession), "rehearsal": report})
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            *((os.POSIX_SPAWN_DUP2, self._printed, stream) for stream in (1, 2)),
        ]
        try:
            for each in (report, left):
                os.set_inheritable(each, True)
            self.pid = os.posix_spawn(
                program[0],
                [*program, "run", *flags],
                config.bequest(left, supervised=False),
                file_actions=actions,
                setsigmask=(),
            )
        except OSError:
            self._close()
            raise
        finally:
            os.close(report)
            os.close(left)

    def kill_overdue(self) -> None:
        """End it if it takes too long."""
        if time.monotonic() >= self.kill_at:
            self.kill_at = inf
            os.kill(self.pid, signal.SIGKILL)

    def dismiss(self, patience: float) -> None:
        """Let it end, and its worker before it, within `patience` seconds."""
        self.kill_at = min(self.kill_at, time.monotonic() + patience)
        os.kill(self.pid, signal.SIGINT)

    def failure(self, how: str) -> str | None:
        """Return why the new code cannot take over, None if it can, once the process has ended.

        `how`: its end, in words.
        """
        os.set_blocking(self._answer, False)
        said = b""
        with suppress(BlockingIOError):  # a worker of it may still be there
            said = os.read(self._answer, LONGEST)
        printed = os.pread(self._printed, TAIL, max(0, os.fstat(self._printed).st_size - TAIL))
        self._close()
        answer = said.decode(errors="replace")
        if answer.startswith(READY):
            return None
        lines = printed.decode(errors="replace").split("\n")
        return answer or next((line for line in reversed(lines) if line.strip()), how)

    def _close(self) -> None:
        os.close(self._answer)
        os.close(self._printed)


def become(program: Sequence[str], flags: Sequence[str], succession: Succession) -> None:
    """Be the new code from now on. Raises OSError, and nothing has changed then."""
    left = _leave(asdict(succession))
    # The standard streams, too: a daemon has opened its own, which exec would close, and files of
    # the store would get their numbers.
    inherited = [0, 1, 2, left, *succession.descriptors()]
    word = "start" if succession.detached else "run"
    try:
        for each in inherited:
            os.set_inheritable(each, True)
        os.execve(program[0], [*program, word, *flags], config.bequest(left, supervised=True))
    finally:
        for each in inherited:
            os.set_inheritable(each, False)
        os.close(left)


def _leave(content: dict[str, object]) -> int:
    """Return a descriptor in which a process that is started finds the content."""
    descriptor = os.memfd_create("succession")
    os.write(descriptor, json.dumps(content).encode())
    return descriptor
