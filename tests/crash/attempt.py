"""One operation in which something goes wrong, and everything that must hold afterwards."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from tests.crash import strace
from tests.crash.operations import Contents, Operation, clear, post
from tests.crash.order import Step, journaled, steps_of
from tests.crash.stand import Answer, Broken, Stand
from tests.crash.tally import ANSWERS, tally
from tests.daemons import until

WITNESS = b"is there throughout"


def add_witness(stand: Stand) -> None:
    """Store what has to be there after every attempt, at both doors."""
    with closing(stand.caller()) as caller:
        post(caller, "/", WITNESS)
        post(caller, "/files/witness", WITNESS)


def only_worker(stand: Stand) -> int:
    """Return the pid of the one worker, when there is one."""
    (worker,) = until(stand.workers, "there is no worker")
    return worker


class Attempt:
    """An operation, ready to be carried out on a stand of one worker."""

    def __init__(self, stand: Stand, operation: Operation, content: bytes) -> None:
        """Bring the stand into the state that the operation needs.

        The calls of a count of the store would be among those of the operation, each of which has
        its number.
        """
        self._stand = stand
        stand.wait_for_census()
        self._operation = operation
        with closing(stand.caller()) as caller:
            clear(stand, caller, content)
            self.ready = operation.get_ready(stand, caller, content)
        self.worker = only_worker(stand)
        self.answer: Answer | None = None
        self.trace: list[strace.Call] = []

    def carry_out(self, *options: str, log: Path) -> None:
        """Do it under strace with these options; there is no answer if the worker dies of it."""
        with closing(self._stand.caller()) as caller:
            with strace.attached(self.worker, *options, log=log):
                try:
                    self.answer = self.ready.ask(caller)
                    strace.wait_for_answers(log, 1, by=self.worker)
                except Broken:
                    until(lambda: self.worker not in self._stand.workers(), "it lives on")
        self.trace = strace.read(log)

    @property
    def own_calls(self) -> list[strace.Call]:
        """The calls of the operation: of the loop and the pool's thread, without lines of the log.

        A third thread may settle a journal meanwhile. And the line of the request before is written
        after its answer, so on a busy machine perhaps not before this one begins.
        """
        calls = [call for call in self.trace if not strace.is_log_line(call)]
        own = {call.thread for call in calls if strace.is_answer(call) or strace.is_event(call)}
        return [call for call in calls if call.thread in own]

    @property
    def steps(self) -> list[Step]:
        """What was done, in the words of the store; before it all, what a journal had already."""
        digests = [self._stand.digest(WITNESS)]
        if self.ready.before[0]:
            digests.append(self.ready.digest)
        before = [step for digest in digests for step in journaled(digest)]
        return [*before, *steps_of(self.trace, self._stand.store)]

    @property
    def acknowledged(self) -> bool:
        """Tell whether the client was told that it is done."""
        return self.answer is not None and self.answer.status == self.ready.status

    def check(self, *, may_leave: bool = False) -> None:
        """See what is there now, and that all goes on from there.

        `may_leave`: a staged file that could not be removed is left to be swept.
        """
        if not may_leave:  # a master that has lost its worker may be about to sweep
            until(lambda: not self._stand.staged(), "something stays staged")
        self._stand.repair(*["abandoned"] * may_leave)
        before, after = map(_seen, (self.ready.before, self.ready.after))
        assert self._state() in ([after] if self.acknowledged else [before, after])
        tally[ANSWERS] += self.acknowledged
        with closing(self._stand.caller()) as caller:  # whoever was told of no success asks again
            status = self.ready.ask(caller).status
        assert status == self.ready.status or (status == 404 and self._operation.deletes)
        self._clear_up()

    def _clear_up(self) -> None:
        """Delete the content; nothing that was said of it before may count any more."""
        with closing(self._stand.caller()) as caller:
            clear(self._stand, caller, self.ready.content)
            file_id = post(caller, "/files/again", self.ready.content).text
            assert caller.ask("DELETE", f"/files/{file_id}/").status == 200
        assert self._state() == (False, 0)

    def _state(self) -> tuple[bool, int]:
        """Return whether the content is there, and how many names it has."""
        witness = self._stand.digest(WITNESS)
        found = self._stand.find({witness: WITNESS, self.ready.digest: self.ready.content})
        assert found[witness].is_there
        assert len(found[witness].ids) == 1
        return found[self.ready.digest].is_there, len(found[self.ready.digest].ids)


def go_through(stand: Stand, operation: Operation, contents: Contents, log: Path) -> Attempt:
    """Carry an operation out with nothing in its way; return what is done every time."""
    for _ in range(2):  # the first may open what stays open
        attempt = Attempt(stand, operation, contents.fresh(operation.size))
        attempt.carry_out(log=log)
        attempt.check()
    return attempt


def _seen(state: tuple[bool, int]) -> tuple[bool, int]:
    by_hash, names = state
    return by_hash or names > 0, names
