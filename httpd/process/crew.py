"""The workers that a master has: forking them, hearing from them, and knowing when one is late."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import partial
from math import inf
from socket import socket
from typing import NamedTuple, NoReturn

from loguru import logger

from httpd import log
from httpd.config import Settings
from httpd.process.heartbeats import Heartbeats
from httpd.process.readiness import LONGEST

TO_WORKERS = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1}
TO_MASTER = {signal.SIGCHLD, signal.SIGIO}  # what it alone takes
FAILED = b"\0"  # begins the reason of a worker that could not start

START_SECONDS = 60.0  # a worker that has not come up by then never will; a big journal may be read
# Others are replaced ever more slowly, so that a worker that cannot live takes no whole core.
FIRST_DELAY, LONGEST_DELAY = 0.1, 5.0
QUIT_SECONDS = 1.0  # to leave at once; also what a worker gets beyond its own drain deadline
# A master that has woken up this much too late was stopped itself, and its workers perhaps with it.
OVERSLEPT_SECONDS = 1.0


class Post(NamedTuple):
    """What a worker is given."""

    settings: Settings
    listeners: Sequence[socket]
    lent: bool  # somebody else holds the listeners too, and takes what waits there when we leave
    ready_fd: int  # to write a byte other than FAILED to, once it serves
    master_fd: int  # comes to its end with the master: a reason to leave
    beat: Callable[[], None]  # to call every EVERY_SECONDS, on the loop's own turn


RunWorker = Callable[[Post], None]
"""Serves until it is told to leave.

The signals in TO_WORKERS are still blocked when it is called: it unblocks them when its handlers
stand, so none of them comes too early.
"""


class Workers(NamedTuple):
    """What every worker runs, and the descriptor of what all of them share (NOBODY: nothing)."""

    run: RunWorker
    shared: int


class Role(Enum):
    """What the master expects of a worker."""

    CANDIDATE = "to become ready, and then to take the place of the crew with its generation"
    CREW = "to serve; it is replaced when it dies"
    LEAVING = "to end by itself before its deadline"


@dataclass(slots=True)
class Worker:
    """A forked worker. What of it passes to the master's next self is in `kept`."""

    pid: int
    ready_fd: int  # read end of its pipe; -1 once it is ready
    role: Role
    born: float
    kill_at: float
    slot: int  # of its heartbeats
    reason: str = ""  # why it could not start

    @property
    def ready(self) -> bool:
        """Tell whether it serves."""
        return self.ready_fd < 0

    def kept(self) -> list[float | str]:
        """Return it in words of JSON, for `found`."""
        kill_at = "never" if self.kill_at == inf else self.kill_at
        return [self.pid, self.ready_fd, self.role.name, self.born, kill_at, self.slot]

    @classmethod
    def found(cls, kept: Sequence[float | str]) -> Worker:
        """Make it of what `kept` has returned. Raises KeyError, ValueError."""
        pid, ready_fd, role, born, kill_at, slot = kept
        deadline = inf if kill_at == "never" else float(kill_at)
        return cls(int(pid), int(ready_fd), Role[str(role)], float(born), deadline, int(slot))


