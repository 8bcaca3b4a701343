"""Killed at every system call of a commit and of a delete: the worker, and the whole daemon."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.crash.attempt import Attempt, go_through
from tests.crash.operations import TRIED, Contents, Operation
from tests.crash.stand import Stand
from tests.crash.strace import killing
from tests.crash.tally import KILLS, tally

pytestmark = pytest.mark.crash


@pytest.mark.parametrize("operation", TRIED, ids=lambda each: each.title)
def test_killed_at_every_call(operation: Operation, lone: Stand, tmp_path: Path) -> None:
    contents = Contents(operation.title)
    log = tmp_path / "trace"
    untroubled = go_through(lone, operation, contents, log)
    for name, order in sorted({(call.name, call.order) for call in untroubled.own_calls}):
        for everything in (False, True):
            kill(operation, lone, contents, killing(name, order), log, everything=everything)
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
