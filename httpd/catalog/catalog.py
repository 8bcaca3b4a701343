"""The catalog: which names there are, and what content they refer to.

Every call may block, may be made from any thread, and raises CatalogUnavailable when the database
cannot be used; the same catalog works again when the database does. What has returned is
committed. Who changes what refers to a digest, and the content with it, holds its lock:

    with catalog.locked(digest):
        catalog.note(digest, algorithm, size, token)
        …                                       # the storage publishes the content
        catalog.add(file, stored_by_hash=…)

    with catalog.locked(digest):
        catalog.remove(id)
        …                                       # after the last one the storage deletes it
        catalog.forget(digest)
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unicodedata import normalize

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Row,
    Select,
    bindparam,
    delete,
    exists,
    func,
    insert,
    select,
    true,
    tuple_,
    update,
)

from httpd.catalog import migrations
from httpd.catalog import url as urls
from httpd.catalog.cursor import Cursor
from httpd.catalog.engine import WRITES, make_engine, reading, write_ahead
from httpd.catalog.failures import answering
from httpd.catalog.locks import AdvisoryLocks, FileLocks, Locks
from httpd.catalog.rows import BlobRow, File, Page
from httpd.catalog.schema import blobs, files

SCHEMA_LOCK = "schema"
"""Name of the lock for migrations; no digest has letters beyond f."""

BATCH = 500
"""Rows that an iterator holds at once: 100 kB or so, and each batch is a short transaction."""

PAGE_BYTES = 4096
"""SQLite's default (sqlite.org/pragma.html#pragma_page_size); each table has pages of its own."""

_CANONICAL_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_FILES: Select[Any] = select(
    files.c.id,
    blobs.c.algorithm,
    blobs.c.digest,
    files.c.type,
    files.c.name,
    blobs.c.size,
    files.c.created_us,
).join_from(files, blobs)
# Built once: it takes as long as reading a page of twenty does.
_FILE = _FILES.where(files.c.id == bindparam("id"))
_FIRST_PAGE = _FILES.order_by(files.c.created_us.desc(), files.c.id.desc()).limit(
    bindparam("limit")
)
_PAGE_AFTER = _FIRST_PAGE.where(
    tuple_(files.c.created_us, files.c.id) < tuple_(bindparam("created_us"), bindparam("id"))
)
_UNREFERENCED = ~blobs.c.stored_by_hash & ~exists().where(files.c.digest == blobs.c.digest)