class Crew:
    """Every worker that is not buried yet, by its pid."""

    def __init__(
        self,
        life: Sequence[int] = (),
        heartbeats: int | None = None,
        workers: Sequence[Sequence[float | str]] = (),
    ) -> None:
        """Begin with nobody, or with what an earlier self of the master has left."""
        self.workers = {worker.pid: worker for worker in map(Worker.found, workers)}
        # Nothing is ever written to this pipe: its end is the master's, however that comes about.
        self.life_in, self.life_out = life or os.pipe()
        self.heartbeats = Heartbeats(heartbeats)
        self._awake_since = time.monotonic()  # no heartbeat counts as older than that
        self._due = inf

    def __iter__(self) -> Iterator[Worker]:
        """Go through all of them, whatever happens to them meanwhile."""
        return iter(list(self.workers.values()))

    def __len__(self) -> int:
        """Count them."""
        return len(self.workers)

    def of(self, role: Role) -> list[Worker]:
        """Return those of whom this is expected."""
        return [worker for worker in self.workers.values() if worker.role is role]

    def hire(
        self,
        role: Role,
        run_worker: RunWorker,
        post: Callable[..., Post],
        let_go: Callable[[], None],
    ) -> bool:
        """Fork a worker; tell whether there was room for one more process.

        `post` makes what it is given of `ready_fd`, `master_fd` and `beat`; `let_go` closes in it
        what is the master's alone.
        """
        ready_fd, report_fd = os.pipe()
        signal_when_readable(ready_fd)
        try:
            slot = self.heartbeats.free_slot({worker.slot for worker in self})
            pid = os.fork()
        except OSError as error:
            logger.error("cannot fork: {}", error)
            os.close(ready_fd)
            os.close(report_fd)
            return False
        if pid == 0:
            os.close(ready_fd)
            beat = partial(self.heartbeats.beat, slot)
            # The worker closes its own copy; ours must still be the pipe if it fails after that.
            post = partial(post, ready_fd=os.dup(report_fd), master_fd=self.life_in, beat=beat)
            self._become_worker(run_worker, post, let_go, report_fd)
        os.close(report_fd)
        now = time.monotonic()
        self.workers[pid] = Worker(pid, ready_fd, role, now, now + START_SECONDS, slot)
        logger.debug("worker {} forked", pid)
        return True

    def _become_worker(
        self,
        run_worker: RunWorker,
        post: Callable[[], Post],
        let_go: Callable[[], None],
        report_fd: int,
    ) -> NoReturn:
        """Run the worker in the child; whatever happens, never return into the master's code."""
        status = 1
        try:
            let_go()
            self._let_go()
            run_worker(post())
            status = 0
        except BaseException as error:
            logger.exception("the worker failed")
            reason = f"{type(error).__name__}: {error}".encode()
            with suppress(OSError):  # once it was ready, nobody reads this any more
                os.write(report_fd, (FAILED + reason)[:LONGEST])
        finally:
            os._exit(status)  # the exit handlers are the launcher's and the master's

    def _let_go(self) -> None:
        """Let go, in a worker, of what is the master's: a copy of its life line hides its death."""
        for worker in self:
            if not worker.ready:
                os.close(worker.ready_fd)
        os.close(self.life_out)
        log.reopen()  # lines are appended through a file of its own, which it can lock
        signal.pthread_sigmask(signal.SIG_UNBLOCK, TO_MASTER)

    def dismiss(self, worker: Worker, number: int, patience: float) -> None:
        """Tell a worker to leave by a signal, within `patience` seconds."""
        worker.role = Role.LEAVING
        worker.kill_at = min(worker.kill_at, time.monotonic() + patience)
        os.kill(worker.pid, number)

    def hear(self, worker: Worker) -> bool:
        """Read what a starting worker has said, if anything; tell whether it now serves."""
        if worker.ready:
            return False
        try:
            said = os.read(worker.ready_fd, LONGEST)
        except BlockingIOError:
            return False
        if said.startswith(FAILED):
            worker.reason = said.removeprefix(FAILED).decode(errors="replace")
            return False
        if not said:  # SIGCHLD has the rest of the story
            return False
        os.close(worker.ready_fd)
        worker.ready_fd = -1
        self.heartbeats.beat(worker.slot)  # its first one, so that nobody reads its forerunner's
        if worker.role is not Role.LEAVING:
            worker.kill_at = inf
        return True

    def bury(self, pid: int) -> Worker | None:
        """Take a process off the list, once it has ended and its last words are heard."""
        worker = self.workers.pop(pid, None)
        if worker and not worker.ready:
            os.close(worker.ready_fd)
        return worker

    # ---- the clock

    def stalled(self, worker: Worker, patience: float) -> bool:
        """Tell whether its loop has not turned for `patience` seconds."""
        return worker.ready and time.monotonic() >= self._last_sign(worker) + patience

    def kill_overdue(self, stall_timeout: float) -> None:
        """Kill the workers that have missed a deadline, or whose loop stands still."""
        for worker in self:
            if time.monotonic() >= worker.kill_at:
                logger.warning("worker {} is killed: it has not kept its deadline", worker.pid)
                worker.reason = f"no worker came up within {START_SECONDS:.0f} s"
            elif stall_timeout and worker.kill_at == inf and self.stalled(worker, stall_timeout):
                if worker.reason:
                    continue  # killed already; the kernel has not got it out of its call yet
                logger.error(
                    "worker {} is killed: its loop has not turned for {:g} s",
                    worker.pid, stall_timeout,
                )  # fmt: skip
                worker.reason = "its loop stood still"
            else:
                continue
            worker.kill_at = inf
            os.kill(worker.pid, signal.SIGKILL)

    def next_deadline(self, stall_timeout: float) -> float:
        """Return when a worker will be late, on the monotonic clock."""
        due = [worker.kill_at for worker in self]
        if stall_timeout:
            ready = (worker for worker in self if worker.ready and not worker.reason)
            due += [self._last_sign(worker) + stall_timeout for worker in ready]
        return min(due, default=inf)

    def awake(self, asked: float) -> None:
        """Note that the master has woken up, not later than at `asked` if all is well.

        Whoever stops a container or a machine stops all of it, and its workers must have their
        turn before they are judged.
        """
        now = time.monotonic()
        if now > asked + OVERSLEPT_SECONDS:
            self._awake_since = now

    def _last_sign(self, worker: Worker) -> float:
        return max(self.heartbeats.last(worker.slot), self._awake_since)


class BackOff:
    """Decides when a vacancy is filled: at once after an accident, ever later in a series."""

    def __init__(self) -> None:
        """Begin without a delay."""
        self._delay = 0.0
        self.until = 0.0  # on the monotonic clock

    def note(self, *, settled: bool) -> None:
        """Note that a place has become vacant. `settled`: its worker did not die of its start."""
        now = time.monotonic()
        if settled:
            self._delay = 0.0
        elif now >= self.until:  # workers that die together are one failure
            self._delay = min(max(FIRST_DELAY, 2 * self._delay), LONGEST_DELAY)
            self.until = now + self._delay


def signal_when_readable(descriptor: int) -> None:
    """Make SIGIO come to this process when there is something to read (fcntl(2), O_ASYNC)."""
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_ASYNC | os.O_NONBLOCK)


def describe(status: int) -> str:
    """Say how a process ended; a negative status is a signal's number."""
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"exited with status {status}"
