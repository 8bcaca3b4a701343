"""Every system call on the store fails in turn: a clear answer, nothing lost, nothing left over.

What fails for real is in `test_shortages` and in tests/test_adversity.py; here each single call is
made to fail, whether a disk could choose that moment or not.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from tests.crash.attempt import Attempt, go_through, only_worker
from tests.crash.operations import TRIED, Contents, Operation
from tests.crash.order import broken
from tests.crash.stand import Stand
from tests.crash.strace import Call, failing, injected, kind_of
from tests.crash.tally import FAULTS, tally

pytestmark = pytest.mark.crash

# A fault that is missed so often is let go, if the same kind of call has failed in the same way at
# some other number: see `kind_of`.
TRIES = 3
FULL = ("ENOSPC", "EDQUOT")
# The errors that each call is made to fail with, those of its manual page.
ERRORS = {
    "openat": ("EIO", "EMFILE", "ENOSPC"),
    "write": ("EIO", *FULL),
    "pwrite64": ("EIO", *FULL),
    "pwritev2": ("EIO", *FULL),
    "fallocate": ("EIO", "ENOSPC"),
    "ftruncate": ("EIO",),
    "utimensat": ("EIO",),
    "fsync": ("EIO", *FULL),
    "fdatasync": ("EIO", *FULL),
    "syncfs": ("EIO", *FULL),
    "mkdir": ("EIO", *FULL),
    "renameat": ("EIO", *FULL),
    "rename": ("EIO", *FULL),
    "unlink": ("EIO",),
    "unlinkat": ("EIO",),
    "rmdir": ("EIO",),
}
# What a client is told of each where the storage fails; and where the catalog does. SQLite tells
# of a full disk only where a write says so, of everything else as "disk I/O error".
STORE = {
    "ENOSPC": (507, "the store is full"),
    "EDQUOT": (507, "the store's quota is used up"),
    "EMFILE": (503, "too many files are open; try again"),
    "EIO": (500, "the store failed: Input/output error"),
}
CATALOG = [(503, "the catalog is not available; try again"), (507, "the catalog's disk is full")]


@pytest.mark.parametrize("operation", TRIED, ids=lambda each: each.title)
def test_every_call_fails(operation: Operation, lone: Stand, tmp_path: Path) -> None:
    contents = Contents(operation.title)
    log = tmp_path / "trace"
    untroubled = go_through(lone, operation, contents, log)
    tried, missed = set(), set()
    for (name, order), kinds in calls_on_store(untroubled.own_calls, lone).items():
        for error in ERRORS[name]:
            fault = failing(name, order, error)
            attempt = attempt_with(fault, lone, operation, contents, log)
            if attempt is None:
                missed |= {(error, kind) for kind in kinds}
                continue
            tried |= {(error, kind_of(name, line, lone.store)) for line in injected(log)}
            why = f"{name} {order} {error}: {attempt.answer}\n" + log.read_text()
            assert attempt.answer is not None, why
            if attempt.acknowledged:
                # What failed was not needed: nothing of what makes it durable may be missing.
                ways = [broken(attempt.steps, needed) for needed in operation.alternatives()]
                assert [] in ways, f"{ways}\n{why}"
            else:
                told = attempt.answer.status, attempt.answer.text.rstrip("\n")
                of_catalog = CATALOG if ".catalog.db" in str(injected(log)) else []
                assert told in [STORE[error], *of_catalog], why
            attempt.check(may_leave=name == "unlink")
            assert only_worker(lone) == attempt.worker  # nobody had to be restarted
            tally[FAULTS] += 1
    assert missed <= tried


def attempt_with(
    fault: str, stand: Stand, operation: Operation, contents: Contents, log: Path
) -> Attempt | None:
    """Carry it out with that fault, until it comes to pass; None if it does not.

    A journal that cannot be settled is not used for a while: so a fresh daemon may be needed.
    """
    for _ in range(TRIES):
        attempt = Attempt(stand, operation, contents.fresh(operation.size))
        attempt.carry_out(fault, log=log)
        if injected(log):
            return attempt
        attempt.check()
        stand.kill()
        stand.start()
    return None


def calls_on_store(trace: list[Call], stand: Stand) -> dict[tuple[str, int], set[str]]:
    """Return the calls on the store, and not on a socket or an event: name, order, and the kinds.

    Two threads count for themselves, and either's call may be the one that fails.
    """
    found = defaultdict(set)
    for call in trace:
        if str(stand.store) in call.arguments:
            found[call.name, call.order].add(kind_of(call.name, call.arguments, stand.store))
    return dict(found)
