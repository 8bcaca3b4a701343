"""A database that cannot be used: what is said of it, and that it is used again when it can be."""

from __future__ import annotations

import subprocess
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from shutil import rmtree

import pytest

from httpd.catalog import engine
from httpd.catalog.catalog import Catalog
from httpd.catalog.errors import CatalogUnavailable
from tests.catalog.databases import Server, execute
from tests.catalog.samples import DIGEST, OTHER_DIGEST, a_file, upload


def lock(catalog: Catalog) -> None:
    with catalog.locked(DIGEST):
        pass


CALLS: dict[str, Callable[[Catalog], object]] = {
    "check": lambda catalog: catalog.check(),
    "locked": lock,
    "note": lambda catalog: catalog.note(OTHER_DIGEST, "md5", 5, None),
    "add": lambda catalog: catalog.add(a_file(2), stored_by_hash=True),
    "find": lambda catalog: catalog.find(a_file().id),
    "remove": lambda catalog: catalog.remove(a_file().id),
    "references": lambda catalog: catalog.references(DIGEST),
    "blob": lambda catalog: catalog.blob(DIGEST),
    "mark": lambda catalog: catalog.mark_stored_by_hash(DIGEST),
    "forget": lambda catalog: catalog.forget("00"),
    "list": lambda catalog: catalog.list(1),
    "files": lambda catalog: list(catalog.files()),
    "blobs": lambda catalog: list(catalog.blobs()),
    "unreferenced": lambda catalog: list(catalog.unreferenced()),
}
WRITING = {"note", "add", "remove", "mark", "forget"}


def reason_of(act: Callable[[Catalog], object], catalog: Catalog) -> CatalogUnavailable:
    with pytest.raises(CatalogUnavailable) as refusal:
        act(catalog)
    assert str(refusal.value) == refusal.value.reason
    assert "\n" not in refusal.value.reason
    return refusal.value


def test_a_server_that_is_gone_and_back(postgresql: Server, postgresql_url: str) -> None:
    catalog = Catalog.open(postgresql_url)
    upload(catalog, a_file())
    postgresql.stop()
    try:
        reasons = {name: reason_of(act, catalog) for name, act in CALLS.items()}
        late = Catalog.open(postgresql_url)
        reason_of(CALLS["find"], late)
    finally:
        postgresql.start()
    assert not any(reason.full for reason in reasons.values())
    assert catalog.find(a_file().id) == a_file()
    assert late.find(a_file().id) == a_file()
    upload(catalog, a_file(2))
    catalog.close()
    late.close()


def test_a_restart_between_two_calls_costs_neither(postgresql: Server, postgresql_url: str) -> None:
    catalog = Catalog.open(postgresql_url)
    upload(catalog, a_file())
    postgresql.stop()
    postgresql.start()
    assert catalog.find(a_file().id) == a_file()
    catalog.close()


def make_folder(path: Path) -> None:
    path.mkdir()


def make_garbage(path: Path) -> None:
    path.write_bytes(b"this is no database " * 100)


def make_nothing(path: Path) -> None:
    path.parent.rmdir()


UNUSABLE = {
    "a folder": (make_folder, "unable to open"),
    "garbage": (make_garbage, "not a database"),
    "no folder to be in": (make_nothing, "No such file"),
}