class Catalog:
    """Files and the blobs they refer to. Belongs to the process that has opened it."""

    def __init__(self, engine: Engine, locks: Locks, file: Path | None = None) -> None:
        """Take an engine, the locks that go with it, and SQLite's file; `open` makes them."""
        self._engine = engine
        self._reader = reading(engine)
        self._writer = engine.execution_options(**{WRITES: True})
        self._locks = locks
        self._file = file
        self._pid = os.getpid()
        self._migrated = False

    @classmethod
    def open(cls, url: str, *, durable: bool = True, threads: int = 8) -> Catalog:
        """Return the catalog in that database (forms: `url.parse`); does not connect yet.

        So a daemon can start, and serve what needs no database, while the database is away.
        `durable`: what is acknowledged survives a power cut. `threads`: how many threads call it
        at the same time, and so how many connections it may have. Raises ValueError.
        """
        parsed = urls.parse(url)
        engine = make_engine(parsed, durable=durable, threads=threads)
        if parsed.get_backend_name() == "sqlite":
            file = Path(parsed.database or "")
            return cls(engine, FileLocks(Path(f"{file}.locks")), file)
        return cls(engine, AdvisoryLocks(engine))

    @staticmethod
    def prepare(url: str) -> None:
        """Check a URL and load its driver, for a process that may not read either later.

        A daemon that has given up being root may find Python's own folders closed. Raises
        ValueError, also where the driver is not installed.
        """
        try:
            urls.parse(url).get_dialect().import_dbapi()
        except ImportError as error:
            raise ValueError(f"the database's driver is not installed: {error}") from None

    def __repr__(self) -> str:
        return f"Catalog({urls.describe(self._engine.url)})"

    def close(self) -> None:
        """Close all connections that are not in use."""
        self._engine.dispose()

    def check(self) -> None:
        """Make sure that the database is there and its schema is right, migrating it if needed."""
        with self._reading() as connection:
            connection.execute(select(true()))

    @contextmanager
    def locked(self, digest: str) -> Iterator[None]:
        """Keep all others, in whatever thread or process, from the lock of this digest.

        Waits as long as another holds it. A thread holds one lock at a time. In PostgreSQL the
        lock is its connection's: when that is lost, every further call inside raises.
        """
        self._get_ready()
        with self._locks.hold(digest):
            yield

    @contextmanager
    def unmade(self) -> Iterator[bool]:
        """Tell whether no catalog was ever made, and keep all others from making it meanwhile.

        For who is about to make room where there is none for a catalog. No call but this one may
        be made in the body.
        """
        if self._file is None or self._migrated:
            yield False
            return
        with self._locks.hold(SCHEMA_LOCK, without_room=True):
            with answering():
                unmade = _has_no_tables(self._file)
            yield unmade

    def note(self, digest: str, algorithm: str, size: int, token: str | None) -> bool:
        """Say that content is about to be published; return whether the digest had no row.

        A row that nothing refers to was left by an upload that never came to its end: it now
        tells of this one. Any other row stays as it is.
        """
        told = {"size": size, "token": token, "noted_us": _microseconds(datetime.now(UTC))}
        this_row = blobs.c.digest == digest
        with self._writing() as connection:
            if connection.scalar(select(blobs.c.digest).where(this_row)) is not None:
                left_over = update(blobs).where(this_row, _UNREFERENCED)
                connection.execute(left_over.values(algorithm=algorithm, **told))
                return False
            row = {"digest": digest, "algorithm": algorithm, "stored_by_hash": False}
            connection.execute(insert(blobs).values(**row, **told))
            return True

    def add(self, file: File, *, stored_by_hash: bool | None) -> None:
        """Add a name for content that was noted; algorithm and size are those noted.

        `stored_by_hash`: what is known of the content now; None leaves it as it was. Raises
        ValueError: the id is taken or not canonical, the digest was not noted, bad text.
        """
        if not _CANONICAL_ID.fullmatch(file.id):
            raise ValueError("the id of a file is a UUID in its canonical form")
        row = {
            "id": file.id,
            "digest": file.digest,
            "name": _storable(file.name),
            "folded_name": _folded(file.name),
            "type": None if file.type is None else _storable(file.type),
            "created_us": _microseconds(file.created_at),
        }
        with self._writing() as connection:
            connection.execute(insert(files).values(row))
            if stored_by_hash is not None:
                this_row = blobs.c.digest == file.digest
                connection.execute(
                    update(blobs).where(this_row).values(stored_by_hash=stored_by_hash)
                )

    def find(self, file_id: str) -> File | None:
        """Return the file of that id (canonical form), or None."""
        if not _CANONICAL_ID.fullmatch(file_id):
            return None
        with self._reading() as connection:
            return _find(connection, file_id)

    def remove(self, file_id: str) -> File | None:
        """Take a name away; return the file that it was, or None if there is none."""
        if not _CANONICAL_ID.fullmatch(file_id):
            return None
        with self._writing() as connection:
            file = _find(connection, file_id)
            removed = connection.execute(delete(files).where(files.c.id == file_id)).rowcount
            return file if removed else None  # or another has removed it since

    def references(self, digest: str) -> int:
        """Return how many files have that content."""
        with self._reading() as connection:
            count = select(func.count()).select_from(files).where(files.c.digest == digest)
            return connection.scalars(count).one()

    def blob(self, digest: str) -> BlobRow | None:
        """Return what is known of that content, or None where it never came in under a name."""
        with self._reading() as connection:
            row = connection.execute(select(blobs).where(blobs.c.digest == digest)).first()
            return None if row is None else _blob(row)

    def mark_stored_by_hash(self, digest: str) -> bool:
        """Say that the content was stored by its hash as well; return whether it has a row."""
        with self._writing() as connection:
            row = update(blobs).where(blobs.c.digest == digest).values(stored_by_hash=True)
            return connection.execute(row).rowcount > 0

    def forget(self, digest: str) -> None:
        """Drop the row of content, if it has one. Raises ValueError if a file refers to it."""
        with self._writing() as connection:
            connection.execute(delete(blobs).where(blobs.c.digest == digest))

    def list(self, limit: int, after: str | None = None, name: str | None = None) -> Page:
        """Return up to `limit` files, newest first; `after` is the `next` of the page before.

        A file that is there from the first page to the last is on exactly one of them, whatever
        is added or removed meanwhile. `name`: files with this in their names only, whatever the
        case is in any alphabet (Unicode's full case folding, composed: É finds é, SS finds ß, but
        E does not find é). Raises ValueError.
        """
        if limit < 1:
            raise ValueError("a page has room for one file at least")
        query, values = _FIRST_PAGE, {"limit": limit + 1}  # one more tells of a next page
        if after is not None:
            query, values = _PAGE_AFTER, values | Cursor.parse(after)._asdict()
        if name is not None:
            query = query.where(files.c.folded_name.contains(_folded(name), autoescape=True))
        with self._reading() as connection:
            found = connection.execute(query, values).all()
        last = found[limit - 1] if len(found) > limit else None
        following = None if last is None else str(Cursor(last.created_us, last.id))
        return Page(tuple(map(_file, found[:limit])), following)

    def files(self) -> Iterator[File]:
        """Yield every file, newest first, in bounded memory."""
        page = self.list(BATCH)
        yield from page.files
        while page.next is not None:
            page = self.list(BATCH, page.next)
            yield from page.files

    def blobs(self) -> Iterator[BlobRow]:
        """Yield the row of every blob that has one, by digest, in bounded memory."""
        return self._blobs(true())

    def unreferenced(self) -> Iterator[BlobRow]:
        """Yield the rows of content that no file has and that was not stored by hash: orphans.

        One that is not locked may be an upload under way: look again under its lock.
        """
        return self._blobs(_UNREFERENCED)

    def _blobs(self, condition: ColumnElement[bool]) -> Iterator[BlobRow]:
        rest = condition
        while True:
            query = select(blobs).where(rest).order_by(blobs.c.digest).limit(BATCH)
            with self._reading() as connection:
                batch = connection.execute(query).all()
            yield from map(_blob, batch)
            if len(batch) < BATCH:
                return
            rest = condition & (blobs.c.digest > batch[-1].digest)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        self._get_ready()
        with self._transaction(self._engine) as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        self._get_ready()
        with self._transaction(self._writer) as connection:
            yield connection

    @contextmanager
    def _transaction(self, engine: Engine) -> Iterator[Connection]:
        """Run one transaction, over the connection of this thread's lock if it has one."""
        locked = self._locks.connection
        with answering():
            if locked is not None:
                with locked.begin():
                    yield locked
            else:
                with engine.begin() as connection:
                    yield connection

    def _get_ready(self) -> None:
        """See to it that this is the right process, and, once, that the schema is right."""
        if os.getpid() != self._pid:
            raise RuntimeError("a catalog was opened before a fork: open it in each process")
        if not self._migrated:
            with self._locks.hold(SCHEMA_LOCK):
                self._migrate()
            self._migrated = True

    def _migrate(self) -> None:
        with self._transaction(self._engine) as connection:
            version = migrations.version_of(connection)
            if version == len(migrations.STEPS):
                return
            write_ahead(connection)
        with self._transaction(self._writer) as connection:
            migrations.migrate(connection, version)


