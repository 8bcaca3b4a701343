"""Killed at every system call of a commit and of a delete: the worker, and the whole daemon."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest

from tests.crash import strace
from tests.crash.operations import Contents, Operation, Ready, clear, operations, post
from tests.crash.stand import Broken, Stand
from tests.crash.strace import killing
from tests.crash.tally import ANSWERS, KILLS, tally
from tests.daemons import until

pytestmark = pytest.mark.crash

# One of each way of a content; the ways of naming and deleting are the same for all of them.
TRIED = [
    *operations("4 KiB"),
    *(
        operation
        for operation in operations("nothing", "70 KiB", "3 MiB")
        if operation.title.startswith(("store by hash,", "store by id,"))
    ),
]
WITNESS = b"is there throughout"


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """A daemon of one worker with one thread in its pool: it does one thing after the other."""
    folder = tmp_path_factory.mktemp("kills")
    stand = Stand(folder, folder / "store", "--workers=1", "--threads=1")
    try:
        stand.start()
        with closing(stand.caller()) as caller:
            post(caller, "/", WITNESS)
            post(caller, "/files/witness", WITNESS)
        yield stand
    finally:
        stand.close()


def kill_worker(stand: Stand, carry_out: Callable[[], None]) -> None:
    """Have one worker killed in the middle; the master starts another."""
    carry_out()


def kill_daemon(stand: Stand, carry_out: Callable[[], None]) -> None:
    """Have all processes killed in the same moment, and start the daemon anew."""
    os.kill(stand.pid, signal.SIGSTOP)  # or it would tidy up in between
    carry_out()
    stand.kill()
    stand.start()


@pytest.mark.parametrize("operation", TRIED, ids=lambda each: each.title)
def test_killed_at_every_call(operation: Operation, stand: Stand, tmp_path: Path) -> None:
    contents = Contents(operation.title)
    for name in calls_of(operation, stand, contents, tmp_path / "trace"):
        for number in count(1):
            kills = [
                killed(operation, stand, contents.fresh(operation.size), killing(name, number), how)
                for how in (kill_worker, kill_daemon)
            ]
            tally[KILLS] += sum(kills)
            if not any(kills):
                break
            # Of two threads the one that is faster is killed; else it would be the same for both.


def calls_of(operation: Operation, stand: Stand, contents: Contents, log: Path) -> list[str]:
    """Return the names of the system calls that an operation makes."""
    with closing(stand.caller()) as caller:
        ready = make_ready(operation, stand, contents.fresh(operation.size))
        with strace.attached(only_worker(stand), log=log):
            assert ready.ask(caller).status == ready.status
    clear_up(stand, ready)
    return sorted({call.name for call in strace.read(log)})


def make_ready(operation: Operation, stand: Stand, content: bytes) -> Ready:
    with closing(stand.caller()) as caller:
        clear(stand, caller, content)
        return operation.get_ready(stand, caller, content)


def only_worker(stand: Stand) -> int:
    (worker,) = until(stand.workers, "there is no worker")
    return worker


def killed(
    operation: Operation,
    stand: Stand,
    content: bytes,
    kill: str,
    how: Callable[[Stand, Callable[[], None]], None],
) -> bool:
    """Carry an operation out and kill meanwhile; tell whether it was killed, or went through."""
    ready = make_ready(operation, stand, content)
    worker, answers = only_worker(stand), []

    def carry_out() -> None:
        with closing(stand.caller()) as caller:
            with strace.attached(worker, kill, log=Path("/dev/null")):
                try:
                    answers.append(ready.ask(caller).status)
                except Broken:
                    until(lambda: worker not in stand.workers(), "it lives")

    how(stand, carry_out)
    assert answers in ([], [ready.status])
    check(stand, ready, [ready.after] if answers else [ready.before, ready.after])
    clear_up(stand, ready)
    return not answers


def check(stand: Stand, ready: Ready, possible: list[tuple[bool, int]]) -> None:
    """See that a content is in one of these states, and that the daemon goes on from there."""
    stand.repair()
    assert state(stand, ready) in [(by_hash or names > 0, names) for by_hash, names in possible]
    with closing(stand.caller()) as caller:  # whoever got no answer asks again
        answer = ready.ask(caller)
        assert answer.status == ready.status or (answer.status == 404 and "delete" in str(ready))
    tally[ANSWERS] += 1


def state(stand: Stand, ready: Ready) -> tuple[bool, int]:
    """Return whether the content is there, and how many names it has."""
    everything = {stand.digest(WITNESS): WITNESS, ready.digest: ready.content}
    found = stand.find(everything)
    assert found[stand.digest(WITNESS)].is_there
    assert len(found[stand.digest(WITNESS)].ids) == 1
    return found[ready.digest].is_there, len(found[ready.digest].ids)


def clear_up(stand: Stand, ready: Ready) -> None:
    """Delete the content; nothing that was said of it before may count any more."""
    with closing(stand.caller()) as caller:
        clear(stand, caller, ready.content)
        file_id = post(caller, "/files/again", ready.content).text
        assert state(stand, ready) == (True, 1)
        assert caller.ask("DELETE", f"/files/{file_id}/").status == 200
        assert state(stand, ready) == (False, 0)
