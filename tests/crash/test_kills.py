"""Killed at every system call of a commit and of a delete: the worker, and the whole daemon."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.attempt import Attempt, add_witness
from tests.crash.operations import Contents, Operation, operations
from tests.crash.stand import Stand
from tests.crash.strace import killing
from tests.crash.tally import KILLS, tally

pytestmark = pytest.mark.crash

# Every way with one size, and the others where the way of the content itself is another one.
TRIED = [
    *operations("4 KiB"),
    *(each for each in operations("nothing", "70 KiB", "3 MiB") if each.is_new),
]


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    """A daemon of one worker with one thread in its pool: it does one thing after the other."""
    stand = Stand(tmp_path, tmp_path / "store", "--workers=1", "--threads=1")
    try:
        stand.start()
        add_witness(stand)
        yield stand
    finally:
        stand.close()


@pytest.mark.parametrize("operation", TRIED, ids=lambda each: each.title)
def test_killed_at_every_call(operation: Operation, stand: Stand, tmp_path: Path) -> None:
    contents = Contents(operation.title)
    log = tmp_path / "trace"
    for _ in range(2):  # the second shows what is done every time
        untroubled = Attempt(stand, operation, contents.fresh(operation.size))
        untroubled.carry_out(log=log)
        untroubled.check()
    for name, order in sorted({(call.name, call.order) for call in untroubled.own_calls}):
        for everything in (False, True):
            kill(operation, stand, contents, killing(name, order), log, everything=everything)
            tally[KILLS] += 1


def kill(
    operation: Operation,
    stand: Stand,
    contents: Contents,
    where: str,
    log: Path,
    *,
    everything: bool,
) -> None:
    """Carry it out and kill at that call.

    And again where it was not made: now and then a journal is settled meanwhile, or is not.
    """
    for _ in range(5):
        attempt = Attempt(stand, operation, contents.fresh(operation.size))
        if everything:
            os.kill(stand.pid, signal.SIGSTOP)  # or the master would tidy up in between
        attempt.carry_out(where, log=log)
        if everything:
            stand.kill()
            stand.start()
        attempt.check()
        if attempt.answer is None:
            return
    raise AssertionError(f"never came to pass: {where}")
