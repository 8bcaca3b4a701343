"""The master: forks the workers, keeps their number, and acts on signals, orders and deaths."""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from math import inf

from loguru import logger

from httpd import log, metrics
from httpd.process.claim import Claim
from httpd.process.crew import (
    QUIT_SECONDS,
    START_SECONDS,
    BackOff,
    Crew,
    Post,
    Role,
    Workers,
    describe,
)
from httpd.process.listeners import url
from httpd.process.notify import Notifier
from httpd.process.orders import Conversation, Message
from httpd.process.readiness import Readiness
from httpd.process.reception import Reception
from httpd.process.renewal import NOBODY, Rehearsal, Succession, become
from httpd.process.watchdog import Watchdog

SETTLED_SECONDS = 1.0  # one that has served for so long did not die of how it was started
IDLE_SECONDS = 3600.0  # the longest sleep where nothing is due
REHEARSAL_SECONDS = 5.0  # beyond what its worker is given: to load the code, and to leave

BUSY = "another start, reload or stop is under way"


class Master:
    """Keeps `settings.workers` workers serving until it is told to stop.

    Signals stay blocked and are taken one at a time by sigtimedwait(2), which is also the clock.
    So nothing ever interrupts the master: there are no handlers, no reentrancy, no lost wake-up.
    Even pipes and sockets speak by a signal (O_ASYNC makes a readable one send SIGIO, fcntl(2)).
    """

    def __init__(
        self,
        claim: Claim,
        readiness: Readiness,
        workers: Workers,
        sweep: Callable[[], object],
        notifier: Notifier,
        succession: Succession | None = None,
    ) -> None:
        """Take what the workers need; `sweep` removes what a dead one has left in the store."""
        self._claim = claim
        self._settings = claim.settings
        self._readiness = readiness
        self._workers = workers
        self._sweep = sweep
        self._notifier = notifier
        self._actions: dict[int, Callable[[], None]] = {
            signal.SIGTERM: self._drain,
            signal.SIGINT: self._quit,
            signal.SIGQUIT: self._quit,
            signal.SIGHUP: self._reload,
            signal.SIGUSR1: self._reopen_logs,
            signal.SIGCHLD: self._reap,
            signal.SIGIO: self._hear,
        }
        left = succession
        self._crew = Crew(left.life, left.heartbeats, left.workers) if left else Crew()
        self._reception = Reception(claim, left.asker if left else NOBODY)
        self._rehearsal: Rehearsal | None = None
        self._serving = succession is not None
        self._stopping = False
        self._failure: str | None = None
        self._hiring = BackOff()
        self._watchdog = Watchdog(notifier)

    def run(self) -> str | None:
        """Serve until told to stop and the last worker is gone; return why it did not start."""
        signal.pthread_sigmask(signal.SIG_BLOCK, self._actions)
        for number in self._actions:
            signal.signal(number, signal.SIG_DFL)  # a shell or nohup may have had some ignored
        self._reception.open()
        if self._claim.ours:
            self._claim.pidfile.write(os.getpid())
        gc.freeze()  # the collector would write to every page that the workers share
        self._reap()  # whoever died while nobody looked
        self._fork_candidates()
        self._hear()  # nor did anybody listen
        while self._waits_for_others or not self._stopping:
            self._turn()
        # What a stop has cut off is nobody's any more; after each death before that, see _bury.
        self._clean_up()
        return self._failure

    def _turn(self) -> None:
        asked = self._next_deadline()
        taken = signal.sigtimedwait(self._actions, max(0.0, asked - time.monotonic()))
        self._crew.awake(asked)
        if taken is not None:
            self._actions[taken.si_signo]()
        self._crew.kill_overdue(self._settings.stall_timeout)
        if self._rehearsal:
            self._rehearsal.kill_overdue()
        self._fill_vacancies()
        self._watchdog.look(self._crew, self._settings.stall_timeout, leaving=self._stopping)

    @property
    def _waits_for_others(self) -> bool:
        """Tell whether processes of this daemon are still here, other masters counted in."""
        predecessors = self._claim.predecessors if self._serving else ()
        return bool(self._crew or self._rehearsal or predecessors)

    @property
    def _busy(self) -> bool:
        under_way = self._rehearsal or self._reception.heir or self._crew.of(Role.CANDIDATE)
        return bool(self._stopping or under_way or not self._serving)

    # ---- the signals

    def _drain(self) -> None:
        """Let the requests under way be finished; a second signal is from somebody in a hurry."""
        if self._stopping and self._claim.ours:
            self._quit()
        else:
            logger.info("stopping when the requests under way are finished")
            self._notifier.stopping("stopping when the requests under way are finished")
            self._stop(signal.SIGTERM, self._settings.drain_timeout + QUIT_SECONDS)

    def _quit(self) -> None:
        logger.info("stopping at once")
        self._notifier.stopping("stopping at once")
        self._stop(signal.SIGINT, QUIT_SECONDS)

    def _stop(self, number: int, patience: float) -> None:
        self._stopping = True
        if not self._serving:
            self._failure = self._failure or "stopped before it was ready"
            patience = QUIT_SECONDS  # there is nothing under way
        if self._serving:  # one that has not taken over yet speaks for itself alone
            for predecessor in self._claim.predecessors:
                predecessor.tell({"stop": number})
        if self._reception.heir and self._claim.ours:
            self._reception.heir.tell({"stop": number})
        if self._rehearsal:
            self._rehearsal.dismiss(REHEARSAL_SECONDS)
        for listener in self._claim.listeners:
            # Connections would be let in, and wait for ever, while one copy is open anywhere.
            listener.close()
        for worker in self._crew:
            self._crew.dismiss(worker, number, patience)

    def _reopen_logs(self) -> None:
        log.reopen()
        logger.info("log files reopened")
        for worker in self._crew:
            os.kill(worker.pid, signal.SIGUSR1)

    def _hear(self) -> None:
        """Look at everything that may have something to say: one signal may stand for several."""
        for worker in self._crew:
            if self._crew.hear(worker):
                self._promote()
        for speaker, said in self._reception.hear():
            self._obey(speaker, said)

    # ---- the orders

    def _obey(self, speaker: Conversation, said: Message | None) -> None:
        """Act on what is said; None: the speaker has left."""
        if speaker is self._reception.heir or speaker in self._claim.predecessors:
            self._agree(speaker, said)
        elif said is None:
            return
        elif self._busy:
            speaker.tell({"failed": BUSY})
        elif said.get("order") == "reload":
            self._reception.asker = speaker
            self._renew(said.get("flags"))
        elif said.get("order") == "hand over" and self._claim.detached:
            self._reception.hand_over(speaker, {"flags": self._settings.flags(elsewhere=True)})
        else:
            speaker.tell({"failed": "it runs in the foreground", "foreground": True})

    def _agree(self, other: Conversation, said: Message | None) -> None:
        """Act on what the master says that takes over from us, or that we take over from."""
        if said is not None and "stop" in said:
            self._stop_with(said["stop"])
        elif other in self._claim.predecessors:
            self._claim.predecessors.remove(other)
        elif said is None:
            self._miss_heir()
        elif "serves" in said:
            logger.info("pid {} has taken over: leaving", said["serves"])
            self._claim.retire(keeps_socket=bool(said.get("inherited")))
            self._stopping = True
            for worker in self._crew:
                self._crew.dismiss(worker, signal.SIGHUP, inf)

    def _miss_heir(self) -> None:
        self._reception.heir = None
        if not self._claim.ours:
            self._stop_with(signal.SIGTERM)  # whoever ends the daemon means us as well
        elif not self._stopping:
            logger.error("the restart failed, this daemon goes on")
            self._reception.open()

    def _stop_with(self, number: int) -> None:
        """Stop because the other master of the daemon does."""
        patience = 0.0 if number == signal.SIGINT else self._settings.drain_timeout
        self._stop(number, patience + QUIT_SECONDS)

    # ---- the generations

    def _reload(self) -> None:
        self._renew(None)

    def _renew(self, flags: list[str] | None) -> None:
        """Begin a reload: see whether the code that is there now would work."""
        if self._busy:
            logger.warning("no reload: {}", BUSY)
            return
        logger.info("reloading: trying the code that is there now")
        self._notifier.reloading()
        patience = START_SECONDS + REHEARSAL_SECONDS
        flags = self._settings.flags(elsewhere=True) if flags is None else flags
        try:
            self._rehearsal = Rehearsal(self._claim.program, flags, self._succession(), patience)
        except OSError as error:
            self._give_up(f"{self._claim.program[0]}: {error.strerror or error}")

    def _succession(self) -> Succession:
        claim, crew, asker = self._claim, self._crew, self._reception.asker
        return Succession(
            listeners=[listener.fileno() for listener in claim.listeners],
            lent=claim.lent,
            detached=claim.detached,
            pidfile=claim.pidfile.fileno(),
            orders=claim.orders.fileno() if claim.orders else NOBODY,
            life=[crew.life_in, crew.life_out],
            heartbeats=crew.heartbeats.fileno(),
            board=metrics.descriptor(),
            tally=self._workers.shared,
            workers=[worker.kept() for worker in crew],
            predecessors=[predecessor.fileno() for predecessor in claim.predecessors],
            asker=asker.fileno() if asker else NOBODY,
        )

    def _rehearsed(self, rehearsal: Rehearsal, how: str) -> None:
        """Become the new code if it works."""
        self._rehearsal = None
        reason = rehearsal.failure(how)
        if self._stopping:
            return
        if reason is None:
            logger.info("reloading: pid {} becomes a new master", os.getpid())
            try:
                become(self._claim.program, rehearsal.flags, self._succession())
            except OSError as error:
                reason = f"{self._claim.program[0]}: {error.strerror or error}"
        self._give_up(reason or "")

    def _fork_candidates(self) -> None:
        for _ in range(self._settings.workers):
            if not self._fork(Role.CANDIDATE):
                self._abandon("no process can be made for a worker")
                return

    def _promote(self) -> None:
        """Let the candidates take over once all of them are ready."""
        candidates = self._crew.of(Role.CANDIDATE)
        if not candidates or not all(worker.ready for worker in candidates):
            return
        for worker in self._crew.of(Role.CREW):
            # It keeps a connection until its next response or its idle deadline. What is under way
            # is finished however long it takes, by the pace that a client must keep (see Pace).
            self._crew.dismiss(worker, signal.SIGHUP, inf)
        for worker in candidates:
            worker.role = Role.CREW
        logger.info("{} workers serve", len(candidates))
        if not self._serving:
            self._take_over()
        self._reception.answer({"ready": os.getpid()})
        self._notifier.ready(self._state())

    def _take_over(self) -> None:
        """Serve for the first time."""
        self._serving = True
        claim = self._claim
        if not claim.ours:
            claim.ours = True
            claim.pidfile.write(os.getpid())
            self._reception.open()
            claim.predecessors[0].tell({"serves": os.getpid(), "inherited": claim.inherited})
        self._readiness.ready()

    def _abandon(self, reason: str) -> None:
        """Give up on the candidates: those that were serving go on, or else nobody does."""
        for worker in self._crew.of(Role.CANDIDATE):
            self._crew.dismiss(worker, signal.SIGINT, QUIT_SECONDS)
        if self._serving:
            self._give_up(reason)
        else:
            logger.error("the start failed: {}", reason)
            self._failure = reason
            self._stop(signal.SIGINT, QUIT_SECONDS)

    def _give_up(self, reason: str) -> None:
        """Tell everybody that a reload has failed."""
        logger.error("the reload failed, the old workers go on: {}", reason)
        self._reception.answer({"failed": reason})
        self._notifier.ready(f"{self._state()}; the last reload failed: {reason}")

    def _state(self) -> str:
        """Return in one line what the daemon does."""
        count = self._settings.workers
        workers = f"{count} worker{'s' if count > 1 else ''}"
        return f"serving on {url(self._settings)} with {workers}, store {self._settings.store}"

    # ---- births and deaths

    def _fork(self, role: Role) -> bool:
        claim = self._claim
        post = partial(Post, self._settings, claim.listeners, claim.lent)
        return self._crew.hire(role, self._workers.run, post, self._let_go)

    def _let_go(self) -> None:
        """Close what is the master's alone: a copy of the lock would outlive it."""
        self._claim.let_go()
        self._readiness.close()
        self._reception.let_go()

    def _reap(self) -> None:
        """Take note of every child that has ended: one signal may stand for several."""
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                how = describe(os.waitstatus_to_exitcode(status))
                if self._rehearsal and pid == self._rehearsal.pid:
                    self._rehearsed(self._rehearsal, f"the new code {how}")
                elif pid in self._crew.workers:
                    self._bury(pid, how, failed=bool(status))

    def _bury(self, pid: int, how: str, *, failed: bool) -> None:
        worker = self._crew.workers[pid]
        if self._crew.hear(worker):  # its last words
            self._promote()
        self._crew.bury(pid)
        how = f"worker {pid} {how}"
        if failed or worker.role is not Role.LEAVING:
            logger.error(how)
            self._clean_up()
        else:
            logger.debug(how)
        if worker.role is Role.CANDIDATE:
            self._abandon(worker.reason or f"{how} before it was ready")
        elif worker.role is Role.CREW:
            metrics.add(metrics.WORKER_RESTARTS)
            lived = time.monotonic() - worker.born
            self._hiring.note(settled=worker.ready and lived >= SETTLED_SECONDS)

    def _clean_up(self) -> None:
        try:
            self._sweep()
        except OSError as error:
            logger.error("cannot sweep the store: {}", error)

    # ---- the clock

    def _vacancies(self) -> int:
        if self._stopping or not self._serving:
            return 0
        return max(0, self._settings.workers - len(self._crew.of(Role.CREW)))

    def _fill_vacancies(self) -> None:
        for _ in range(self._vacancies()):
            if time.monotonic() < self._hiring.until:
                return
            if not self._fork(Role.CREW):
                self._hiring.note(settled=False)

    def _next_deadline(self) -> float:
        """Return when something is due, on the monotonic clock."""
        due = [time.monotonic() + IDLE_SECONDS, self._watchdog.due]
        due.append(self._crew.next_deadline(self._settings.stall_timeout))
        if self._rehearsal:
            due.append(self._rehearsal.kill_at)
        if self._vacancies():
            due.append(self._hiring.until)
        return min(due)
