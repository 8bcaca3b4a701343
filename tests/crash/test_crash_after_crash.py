"""What was seen after the first crash stays so after a second one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.crash import strace
from tests.crash.operations import post
from tests.crash.stand import Broken, Caller, Stand
from tests.crash.strace import failing, killing
from tests.crash.tally import FAULTS, KILLS, tally
from tests.daemons import until

pytestmark = pytest.mark.crash


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    with closing(Stand(tmp_path, tmp_path / "store", "--workers=2", "--threads=1")) as stand:
        stand.start()
        yield stand


def target_of(stand: Stand, content: bytes) -> str:
    return f"/?file_hash={stand.digest(content)}"


def is_there(stand: Stand, target: str) -> bool:
    with closing(stand.caller()) as caller:
        status = caller.ask("GET", target).status
    assert status in (200, 404)
    return status == 200


def callers(stand: Stand) -> dict[int, Caller]:
    """Return a client of each worker, by the worker's pid."""
    found: dict[int, Caller] = {}
    while len(found) < 2:
        caller = stand.caller()
        assert caller.ask("GET", "/healthz").status == 200
        found.setdefault(worker_of(stand, caller), caller)
    return found


def worker_of(stand: Stand, caller: Caller) -> int:
    """Return the pid of the worker that has accepted a client's connection."""
    ours, theirs = f":{stand.port:04X}", f":{caller.local_port:04X}"
    rows = map(str.split, Path("/proc/net/tcp").read_text().splitlines()[1:])
    (inode,) = {row[9] for row in rows if row[1].endswith(ours) and row[2].endswith(theirs)}
    (pid,) = (pid for pid in stand.workers() if f"socket:[{inode}]" in links(pid))
    return pid


def links(pid: int) -> set[str]:
    """Return what the descriptors of a process are open on."""
    return {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()}


# The calls of a delete, in its thread, from that which removes the file to the last.
@pytest.mark.parametrize("call", ["unlinkat 1", "pwrite64 1", "rmdir 1", "fsync 1", "fsync 2",
                                  "pwrite64 2", "fdatasync 1"])  # fmt: skip
def test_delete_that_was_killed_is_done_or_not_done_for_good(
    call: str, stand: Stand, tmp_path: Path
) -> None:
    """One worker has the content in its journal, the other one is killed as it deletes it."""
    content = b"in a journal"
    name, number = call.split()
    (_, keeper), (killed, deleter) = callers(stand).items()
    post(deleter, "/files/a", b"first")  # which opens the catalog
    post(keeper, "/", content)
    with strace.attached(killed, killing(name, int(number)), log=tmp_path / "trace"):
        with pytest.raises(Broken):
            deleter.ask("DELETE", target_of(stand, content))
        until(lambda: killed not in stand.workers(), "it lives on")
    seen = keeper.ask("GET", target_of(stand, content)).status
    stand.kill()
    stand.start()
    assert is_there(stand, target_of(stand, content)) is (seen == 200)
    tally[KILLS] += 2


@pytest.mark.parametrize("call", ["pwrite64 2", "fdatasync 1"])
def test_delete_that_has_failed_and_is_asked_for_again(
    call: str, stand: Stand, tmp_path: Path
) -> None:
    """What is told to be gone then is gone for good, whatever a journal has."""
    content = b"in a journal"
    name, number = call.split()
    pid, caller = next(iter(callers(stand).items()))
    post(caller, "/files/a", b"first")
    post(caller, "/", content)
    with strace.attached(pid, failing(name, int(number), "EIO"), log=tmp_path / "trace"):
        assert caller.ask("DELETE", target_of(stand, content)).status == 500
    assert caller.ask("DELETE", target_of(stand, content)).status in (200, 404)
    stand.kill()
    stand.start()
    assert not is_there(stand, target_of(stand, content))
    tally[FAULTS] += 1
