"""What a daemon does beside its requests, traced: scenes, each on a store of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.crash import strace
from tests.crash.attempt import Attempt, only_worker
from tests.crash.operations import Contents, Operation, operations, post
from tests.crash.order import Step, journaled, steps_of
from tests.crash.stand import Stand
from tests.daemons import until

CONTENT = bytes(4096)


class Scene(NamedTuple):
    """A scene by its title: plays on a stand that has not been started; what was done is in a log.

    `needed`: steps that have to be among those.
    """

    title: str
    play: Callable[[Stand, Path], None]
    needed: tuple[str, ...]
    is_journaled: bool = False  # CONTENT, before the log begins

    def steps(self, stand: Stand, log: Path) -> list[Step]:
        """Play it, and return what was done."""
        self.play(stand, log)
        before = journaled(stand.digest(CONTENT)) if self.is_journaled else []
        return [*before, *steps_of(strace.read(log), stand.store)]


def _of_operation(operation: Operation) -> Scene:
    def play(stand: Stand, log: Path) -> None:
        stand.start()
        with closing(stand.caller()) as caller:
            post(caller, "/files/first", b"first")  # which makes the catalog
            post(caller, "/", b"also first")  # which makes the journal
        content = Contents(operation.title).fresh(operation.size)
        attempt = Attempt(stand, operation, content)
        attempt.carry_out(log=log)
        assert attempt.acknowledged

    return Scene(operation.title, play, operation.needed)


def _store(stand: Stand, content: bytes = CONTENT) -> str:
    with closing(stand.caller()) as caller:
        return post(caller, "/", content).text


def _path(stand: Stand, digest: str) -> Path:
    return stand.store / digest[:2] / digest


def _make_store(stand: Stand, log: Path) -> None:
    with strace.attached(stand.nursery.pid, log=log):
        stand.start()
        _store(stand, bytes(70 << 10))
        strace.wait_for_answers(log, 1)


def _make_store_by_import(stand: Stand, log: Path) -> None:
    older, digest = stand.store.parent / "older", stand.digest(CONTENT)
    (older / digest[:2]).mkdir(parents=True)
    (older / digest[:2] / digest).write_bytes(CONTENT)
    with strace.attached(stand.nursery.pid, log=log):
        stand.import_store(older)


def _make_journal(stand: Stand, log: Path) -> None:
    stand.start()
    with strace.attached(only_worker(stand), log=log):
        _store(stand)
        strace.wait_for_answers(log, 1)


def _settle(stand: Stand, log: Path, *options: str) -> None:
    stand.start()
    _store(stand)
    (journal,) = (stand.store / ".journal").iterdir()
    with strace.attached(only_worker(stand), *options, log=log):
        before = _head(journal)
        until(lambda: _head(journal) != before, "it is not settled")
        _store(stand, b"and used again")
        strace.wait_for_answers(log, 1)


@contextmanager
def settled(stand: Stand) -> Iterator[None]:
    """Store something in the body; its journal, the only one, has been settled at the end."""
    yield
    folder = stand.store / ".journal"
    before = [_head(journal) for journal in folder.iterdir()]
    until(lambda: [_head(journal) for journal in folder.iterdir()] != before, "it is not settled")


def _head(journal: Path) -> bytes:
    with journal.open("rb") as file:
        return file.read(64)


def _settle_again(stand: Stand, log: Path) -> None:
    _settle(stand, log, strace.failing("syncfs", 1, "EIO"))


def _recover(stand: Stand, log: Path) -> None:
    stand.start()
    digest = _store(stand)
    stand.kill()
    _path(stand, digest).unlink()  # a power cut would have lost it
    with strace.attached(stand.nursery.pid, log=log):
        stand.start()
    assert _path(stand, digest).read_bytes() == CONTENT


def _bury(stand: Stand, log: Path) -> None:
    stand.start()
    _store(stand)
    (journal,) = (stand.store / ".journal").iterdir()
    with strace.attached(stand.pid, log=log):
        os.kill(only_worker(stand), signal.SIGKILL)
        until(lambda: not journal.exists(), "the master does not settle it")


def _stop(stand: Stand, log: Path) -> None:
    stand.start()
    _store(stand)
    worker = only_worker(stand)
    with strace.attached(worker, log=log):
        os.kill(stand.pid, signal.SIGTERM)
        until(lambda: not list((stand.store / ".journal").iterdir()), "it is not settled")


def _delete_journaled(stand: Stand, log: Path) -> None:
    stand.start()
    worker = only_worker(stand)
    with strace.attached(worker, log=log), closing(stand.caller()) as caller:
        while not any(step.word == "void" for step in steps_of(strace.read(log), stand.store)):
            digest = post(caller, "/", CONTENT).text  # again, where it was settled meanwhile
            assert caller.ask("DELETE", f"/?file_hash={digest}").status == 200


def _damage(stand: Stand) -> str:
    stand.start()
    digest = _store(stand)
    _path(stand, digest).write_bytes(b"damaged")
    return digest


def _find_damaged(stand: Stand, log: Path) -> None:
    _damage(stand)
    with strace.attached(stand.nursery.pid, log=log):
        faults = stand.verify("--repair")
    assert [fault["kind"] for fault in faults] == ["damaged", "quarantined"]


def _delete_damaged(stand: Stand, log: Path) -> None:
    digest = _damage(stand)
    assert stand.verify("--repair")
    with strace.attached(only_worker(stand), log=log), closing(stand.caller()) as caller:
        assert caller.ask("DELETE", f"/?file_hash={digest}").status == 200
        strace.wait_for_answers(log, 1)


def _heal(stand: Stand, log: Path) -> None:
    _damage(stand)
    assert stand.verify("--repair")
    with strace.attached(only_worker(stand), log=log):
        _store(stand)
        strace.wait_for_answers(log, 1)


def _find_empty(stand: Stand, log: Path) -> None:
    stand.start()
    folder = stand.store / "aa"
    folder.mkdir()
    os.utime(folder, (0, 0))
    with strace.attached(stand.nursery.pid, log=log):
        (fault,) = stand.verify("--repair")
    assert fault["kind"] == "empty"


def _interrupt(stand: Stand, log: Path) -> None:
    stand.start()
    _store(stand, b"a")
    _store(stand, b"b")
    with strace.attached(stand.nursery.pid, log=log):
        stand.interrupt_verify("--rate=1")
    assert (stand.store / ".verify").stat().st_size


SCENES = {
    scene.title: scene
    for scene in (
        *map(_of_operation, operations("4 KiB", "70 KiB")),
        Scene("a store is made", _make_store, ("make store", "flush parent", "answer")),
        Scene("a store is made by itself", _make_store_by_import,
              ("make store", "flush parent", "report")),
        Scene("the first journal is made", _make_journal,
              ("make journals", "flush root", "make journal", "flush journals", "append")),
        Scene("a journal is settled", _settle,
              ("flush everything", "empty journal", "flush journal", "append", "answer")),
        Scene("a journal is settled in a second attempt", _settle_again,
              ("flush everything", "write content", "name content", "flush blob", "flush folder",
               "flush root", "empty journal", "append", "answer"), is_journaled=True),
        Scene("a journal is recovered", _recover,
              ("write content", "name content", "flush everything", "remove journal", "report"),
              is_journaled=True),
        Scene("a worker is buried", _bury, ("flush everything", "remove journal")),
        Scene("a worker stops", _stop, ("flush everything", "remove journal")),
        Scene("what is in a journal is deleted", _delete_journaled, ("void", "flush journal")),
        Scene("a damaged file is found", _find_damaged,
              ("make quarantine", "quarantine", "flush quarantine", "flush folder", "report")),
        Scene("a damaged file is deleted", _delete_damaged,
              ("drop damaged", "flush quarantine", "flush folder", "flush root", "answer")),
        Scene("a damaged file is healed", _heal,
              ("name content", "drop damaged", "flush quarantine", "answer")),
        Scene("an empty folder is found", _find_empty, ("remove folder", "flush root", "report")),
        Scene("a check is interrupted", _interrupt, ("write content", "flush content")),
    )
}  # fmt: skip