@pytest.mark.parametrize(("make", "reason"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_file_that_is_no_database_and_becomes_one(
    tmp_path: Path, make: Callable[[Path], None], reason: str
) -> None:
    path = tmp_path / "below" / "catalog.db"
    path.parent.mkdir()
    make(path)
    catalog = Catalog.open(f"sqlite:///{path}")
    for act in CALLS.values():
        assert reason in reason_of(act, catalog).reason
    if path.exists():
        path.rmdir() if path.is_dir() else path.unlink()
    path.parent.mkdir(exist_ok=True)
    upload(catalog, a_file())
    assert catalog.find(a_file().id) == a_file()
    catalog.close()


def test_a_writer_that_stays_too_long(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "PATIENCE_SECONDS", 0.05)
    catalog, other = Catalog.open(sqlite_url), Catalog.open(sqlite_url)
    upload(catalog, a_file())
    with other._writing():
        for name, act in CALLS.items():
            if name in WRITING:
                assert reason_of(act, catalog).reason == "database is locked"
            else:
                act(catalog)
    upload(catalog, a_file(2))
    catalog.close()
    other.close()


def test_more_threads_than_connections(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "PATIENCE_SECONDS", 0.05)
    catalog = Catalog.open(url, threads=1)
    with catalog._reading():
        assert "QueuePool limit" in reason_of(CALLS["find"], catalog).reason
    assert catalog.find(a_file().id) is None
    catalog.close()


def test_a_statement_that_takes_too_long(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(engine.SESSION, "statement_timeout", "500ms")
    catalog, blocker = Catalog.open(postgresql_url), Catalog.open(postgresql_url)
    upload(catalog, a_file())
    with blocker._writing() as connection:
        connection.exec_driver_sql("LOCK TABLE files")
        assert "timeout" in reason_of(CALLS["find"], catalog).reason
    assert catalog.find(a_file().id) == a_file()
    catalog.close()
    blocker.close()


def test_a_full_disk_of_the_server(postgresql_url: str) -> None:
    catalog = Catalog.open(postgresql_url)
    upload(catalog, a_file())
    body = "$$BEGIN RAISE 'no space left on device' USING ERRCODE = 'disk_full'; END$$"
    execute(
        postgresql_url,
        f"CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS {body}",
        "CREATE TRIGGER full_disk BEFORE INSERT ON files EXECUTE FUNCTION full_disk()",
    )
    assert reason_of(CALLS["add"], catalog).full
    assert catalog.find(a_file().id) == a_file()
    catalog.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=64", "tmpfs", folder], check=True
    )
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def use_up_space(folder: Path) -> None:
    with (folder / "0").open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass


def use_up_inodes(folder: Path) -> None:
    with suppress(OSError):
        for number in count():
            (folder / str(number)).touch()


@contextmanager
def full(disk: Path, use_up: Callable[[Path], None] = use_up_space) -> Iterator[None]:
    """Leave nothing of a disk's space, or of its inodes, for the catalog."""
    folder = disk / "filler"
    folder.mkdir()
    use_up(folder)
    yield
    rmtree(folder)


@pytest.mark.root
def test_a_full_disk(small_disk: Path) -> None:
    catalog = Catalog.open(f"sqlite:///{small_disk}/catalog.db")
    upload(catalog, a_file())

    def add_much(catalog: Catalog) -> None:
        for number in range(2, 100):
            catalog.add(a_file(number, "x" * 100_000), stored_by_hash=None)

    with full(small_disk):
        assert reason_of(add_much, catalog).full
        assert catalog.find(a_file().id) == a_file()
    upload(catalog, a_file(1000))
    catalog.close()


@pytest.mark.root
@pytest.mark.parametrize("use_up", [use_up_space, use_up_inodes])
def test_a_disk_that_is_full_before_the_catalog_is_made(
    small_disk: Path, use_up: Callable[[Path], None]
) -> None:
    catalog = Catalog.open(f"sqlite:///{small_disk}/catalog.db")
    with full(small_disk, use_up):
        assert reason_of(CALLS["check"], catalog).full
    upload(catalog, a_file())
    catalog.close()


@pytest.mark.root
def test_a_disk_that_is_full_when_the_catalog_is_opened_again(small_disk: Path) -> None:
    catalog = Catalog.open(f"sqlite:///{small_disk}/catalog.db")
    upload(catalog, a_file())
    catalog.close()
    with full(small_disk):
        assert reason_of(CALLS["find"], catalog).full
    assert catalog.find(a_file().id) == a_file()
    catalog.close()


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """Have a catalog with a file in it that cannot be written any more, not even by root."""
    path = tmp_path / "catalog.db"
    catalog = Catalog.open(f"sqlite:///{path}")
    upload(catalog, a_file())
    catalog.close()
    subprocess.run(["mount", "--bind", "-o", "ro", path, path], check=True)
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


@pytest.mark.root
def test_a_read_only_file_can_be_read(read_only: Path) -> None:
    catalog = Catalog.open(f"sqlite:///{read_only}")
    for name, act in CALLS.items():
        if name in WRITING:
            assert "readonly" in reason_of(act, catalog).reason
        else:
            act(catalog)
    catalog.close()


SECRET = "hunter2"
# URLs that only turn out wrong when they are used. No server listens at port 1.
WRONG = {
    "nobody there": f"postgresql://app:{SECRET}@127.0.0.1:1/postgres",
    "no such host": f"postgresql://app:{SECRET}@host.invalid/postgres",
    "no such option": f"postgresql://app:{SECRET}@127.0.0.1:1/postgres?nonsense=1",
    "a bad option": f"postgresql://app:{SECRET}@127.0.0.1:1/postgres?sslmode=nonsense",
    "password as an option": f"postgresql://127.0.0.1:1/postgres?password={SECRET}",
}


def assert_secret_is_kept(url: str) -> None:
    catalog = Catalog.open(url)
    refusal = reason_of(CALLS["find"], catalog)
    assert SECRET not in repr(refusal) + repr(catalog)
    assert SECRET not in "".join(traceback.format_exception(refusal))
    assert refusal.__suppress_context__


@pytest.mark.parametrize("url", WRONG.values(), ids=WRONG)
def test_no_message_tells_the_password(url: str) -> None:
    assert_secret_is_kept(url)


def test_no_message_tells_a_password_that_is_wrong(postgresql: Server) -> None:
    assert_secret_is_kept(postgresql.url(f"stranger:{SECRET}"))
