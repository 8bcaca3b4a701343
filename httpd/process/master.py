"""The master: forks the workers, keeps their number, and acts on signals and on deaths."""

from __future__ import annotations

import fcntl
import gc
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from math import inf
from socket import socket
from typing import NoReturn

from loguru import logger

from httpd import log
from httpd.config import Settings
from httpd.process.pidfile import PidFile
from httpd.process.readiness import LONGEST, Readiness

RunWorker = Callable[[Settings, Sequence[socket], int, int], None]
"""(settings, listeners, ready_fd, master_fd): serves until it is told to leave.

It writes a byte other than FAILED to ready_fd once it serves, and leaves when master_fd comes to
its end, because then the master is gone. The signals in TO_WORKERS are still blocked when it is
called: it unblocks them when its handlers stand, so none of them comes too early.
"""

TO_WORKERS = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1}
FAILED = b"\0"  # begins the reason of a worker that could not start

START_SECONDS = 60.0  # a worker that has not come up by then never will; a big journal may be read
SETTLED_SECONDS = 1.0  # one that has served for so long did not die of how it was started
# Others are replaced ever more slowly, so that a worker that cannot live takes no whole core.
FIRST_DELAY, LONGEST_DELAY = 0.1, 5.0
QUIT_SECONDS = 1.0  # to leave at once; also what a worker gets beyond its own drain deadline
IDLE_SECONDS = 3600.0  # the longest sleep where nothing is due


class Role(Enum):
    """What the master expects of a worker."""

    CANDIDATE = "to become ready, and then to take the place of the crew with its generation"
    CREW = "to serve; it is replaced when it dies"
    LEAVING = "to end by itself before its deadline"


@dataclass(slots=True)
class Worker:
    """A forked worker."""

    pid: int
    ready_fd: int  # read end of its pipe; -1 once it is ready
    role: Role
    born: float
    kill_at: float
    reason: str = ""  # why it could not start

    @property
    def ready(self) -> bool:
        """Tell whether it serves."""
        return self.ready_fd < 0


