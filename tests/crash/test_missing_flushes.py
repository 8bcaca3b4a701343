"""What each flush is there for, seen: without it a power cut at the right moment loses something.

Of the others only the order of operations can tell (`test_flushes`): on the file systems here they
come to disk along with a neighbour's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.crash.disk import WITHOUT_LOG, Disk
from tests.crash.flushes import CATALOG, NEEDED
from tests.crash.nursery import Nursery
from tests.crash.operations import Contents, post
from tests.crash.scenes import settled
from tests.crash.stand import Caller, Stand
from tests.crash.tally import CUTS, tally

pytestmark = pytest.mark.crash

# A folder is there already, and only the file is new in it: of all names beginning with "aa".
SMALL, LARGE = (
    next(
        content
        for number in range(10_000)
        if Stand.md5(content := Contents(f"{size} {number}").fresh(size)).startswith("aa")
    )
    for size in (4096, 70 << 10)
)

Act = Callable[[Stand, Caller], tuple[bytes, bool, int]]
"""Does something that is acknowledged; returns a content, whether it is there, and its names."""


def store_large(_: Stand, caller: Caller) -> tuple[bytes, bool, int]:
    post(caller, "/", LARGE)
    return LARGE, True, 0


def store_small(_: Stand, caller: Caller) -> tuple[bytes, bool, int]:
    post(caller, "/", SMALL)
    return SMALL, True, 0


def name(_: Stand, caller: Caller) -> tuple[bytes, bool, int]:
    post(caller, "/files/name", SMALL)
    return SMALL, True, 1


def delete(caller: Caller, content: bytes) -> tuple[bytes, bool, int]:
    assert caller.ask("DELETE", f"/?file_hash={Stand.md5(content)}").status == 200
    return content, False, 0


def delete_large(_: Stand, caller: Caller) -> tuple[bytes, bool, int]:
    post(caller, "/", LARGE)
    return delete(caller, LARGE)


def delete_small(_: Stand, caller: Caller) -> tuple[bytes, bool, int]:
    post(caller, "/", SMALL)
    return delete(caller, SMALL)


def settle(stand: Stand, caller: Caller) -> tuple[bytes, bool, int]:
    with settled(stand):
        post(caller, "/", SMALL)
    return SMALL, True, 0


def settle_and_delete(stand: Stand, caller: Caller) -> tuple[bytes, bool, int]:
    settle(stand, caller)
    return delete(caller, SMALL)


def recover(stand: Stand, caller: Caller) -> tuple[bytes, bool, int]:
    post(caller, "/", SMALL)
    stand.kill()
    (stand.store / "aa" / Stand.md5(SMALL)).unlink()  # a power cut would have lost it
    stand.start()
    return SMALL, True, 0


MISSING: dict[str, Act] = {
    "StagedFile.complete": store_large,
    "LocalStorage._add > Folders.flush_entries > Folders.flush": store_large,
    "LocalStorage.delete > Folders.flush_entries > Folders.flush": delete_large,
    "GroupCommit._commit > Journal.flush": store_small,
    "_Known.void": delete_small,
    "Settling.settle > Settling._flush_all > syncfs": settle,
    "Settling.settle_dead > Settling._flush_all > syncfs": recover,
    "Journal.empty": settle_and_delete,
    CATALOG: name,
}


# On ext4 the flush of the root brings to disk what was to be flushed in the folder.
ONLY_XFS = {
    "LocalStorage._add > Folders.flush_entries > Folders.flush",
    "LocalStorage.delete > Folders.flush_entries > Folders.flush",
}
CASES = [
    (flush, kind) for kind in ("ext4", "xfs") for flush in MISSING
    if kind == "xfs" or flush not in ONLY_XFS
]  # fmt: skip


class Ground:
    """A disk, and a process that daemons are forked from: for one store after the other."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder = folder
        self.disk = Disk(folder, kind)
        self.nursery = Nursery(folder)
        self._count = 0

    def stand(self) -> Stand:
        """Return a stand with a store of its own."""
        self._count += 1
        store = self.disk.path / f"store {self._count}"
        return Stand(self.folder, store, "--workers=1", nursery=self.nursery)

    def close(self) -> None:
        self.nursery.close()
        self.disk.close()


@pytest.fixture(scope="module")
def grounds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Ground]]:
    with ExitStack() as stack:
        found = {}
        for kind in ("ext4", "xfs"):
            found[kind] = Ground(tmp_path_factory.mktemp(kind), kind)
            stack.callback(found[kind].close)
        yield found


@pytest.mark.parametrize(("flush", "kind"), CASES)
def test_power_cut_shows_what_is_missing(flush: str, kind: str, grounds: dict[str, Ground]) -> None:
    assert flush in NEEDED
    act = MISSING[flush]
    assert kept_through_a_cut(act, grounds[kind], without="")
    assert not kept_through_a_cut(act, grounds[kind], without=flush)


def kept_through_a_cut(act: Act, ground: Ground, without: str) -> bool:
    """Do it, cut the power at once, and tell whether what was acknowledged is so."""
    stand = ground.stand()
    try:
        prepare(stand)
        stand.without = without
        stand.start()
        with closing(stand.caller()) as caller:
            content, is_there, names = act(stand, caller)
        ground.disk.cut(WITHOUT_LOG)
        tally[CUTS] += 1
        stand.kill()
        ground.disk.unmount()
        ground.disk.mount()
        stand.without = ""
        stand.start()
        return is_found(stand, content, is_there=is_there, names=names)
    finally:
        stand.kill()


def prepare(stand: Stand) -> None:
    """Have the folder, the catalog and all else on disk."""
    stand.start()
    with closing(stand.caller()) as caller:
        post(caller, "/files/first", b"first")
    (stand.store / "aa").mkdir()
    (stand.store / "aa" / "keeps the folder").touch()
    stand.kill()
    stand.flush()


def is_found(stand: Stand, content: bytes, *, is_there: bool, names: int) -> bool:
    """Tell whether a content is there, with so many names, or not there."""
    with closing(stand.caller()) as caller:
        answer = caller.ask("GET", f"/?file_hash={Stand.md5(content)}")
    found = len(stand.names().get(Stand.md5(content), ()))
    return answer == (200, content) and found == names if is_there else answer.status == 404
