"""What can really run out or go away beneath a daemon that runs, and comes back.

Each of the system's calls fails in `test_faults`; here the cause is real, and goes on for a while.
A store that is full or cannot be written to while nothing is flushed is in tests/test_adversity.py,
a catalog by itself in tests/catalog/test_unavailable.py.
"""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path

import pytest

from tests.crash.attempt import only_worker
from tests.crash.clients import KIB, MIB
from tests.crash.disk import WITHOUT_LOG, Disk
from tests.crash.operations import Contents, post
from tests.crash.stand import Caller, Stand
from tests.crash.tally import FAULTS, tally
from tests.daemons import until

pytestmark = pytest.mark.crash

KEPT = b"stored before"
SIZES = (1, 4 * KIB, 60 * KIB, 70 * KIB, 3 * MIB)
DOORS = ("/", "/files/a.txt")


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    """A durable daemon on a file system of its own, of 16 MiB and 400 files."""
    store = tmp_path / "store"
    store.mkdir()
    options = "size=16m,nr_inodes=400,mode=0750"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", store], check=True)
    try:
        with closing(Stand(tmp_path, store, "--workers=1")) as stand:
            stand.start()
            yield stand
    finally:
        subprocess.run(["umount", store], check=True)


@contextmanager
def no_room(stand: Stand) -> Iterator[None]:
    """Take all the room that is left."""
    filler = stand.store / ".filler"
    with suppress(OSError), filler.open("ab", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    yield
    filler.unlink()


@contextmanager
def no_inodes(stand: Stand) -> Iterator[None]:
    """Take all the files that there can be."""
    folder = stand.store / ".filler"
    folder.mkdir()
    with suppress(OSError):
        for number in range(1000):
            (folder / str(number)).touch()
    yield
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


@contextmanager
def read_only(stand: Stand) -> Iterator[None]:
    """Lay the store over itself so that it can be read only, as a disk that has had an error is."""
    subprocess.run(["mount", "--bind", stand.store, stand.store], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", stand.store], check=True)
    yield
    subprocess.run(["umount", stand.store], check=True)


@contextmanager
def no_descriptors(stand: Stand) -> Iterator[None]:
    """Let the worker have no more open files than it has."""
    worker = only_worker(stand)
    before = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    used = len(os.listdir(f"/proc/{worker}/fd"))
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (used, before[1]))
    yield
    resource.prlimit(worker, resource.RLIMIT_NOFILE, before)


Shortage = Callable[[Stand], AbstractContextManager[None]]

# What an upload is told, and whether what is stored can be read meanwhile.
SHORTAGES: dict[str, tuple[Shortage, set[int], bool]] = {
    "no room": (no_room, {507}, True),
    "no inodes": (no_inodes, {507}, True),
    "read-only": (read_only, {500, 503}, True),
    "no descriptors": (no_descriptors, {503}, False),
}


@pytest.mark.parametrize(("shortage", "statuses", "readable"), SHORTAGES.values(), ids=SHORTAGES)
def test_shortage_that_comes_and_goes(
    shortage: Shortage,
    statuses: set[int],
    readable: bool,  # noqa: FBT001 - from the table
    stand: Stand,
) -> None:
    contents = Contents("shortage")
    worker = only_worker(stand)
    with closing(stand.caller()) as caller:
        post(caller, "/files/kept", KEPT)
        digest = post(caller, "/", KEPT).text
        post(caller, "/", b"and so the journal is there")
        with shortage(stand):
            for size in SIZES:
                for door in DOORS:
                    answer = caller.ask("POST", door, contents.fresh(size))
                    assert answer.status in statuses, (door, size, answer)
                    tally[FAULTS] += 1
            assert caller.ask("GET", "/healthz").status == 200
            status = caller.ask("GET", f"/?file_hash={digest}").status
            assert status == (200 if readable else 503)
        until(lambda: not stand.staged(), "something stays staged")
        assert stand.files() == {digest, stand.digest(b"and so the journal is there")}
        assert only_worker(stand) == worker  # nothing had to be restarted
        goes_on(stand, caller, contents)


def goes_on(stand: Stand, caller: Caller, contents: Contents) -> None:
    """See that all is as ever, and that what is acknowledged now survives a crash."""
    stored = [contents.fresh(size) for size in SIZES]
    for content in stored:
        post(caller, "/", content)
    named = {post(caller, "/files/again", content).text: content for content in stored}
    assert stand.repair() <= len(SIZES)  # what came by name, and could not be finished
    stand.kill()
    stand.start()
    with closing(stand.caller()) as caller:
        for content in stored:
            target = f"/?file_hash={stand.digest(content)}"
            assert caller.ask("GET", target) == (200, content)
        for file_id, content in named.items():
            assert caller.ask("GET", f"/files/{file_id}/") == (200, content)


@pytest.mark.parametrize("names", [True, False], ids=["a catalog", "no catalog"])
def test_deleting_makes_room(stand: Stand, *, names: bool) -> None:
    with closing(stand.caller()) as caller:
        if names:
            post(caller, "/files/kept", KEPT)
        digest = post(caller, "/", bytes(6 * MIB)).text
        with no_room(stand):
            assert caller.ask("POST", "/", os.urandom(5 * MIB)).status == 507
            assert caller.ask("DELETE", f"/?file_hash={digest}").status == 200
            post(caller, "/", os.urandom(5 * MIB))
            assert caller.ask("GET", f"/?file_hash={digest}").status == 404
    tally[FAULTS] += 1


def test_deleting_makes_room_where_no_file_can_be_made(stand: Stand) -> None:
    """Not even that of the catalog's locks."""
    with closing(stand.caller()) as caller:
        digest = post(caller, "/", KEPT).text
        with no_inodes(stand):
            assert caller.ask("DELETE", f"/?file_hash={digest}").status == 200
            assert caller.ask("DELETE", f"/?file_hash={digest}").status == 404
            assert stand.files() == set()
    tally[FAULTS] += 1


def test_catalog_that_is_locked_is_waited_for(stand: Stand) -> None:
    """By somebody else, a backup perhaps: names wait, what needs no names goes on."""
    with closing(stand.caller()) as caller, closing(stand.caller()) as other:
        post(caller, "/files/kept", KEPT)
        with closing(sqlite3.connect(stand.store / ".catalog.db")) as holder:
            holder.execute("BEGIN IMMEDIATE")
            with ThreadPoolExecutor(1) as pool:
                named = pool.submit(other.ask, "POST", "/files/b", b"waits")
                for size in SIZES:
                    post(caller, "/", bytes(size))
                assert not named.done()
                holder.rollback()
                assert named.result().status == 201
    tally[FAULTS] += 1


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_catalog_that_is_gone(kind: str, tmp_path: Path) -> None:
    """The disk of the catalog fails: who needs no names does not notice."""
    disk = Disk(tmp_path, kind)
    url = f"--database-url=sqlite:///{disk.path}/names.db"
    contents = Contents(kind)
    try:
        with closing(Stand(tmp_path, tmp_path / "store", "--workers=1", url)) as stand:
            stand.start()
            with closing(stand.caller()) as caller:
                file_id = post(caller, "/files/kept", KEPT).text
                disk.cut(WITHOUT_LOG)
                for size in SIZES:
                    post(caller, "/", contents.fresh(size))
                    assert caller.ask("POST", "/files/b", contents.fresh(size)).status == 503
                assert caller.ask("DELETE", f"/files/{file_id}/").status == 503
                stored = stand.files()
            until(lambda: not stand.staged(), "something stays staged")
            stand.kill()
            disk.unmount()
            disk.mount()
            stand.start()
            with closing(stand.caller()) as caller:
                assert caller.ask("GET", f"/files/{file_id}/") == (200, KEPT)
                assert stand.files() == stored
                assert len(stored) == len(SIZES) + 1
    finally:
        disk.close()
    tally[FAULTS] += 1