class Master:
    """Keeps `settings.workers` workers serving until it is told to stop.

    Signals stay blocked and are taken one at a time by sigtimedwait(2), which is also the clock.
    So nothing ever interrupts the master: there are no handlers, no reentrancy, no lost wake-up.
    Even the workers' pipes speak by a signal (O_ASYNC makes a readable one send SIGIO, fcntl(2)).
    """

    def __init__(
        self,
        settings: Settings,
        listeners: Sequence[socket],
        pidfile: PidFile,
        readiness: Readiness,
        run_worker: RunWorker,
        sweep: Callable[[], object],
    ) -> None:
        """Take what the workers need; `sweep` removes what a dead one has left in the store."""
        self._settings = settings
        self._listeners = listeners
        self._pidfile = pidfile
        self._readiness = readiness
        self._run_worker = run_worker
        self._sweep = sweep
        self._actions: dict[int, Callable[[], None]] = {
            signal.SIGTERM: self._drain,
            signal.SIGINT: self._quit,
            signal.SIGQUIT: self._quit,
            signal.SIGHUP: self._reload,
            signal.SIGUSR1: self._reopen_logs,
            signal.SIGCHLD: self._reap,
            signal.SIGIO: self._hear,
        }
        self._workers: dict[int, Worker] = {}
        # Nothing is ever written to this pipe: its end is the master's, however that comes about.
        self._life_in, self._life_out = os.pipe()
        self._serving = False
        self._stopping = False
        self._failure: str | None = None
        self._delay = 0.0
        self._hire_at = 0.0

    def run(self) -> str | None:
        """Serve until told to stop and the last worker is gone; return why it did not start."""
        signal.pthread_sigmask(signal.SIG_BLOCK, self._actions)
        for number in self._actions:
            signal.signal(number, signal.SIG_DFL)  # a shell or nohup may have had some ignored
        self._pidfile.write(os.getpid())
        gc.freeze()  # the collector would write to every page that the workers share
        self._fork_candidates()
        while self._workers or not self._stopping:
            taken = signal.sigtimedwait(self._actions, self._time_to_next())
            if taken is not None:
                self._actions[taken.si_signo]()
            self._kill_overdue()
            self._fill_vacancies()
        # What a stop has cut off is nobody's any more; after each death before that, see _bury.
        self._clean_up()
        return self._failure

    def _with_role(self, role: Role) -> list[Worker]:
        return [worker for worker in self._workers.values() if worker.role is role]

    # ---- the signals

    def _drain(self) -> None:
        """Let the requests under way be finished; a second signal is from somebody in a hurry."""
        if self._stopping:
            self._quit()
        else:
            logger.info("stopping when the requests under way are finished")
            self._stop(signal.SIGTERM, self._settings.drain_timeout + QUIT_SECONDS)

    def _quit(self) -> None:
        logger.info("stopping at once")
        self._stop(signal.SIGINT, QUIT_SECONDS)

    def _stop(self, number: int, patience: float) -> None:
        self._stopping = True
        if not self._serving:
            self._failure = self._failure or "stopped before it was ready"
        for listener in self._listeners:
            # Connections would be let in, and wait for ever, while one copy is open anywhere.
            listener.close()
        for worker in self._workers.values():
            self._dismiss(worker, number, patience)

    def _dismiss(self, worker: Worker, number: int, patience: float) -> None:
        worker.role = Role.LEAVING
        worker.kill_at = min(worker.kill_at, time.monotonic() + patience)
        os.kill(worker.pid, number)

    def _reload(self) -> None:
        if self._stopping or self._with_role(Role.CANDIDATE):
            logger.warning("no reload: another start or stop is under way")
            return
        logger.info("reloading: fresh workers are started")
        self._fork_candidates()

    def _reopen_logs(self) -> None:
        log.reopen()
        logger.info("log files reopened")
        for worker in self._workers.values():
            os.kill(worker.pid, signal.SIGUSR1)

    def _hear(self) -> None:
        for worker in list(self._workers.values()):
            self._hear_one(worker)

    def _hear_one(self, worker: Worker) -> None:
        """Read what a starting worker has said, if anything."""
        if worker.ready:
            return
        try:
            said = os.read(worker.ready_fd, LONGEST)
        except BlockingIOError:
            return
        if said.startswith(FAILED):
            worker.reason = said.removeprefix(FAILED).decode(errors="replace")
        elif said:  # and at its end, SIGCHLD has the rest of the story
            os.close(worker.ready_fd)
            worker.ready_fd = -1
            if worker.role is not Role.LEAVING:
                worker.kill_at = inf
            self._promote()

    def _reap(self) -> None:
        """Take note of every child that has ended: one signal may stand for several."""
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid in self._workers:
                    self._bury(pid, os.waitstatus_to_exitcode(status))

    # ---- the generations

    def _fork_candidates(self) -> None:
        for _ in range(self._settings.workers):
            if not self._fork(Role.CANDIDATE):
                self._abandon("no process can be made for a worker")
                return

    def _promote(self) -> None:
        """Let the candidates take over once all of them are ready."""
        candidates = self._with_role(Role.CANDIDATE)
        if not candidates or not all(worker.ready for worker in candidates):
            return
        settings = self._settings
        for worker in self._with_role(Role.CREW):
            # It keeps a connection until its next response or its idle deadline, then drains.
            patience = settings.idle_timeout + settings.drain_timeout + QUIT_SECONDS
            self._dismiss(worker, signal.SIGHUP, patience)
        for worker in candidates:
            worker.role = Role.CREW
        logger.info("{} workers serve", len(candidates))
        if not self._serving:
            self._serving = True
            self._readiness.ready()

    def _abandon(self, reason: str) -> None:
        """Give up on the candidates: those that were serving go on, or else nobody does."""
        for worker in self._with_role(Role.CANDIDATE):
            self._dismiss(worker, signal.SIGINT, QUIT_SECONDS)
        if self._serving:
            logger.error("the reload failed, the old workers go on: {}", reason)
        else:
            logger.error("the start failed: {}", reason)
            self._failure = reason
            self._stop(signal.SIGINT, QUIT_SECONDS)

    # ---- births and deaths

    def _fork(self, role: Role) -> bool:
        """Fork a worker; tell whether there was room for one more process."""
        ready_fd, report_fd = os.pipe()
        _signal_when_readable(ready_fd)
        try:
            pid = os.fork()
        except OSError as error:
            logger.error("cannot fork: {}", error)
            os.close(ready_fd)
            os.close(report_fd)
            return False
        if pid == 0:
            self._become_worker(ready_fd, report_fd)
        os.close(report_fd)
        now = time.monotonic()
        self._workers[pid] = Worker(pid, ready_fd, role, now, now + START_SECONDS)
        logger.debug("worker {} forked", pid)
        return True

    def _become_worker(self, ready_fd: int, report_fd: int) -> NoReturn:
        """Run the worker in the child; whatever happens, never return into the master's code."""
        status = 1
        try:
            self._let_go(ready_fd)
            # The worker closes its own copy; ours must still be the pipe if it fails after that.
            self._run_worker(self._settings, self._listeners, os.dup(report_fd), self._life_in)
            status = 0
        except BaseException as error:
            logger.exception("the worker failed")
            reason = f"{type(error).__name__}: {error}".encode()
            with suppress(OSError):  # once it was ready, nobody reads this any more
                os.write(report_fd, (FAILED + reason)[:LONGEST])
        finally:
            os._exit(status)  # the exit handlers are the launcher's and the master's

    def _let_go(self, ready_fd: int) -> None:
        """Close what is the master's alone.

        A copy of the lock would outlive the master, and a copy of its life line hide its death.
        """
        self._pidfile.close()
        self._readiness.close()
        for worker in self._workers.values():
            if not worker.ready:
                os.close(worker.ready_fd)
        os.close(ready_fd)
        os.close(self._life_out)
        log.reopen()  # lines are appended through a file of its own, which it can lock
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._actions.keys() - TO_WORKERS)

    def _bury(self, pid: int, status: int) -> None:
        worker = self._workers[pid]
        self._hear_one(worker)  # its last words
        del self._workers[pid]
        if not worker.ready:
            os.close(worker.ready_fd)
        how = f"worker {pid} {_describe(status)}"
        if status or worker.role is not Role.LEAVING:
            logger.error(how)
            self._clean_up()
        else:
            logger.debug(how)
        if worker.role is Role.CANDIDATE:
            self._abandon(worker.reason or f"{how} before it was ready")
        elif worker.role is Role.CREW:
            lived = time.monotonic() - worker.born
            self._set_delay(settled=worker.ready and lived >= SETTLED_SECONDS)

    def _clean_up(self) -> None:
        try:
            self._sweep()
        except OSError as error:
            logger.error("cannot sweep the store: {}", error)

    def _set_delay(self, *, settled: bool) -> None:
        """Decide when a vacancy is filled: at once after an accident, later in a series."""
        now = time.monotonic()
        if settled:
            self._delay = 0.0
        elif now >= self._hire_at:  # workers that die together are one failure
            self._delay = min(max(FIRST_DELAY, 2 * self._delay), LONGEST_DELAY)
            self._hire_at = now + self._delay

    # ---- the clock

    def _vacancies(self) -> int:
        if self._stopping or not self._serving:
            return 0
        return max(0, self._settings.workers - len(self._with_role(Role.CREW)))

    def _fill_vacancies(self) -> None:
        for _ in range(self._vacancies()):
            if time.monotonic() < self._hire_at:
                return
            if not self._fork(Role.CREW):
                self._set_delay(settled=False)

    def _kill_overdue(self) -> None:
        for worker in self._workers.values():
            if time.monotonic() >= worker.kill_at:
                logger.warning("worker {} is killed: it has not kept its deadline", worker.pid)
                worker.reason = f"no worker came up within {START_SECONDS:.0f} s"
                worker.kill_at = inf
                os.kill(worker.pid, signal.SIGKILL)

    def _time_to_next(self) -> float:
        """Return the seconds until something is due."""
        now = time.monotonic()
        due = [now + IDLE_SECONDS, *(worker.kill_at for worker in self._workers.values())]
        if self._vacancies():
            due.append(self._hire_at)
        return max(0.0, min(due) - now)


def _signal_when_readable(descriptor: int) -> None:
    """Make SIGIO come to this process when there is something to read (fcntl(2), O_ASYNC)."""
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_ASYNC | os.O_NONBLOCK)


def _describe(status: int) -> str:
    """Say how a process ended; a negative status is a signal's number."""
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"exited with status {status}"
