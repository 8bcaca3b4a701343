"""Locks by name, between all threads and processes that use one database.

Both kinds go with their holder, however it dies, and neither is the database's own write lock:
who waits for a lock waits for one name, while others go on writing. They are not reentrant, and a
thread holds one at a time.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from threading import local
from typing import Protocol

from sqlalchemy import Connection, Engine, func, select, text
from sqlalchemy.exc import SQLAlchemyError

from httpd.catalog.errors import CatalogUnavailable
from httpd.catalog.failures import answering


class Locks(Protocol):
    """What both kinds can do."""

    @property
    def connection(self) -> Connection | None:
        """The connection that this thread must use while it holds a lock, if there is one.

        Raises CatalogUnavailable if the lock was lost.
        """

    def hold(self, name: str, *, without_room: bool = False) -> AbstractContextManager[None]:
        """Hold the lock of that name; wait as long as another does. Raises CatalogUnavailable.

        `without_room`: even where a lock that was never made has no room to be made.
        """


class FileLocks:
    """One byte of a file for each name, locked by open file description (fcntl(2)).

    Nothing is ever written to the file. It must not be removed while it is in use.
    """

    connection = None

    def __init__(self, path: Path) -> None:
        """Take the path of the file; the first lock makes it."""
        self._path = path

    @contextmanager
    def hold(self, name: str, *, without_room: bool = False) -> Iterator[None]:
        """Hold the lock of that name; wait as long as another does. Raises CatalogUnavailable."""
        with answering():
            descriptor = self._lock(name, without_room=without_room)
        try:
            yield
        finally:
            os.close(descriptor)

    def _lock(self, name: str, *, without_room: bool) -> int:
        """Return a descriptor that keeps the lock until it is closed.

        It is opened anew each time: the lock is the description's, and so parts threads as well.
        """
        with suppress(FileNotFoundError):
            return self._lock_byte(os.open(self._path, os.O_RDWR | os.O_CLOEXEC), name)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if without_room and error.errno in (errno.ENOSPC, errno.EDQUOT):
                # There is no file, so nobody has a lock, and nobody gets one: it is made under the
                # folder's own. So that one stands for all names.
                return folder
            os.close(folder)
            raise
        os.close(folder)
        return self._lock_byte(descriptor, name)

    def _lock_byte(self, descriptor: int, name: str) -> int:
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLKW, _exclusive(_key(name)))
        except OSError:
            os.close(descriptor)
            raise
        return descriptor


class AdvisoryLocks:
    """PostgreSQL's advisory locks of a session (section 13.3.5), each held by its connection.

    A thread that holds one talks to the database over that connection alone. So no thread waits
    for a second connection while it has one, and if the connection is lost, and the lock with it,
    what follows fails rather than going on without. (Needs a session: PgBouncer in session mode.)
    """

    def __init__(self, engine: Engine) -> None:
        """Take the engine that connections come from."""
        self._engine = engine
        self._mine = local()

    @property
    def connection(self) -> Connection | None:
        """The connection of the lock that this thread holds. Raises CatalogUnavailable."""
        connection: Connection | None = getattr(self._mine, "connection", None)
        if connection is not None and connection.invalidated:
            # SQLAlchemy would connect anew and go on.
            raise CatalogUnavailable("the connection was lost, and the lock with it")
        return connection

    @contextmanager
    def hold(self, name: str, *, without_room: bool = False) -> Iterator[None]:
        """Hold the lock of that name; wait as long as another does. Raises CatalogUnavailable."""
        with answering():
            connection = self._engine.connect()
        try:
            with answering():
                _lock(connection, _key(name))
            self._mine.connection = connection
            yield
        finally:
            self._mine.connection = None
            _unlock(connection, _key(name))


def _key(name: str) -> int:
    """Return the number of a name: fits an off_t and a bigint, both of which are signed.

    Names with one number only wait for each other.
    """
    digest = blake2b(name.encode(), digest_size=8, person=b"filestored").digest()
    return int.from_bytes(digest) >> 1


def _exclusive(offset: int) -> bytes:
    """Return a struct flock for a write lock on one byte; l_pid must be 0 (fcntl(2)).

    `0q` pads it to the length that the kernel reads.
    """
    return struct.pack("hhqqi0q", fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0)


def _lock(connection: Connection, key: int) -> None:
    with connection.begin():
        # The holder may be flushing gigabytes; if it is dead, the server has freed the lock.
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(select(func.pg_advisory_lock(key)))


def _unlock(connection: Connection, key: int) -> None:
    """Give the connection back without the lock; close it if that cannot be had otherwise."""
    try:
        if not connection.invalidated:
            with connection.begin():
                connection.execute(select(func.pg_advisory_unlock(key)))
    except SQLAlchemyError:
        connection.invalidate()
    finally:
        connection.close()
