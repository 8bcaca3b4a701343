"""Killed at every system call of a commit and of a delete: the worker, and the whole daemon."""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from pathlib import Path

import pytest

from tests.crash.attempt import Attempt, go_through
from tests.crash.operations import TRIED, Contents, Operation
from tests.crash.stand import Stand
from tests.crash.strace import is_answer, killing, kind_of
from tests.crash.tally import KILLS, tally

pytestmark = pytest.mark.crash


@pytest.mark.parametrize("operation", TRIED, ids=lambda each: each.title)
def test_killed_at_every_call(operation: Operation, lone: Stand, tmp_path: Path) -> None:
    contents = Contents(operation.title)
    log = tmp_path / "trace"
    untroubled = go_through(lone, operation, contents, log)
    killed, missed = set(), set()
    for (name, order), kinds in kinds_of(untroubled, lone).items():
        for everything in (False, True):
            where = killing(name, order)
            comes_to_pass = kill(operation, lone, contents, where, log, everything=everything)
            for kind in kinds:
                (killed if comes_to_pass else missed).add((kind, everything))
            tally[KILLS] += comes_to_pass
    assert missed <= killed


def kinds_of(attempt: Attempt, stand: Stand) -> dict[tuple[str, int], set[str]]:
    """Return the calls of an attempt up to its answer, name and order, and of what kinds they are.

    What comes after is no part of it; and a worker that dies while strace is told to let go of it
    may never end.
    """
    found = defaultdict(set)
    for call in attempt.own_calls:
        found[call.name, call.order].add(kind_of(call.name, call.arguments, stand.store))
        if is_answer(call):
            break
    return dict(found)


def kill(
    operation: Operation,
    stand: Stand,
    contents: Contents,
    where: str,
    log: Path,
    *,
    everything: bool,
) -> bool:
    """Carry it out and kill at that call; false if it is never made.

    Again where it was not made: now and then a journal is settled meanwhile, or is not.
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
            return True
    return False