def _has_no_tables(file: Path) -> bool:
    """Tell whether a SQLite database has none, without opening it, for which there may be no room.

    What an attempt to make one has left is a file with its head, thus one page, at most.
    """
    for path, most in (file, PAGE_BYTES), (Path(f"{file}-wal"), 0):
        with suppress(FileNotFoundError):
            if path.stat().st_size > most:
                return False
    return True


def _find(connection: Connection, file_id: str) -> File | None:
    row = connection.execute(_FILE, {"id": file_id}).first()
    return None if row is None else _file(row)


def _file(row: Row[Any]) -> File:
    return File._make((*row[:-1], _moment(row[-1])))


def _blob(row: Row[Any]) -> BlobRow:
    return BlobRow._make((*row[:-1], _moment(row[-1])))


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def _moment(microseconds: int) -> datetime:
    return _EPOCH + microseconds * _MICROSECOND


def _storable(text: str) -> str:
    """Return a text that both databases can keep. Raises ValueError for any other."""
    if "\0" in text:
        raise ValueError("PostgreSQL cannot keep a NUL")
    text.encode()  # UnicodeEncodeError is a ValueError: half of a surrogate pair
    return text


def _folded(name: str) -> str:
    """Return what is compared of a name: the databases' own folding differs beyond ASCII."""
    return normalize("NFC", _storable(name).casefold())
