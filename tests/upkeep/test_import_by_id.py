"""Older stores of files by id, and their names in a table of a database."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from httpd.catalog.rows import File
from tests.catalog.conftest import postgresql  # noqa: F401 - the fixture, for the second database
from tests.catalog.databases import execute
from tests.daemons import Daemon
from tests.service import Service
from tests.upkeep.stores import Command, Store, new_id, snapshot

CONTENT = b"content of an older store"
CHANGED_AT = 1_500_000_000  # seconds since the epoch
NAMES = [
    "photo.jpg",
    "two words.txt",
    'a "quoted" name; with=all',
    "a\nline",
    "../../etc/passwd",
    "C:\\temp\\x",
    "naïve café.pdf",
    "日本語.txt",
    "\N{PILE OF POO}",
    "x" * 300,
    "per%cent",
]


class Older(NamedTuple):
    """A folder of files, and the table of their names."""

    folder: Path
    url: str
    insert: Callable[[str, str | None], object]

    def put(self, name: str | None, content: bytes = CONTENT, file_id: str = "") -> str:
        """Put a file there, with its name; return its id."""
        file_id = file_id or new_id()
        path = self.folder / file_id
        path.write_bytes(content)
        os.utime(path, (CHANGED_AT, CHANGED_AT))
        self.insert(file_id, name)
        return file_id

    def words(self) -> list[str]:
        return ["import", str(self.folder), f"--names-from={self.url}"]


@pytest.fixture
def older(tmp_path: Path) -> Older:
    """An older store on SQLite; its database has a name that a URL would quote."""
    folder = tmp_path / "older"
    folder.mkdir()
    database = tmp_path / "old ?#%41.db"

    def insert(file_id: str, name: str | None) -> None:
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("INSERT INTO file VALUES (?, ?)", (file_id, name))

    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE file (id CHAR(36) PRIMARY KEY, name VARCHAR)")
    return Older(folder, f"sqlite:///{database}", insert)


def found(store: Store, file_id: str) -> File:
    file = store.catalog.find(file_id)
    assert file is not None
    return file


def test_files_keep_id_name_and_time(older: Older, store: Store, command: Command) -> None:
    ids = {older.put(name, b"content %d" % n): name for n, name in enumerate(NAMES)}
    before = snapshot(older.folder)
    outcome = command(*older.words())
    assert (outcome.code, outcome.faults, outcome.err) == (0, [], "")
    assert outcome.report["imported"] == len(NAMES)
    for file_id, name in ids.items():
        file = found(store, file_id)
        assert (file.name, file.created_at.timestamp()) == (name, CHANGED_AT)
        assert store.path(file.digest).read_bytes() == (older.folder / file_id).read_bytes()
    assert found(store, next(iter(ids))).type == "image/jpeg"
    assert snapshot(older.folder) == before
    assert command("verify").code == 0


def test_database_is_only_read(older: Older, command: Command) -> None:
    older.put("a.txt")
    database = Path(older.url.removeprefix("sqlite:///"))
    before = database.stat(), database.read_bytes(), sorted(os.listdir(database.parent))
    command(*older.words())
    after = database.stat(), database.read_bytes(), sorted(os.listdir(database.parent))
    assert (after[0].st_mtime_ns, *after[1:]) == (before[0].st_mtime_ns, *before[1:])


def test_what_is_here_is_skipped(older: Older, store: Store, command: Command) -> None:
    ids = [older.put("a.txt", b"%d" % number) for number in range(5)]
    command(*older.words())
    ids.append(older.put("b.txt", b"new"))
    report = command(*older.words()).report
    assert (report["imported"], report["already_there"]) == (1, 5)
    assert all(found(store, file_id) for file_id in ids)


def test_content_goes_with_its_last_name(older: Older, store: Store, command: Command) -> None:
    first, second = older.put("a.txt"), older.put("b.txt")
    command(*older.words())
    path = store.path(found(store, first).digest)
    store.references.delete_by_id(first)
    assert path.exists()
    store.references.delete_by_id(second)
    assert not path.exists()


@pytest.mark.parametrize("write", [str.upper, lambda text: text.replace("-", ""), str])
def test_ids_are_read_however_they_are_written(
    write: Callable[[str], str], older: Older, store: Store, command: Command
) -> None:
    file_id = new_id()
    (older.folder / file_id).write_bytes(CONTENT)
    older.insert(write(file_id), "a.txt")
    assert command(*older.words()).code == 0
    assert found(store, file_id).name == "a.txt"
    # And so are the names of the files.
    other = new_id()
    (older.folder / write(other)).write_bytes(CONTENT)
    older.insert(other, "b.txt")
    assert command(*older.words()).code == 0
    assert found(store, other).name == "b.txt"


def test_what_is_wrong_is_told_and_the_rest_is_imported(
    older: Older, store: Store, command: Command
) -> None:
    good = older.put("good.txt")
    no_file, nameless, pipe = new_id(), new_id(), new_id()
    older.insert(no_file, "gone.txt")
    older.insert("42", "answer.txt")
    (older.folder / nameless).write_bytes(b"whose?")
    os.mkfifo(older.folder / pipe)
    older.insert(pipe, "pipe")
    (older.folder / "README").touch()
    taken, _ = store.name(b"other content", "mine.txt")
    older.put("theirs.txt", file_id=taken)
    before = snapshot(older.folder)
    outcome = command(*older.words())
    assert outcome.code == 1
    assert sorted(outcome.faults) == sorted(
        [
            ("missing", no_file),
            ("strange", "42"),
            ("left", nameless),
            ("unreadable", pipe),
            ("left", pipe),
            ("taken", taken),
        ]
    )
    assert outcome.report["imported"] == 1
    assert found(store, good).name == "good.txt"
    assert found(store, taken).name == "mine.txt"
    assert snapshot(older.folder) == before
    assert command("verify").code == 0


@pytest.mark.parametrize(
    ("raw", "name"),
    [(None, None), (b"", None), (b"a\0b", "a\ufffdb"), (b"caf\xe9", "caf\ufffd")],
)
def test_names_that_are_no_text_are_made_one(
    raw: bytes | None, name: str | None, older: Older, store: Store, command: Command
) -> None:
    file_id = older.put(None)
    with closing(sqlite3.connect(older.url.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute("UPDATE file SET name = CAST(? AS TEXT)", (raw,))
    assert command(*older.words()).code == 0
    assert found(store, file_id).name == (name or file_id)


def test_many_names_come_in_batches(
    older: Older, store: Store, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("httpd.catalog.older.BATCH", 3)
    ids = [older.put("a.txt", b"%d" % number) for number in range(10)]
    assert command(*older.words()).report["imported"] == 10
    assert all(found(store, file_id) for file_id in ids)


def test_names_in_postgresql(
    postgresql: object, tmp_path: Path, store: Store, command: Command  # noqa: F811
) -> None:  # fmt: skip
    url = postgresql.new_schema()  # type: ignore[attr-defined]
    execute(url, "CREATE TABLE file (id UUID PRIMARY KEY, name VARCHAR)")
    folder = tmp_path / "older"
    folder.mkdir()
    older = Older(folder, url, lambda *row: execute(url, f"INSERT INTO file VALUES {row}"))
    ids = [older.put("caf\u00e9.txt", b"%d" % number) for number in range(3)]
    for imported in (3, 0):
        outcome = command(*older.words())
        assert (outcome.code, outcome.report["imported"]) == (0, imported)
    assert {found(store, file_id).name for file_id in ids} == {"caf\u00e9.txt"}


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sqlite:///{folder}/no.db", "unable to open database file"),
        ("sqlite:///{folder}/empty.db", "no such table: file"),
        ("mysql://h/d", "--names-from: a database URL begins with one of"),
        ("sqlite:///:memory:", "--names-from: a SQLite database in memory"),
    ],
)
def test_database_that_cannot_be_read(
    url: str, reason: str, tmp_path: Path, command: Command
) -> None:
    (tmp_path / "empty.db").touch()
    names = f"--names-from={url.format(folder=tmp_path)}"
    outcome = command("import", str(tmp_path), names)
    assert outcome.code == 2
    assert reason in outcome.err
    assert not (tmp_path / "no.db").exists()


def test_daemon_serves_what_is_imported_beside_it(older: Older, daemon: Daemon) -> None:
    daemon.start()
    ids = {older.put(name, name.encode()): name for name in NAMES}
    done = daemon.command(*older.words())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{len(NAMES)} imported, 0 already there, ")
    with Service(daemon) as service:
        for file_id, name in ids.items():
            answer = service.get(f"/files/{file_id}/")
            assert (answer.status_code, answer.content) == (200, name.encode())
        rows = service.get("/files/").json()
        assert {row["name"] for row in rows} == set(NAMES)
