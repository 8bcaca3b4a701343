"""The lock of a digest, between threads and processes, and what becomes of a holder's death."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from httpd.catalog.catalog import Catalog
from httpd.catalog.engine import SESSION
from httpd.catalog.errors import CatalogUnavailable
from httpd.catalog.locks import FileLocks
from tests.catalog.databases import execute
from tests.catalog.samples import DIGEST, OTHER_DIGEST, PROCESSES, a_file, upload
from tests.daemons import PATIENCE, until

THREADS = 3
ROUNDS = 15


def count_up(url: str, path: Path) -> None:
    """Add to the number in a file in such a way that two at once would lose some."""
    catalog = Catalog.open(url, threads=THREADS)

    def thread(_: int) -> None:
        for _ in range(ROUNDS):
            with catalog.locked(DIGEST):
                number = int(path.read_text())
                time.sleep(0)  # let others run
                path.write_text(str(number + 1))

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(thread, range(THREADS)))
    catalog.close()


def test_one_at_a_time_has_the_lock(
    url: str, tmp_path: Path, processes: ProcessPoolExecutor
) -> None:
    path = tmp_path / "number"
    path.write_text("0")
    started = [processes.submit(count_up, url, path) for _ in range(PROCESSES)]
    for process in started:
        process.result(PATIENCE)
    assert int(path.read_text()) == PROCESSES * THREADS * ROUNDS


@contextmanager
def another_thread() -> Iterator[Callable[..., Future[None]]]:
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit


def take(catalog: Catalog, digest: str = DIGEST) -> None:
    with catalog.locked(digest):
        pass


def test_others_go_on_while_one_is_locked(catalog: Catalog) -> None:
    with another_thread() as run, catalog.locked(DIGEST):
        run(take, catalog, OTHER_DIGEST).result(PATIENCE)
        run(upload, catalog, a_file(digest=OTHER_DIGEST)).result(PATIENCE)
    assert catalog.references(OTHER_DIGEST) == 1


def test_a_lock_takes_no_second_connection(url: str) -> None:
    catalog = Catalog.open(url, threads=1)
    upload(catalog, a_file())
    with catalog.locked(DIGEST):
        assert catalog.find(a_file().id) == a_file()
        assert catalog.remove(a_file().id) == a_file()
        assert catalog.references(DIGEST) == 0
        assert [row.digest for row in catalog.unreferenced()] == [DIGEST]
        catalog.forget(DIGEST)
    catalog.close()


@pytest.mark.parametrize("error", [OSError("the store failed"), KeyboardInterrupt()], ids=repr)
def test_an_error_inside_frees_the_lock_and_passes_unchanged(
    catalog: Catalog, error: BaseException
) -> None:
    with pytest.raises(type(error)) as raised:
        with catalog.locked(DIGEST):
            raise error
    assert raised.value is error
    with another_thread() as run:
        run(take, catalog).result(PATIENCE)


def test_an_error_of_the_catalog_inside_frees_the_lock(catalog: Catalog) -> None:
    with pytest.raises(ValueError, match="refuses"), catalog.locked(DIGEST):
        catalog.add(a_file(), stored_by_hash=None)
    with another_thread() as run:
        run(take, catalog).result(PATIENCE)
    upload(catalog, a_file())


def hold_for_ever(url: str, held: Connection) -> None:
    with Catalog.open(url).locked(DIGEST):
        held.send(True)
        signal.pause()


def test_a_killed_holder_leaves_no_lock(catalog: Catalog, url: str) -> None:
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    holder = context.Process(target=hold_for_ever, args=(url, sender))
    holder.start()
    assert holder.pid is not None
    assert receiver.poll(PATIENCE)
    with another_thread() as run:
        waiting = run(take, catalog)
        take(catalog, OTHER_DIGEST)
        assert not waiting.done()
        os.kill(holder.pid, signal.SIGKILL)
        waiting.result(PATIENCE)
    holder.join(PATIENCE)


def test_a_lock_file_that_cannot_be_made_is_a_reason(tmp_path: Path) -> None:
    (tmp_path / "catalog.db.locks").mkdir()
    catalog = Catalog.open(f"sqlite:///{tmp_path}/catalog.db")
    with pytest.raises(CatalogUnavailable, match="Is a directory"):
        catalog.check()


def disconnect(url: str) -> None:
    """Have the server end all other connections, and with them their locks."""
    others = "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
    others += " AND application_name = 'filestored' AND backend_type = 'client backend'"
    execute(url, f"SELECT pg_terminate_backend(pid) FROM ({others}) AS others")
    until(lambda: not execute(url, others), "the connections are gone")


def test_nothing_goes_on_without_a_lock_that_was_lost(postgresql_url: str) -> None:
    catalog = Catalog.open(postgresql_url)
    upload(catalog, a_file())
    with catalog.locked(DIGEST):
        disconnect(postgresql_url)
        for _ in range(2):
            with pytest.raises(CatalogUnavailable):
                catalog.remove(a_file().id)
        with another_thread() as run:
            run(take, catalog).result(PATIENCE)
    assert catalog.remove(a_file().id) == a_file()
    catalog.close()


def test_a_lost_lock_that_is_not_used_again_is_no_error(postgresql_url: str) -> None:
    catalog = Catalog.open(postgresql_url)
    with catalog.locked(DIGEST):
        disconnect(postgresql_url)
    take(catalog)
    catalog.close()


def test_the_statement_timeout_does_not_count_for_a_lock(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SESSION, "statement_timeout", "500ms")
    catalog = Catalog.open(postgresql_url)
    waiting_long = (
        "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'advisory'"
        " AND clock_timestamp() - query_start > interval '600 ms'"
    )
    with another_thread() as run:
        with catalog.locked(DIGEST):
            waiting = run(take, catalog)
            until(lambda: execute(postgresql_url, waiting_long), "it waits for the lock")
        waiting.result(PATIENCE)
    catalog.close()


# ---- before there is a catalog


def waits_for(path: Path) -> bool:
    """Tell whether somebody waits for a lock on that file or folder (/proc/locks, proc(5))."""
    inode = f":{path.stat().st_ino} "
    lines = Path("/proc/locks").read_text().splitlines()
    return any("->" in line and inode in line for line in lines)


def test_nobody_makes_a_catalog_while_its_absence_is_held(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/names.db"
    catalog, other = Catalog.open(url), Catalog.open(url)
    with another_thread() as run:
        with catalog.unmade() as unmade:
            assert unmade
            waiter = run(take, other)
            until(lambda: waits_for(tmp_path / "names.db.locks"), "the other does not wait")
            assert not (tmp_path / "names.db").exists()
        waiter.result(PATIENCE)
    for each in catalog, other:
        with each.unmade() as unmade:
            assert not unmade
        each.close()


@pytest.mark.parametrize("left", [0, 4096])
def test_what_has_no_tables_is_no_catalog(tmp_path: Path, left: int) -> None:
    """It was begun when there was no room for more."""
    (tmp_path / "names.db").write_bytes(bytes(left))
    with Catalog.open(f"sqlite:///{tmp_path}/names.db").unmade() as unmade:
        assert unmade


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_what_may_have_tables_is_a_catalog(tmp_path: Path, suffix: str) -> None:
    url = f"sqlite:///{tmp_path}/names.db"
    catalog = Catalog.open(url)
    upload(catalog, a_file())
    if not suffix:
        catalog.close()  # which brings all of the log into the file
        assert not (tmp_path / "names.db-wal").exists()
    else:
        (tmp_path / "names.db").write_bytes(b"")
    with Catalog.open(url).unmade() as unmade:
        assert not unmade
    catalog.close()


def test_where_the_file_of_locks_cannot_be_made_its_folder_stands_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "locks"
    locks = FileLocks(path)
    opened = os.open

    def fail(name: Path | str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT and name == path:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return opened(name, flags, mode)

    held = []

    def hold(name: str) -> None:
        with locks.hold(name):
            held.append(name)

    with another_thread() as run:
        monkeypatch.setattr(os, "open", fail)
        with pytest.raises(CatalogUnavailable) as refused, locks.hold("one"):
            pass
        assert refused.value.full
        with locks.hold("one", without_room=True):
            monkeypatch.setattr(os, "open", opened)
            waiter = run(hold, "another")  # there is room for the file by now
            until(lambda: waits_for(tmp_path), "the other does not wait")
            assert held == []
            assert not path.exists()
        waiter.result(PATIENCE)
    assert held == ["another"]
    assert path.exists()
