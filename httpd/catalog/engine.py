"""The engine: connections to the database, set up alike in every worker.

Made after the fork: neither driver's connections survive one.
"""

from __future__ import annotations

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection

from httpd.catalog.errors import CatalogUnavailable

WRITES = "writes"
"""Execution option of connections that change something."""

# How long a call waits for another writer of the file, or for a free connection, before it gives
# up. A writer holds the lock for one flush, so that even 64 of them on a slow disk take less.
PATIENCE_SECONDS = 10

# libpq's parameters (section 34.1.2), where the URL does not say otherwise. A database that has
# vanished is found out in a minute, not after the two hours that are the kernel's default.
LIBPQ = {
    "application_name": "filestored",
    "connect_timeout": "5",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
}
# The server's settings of each session (chapter 20). Every statement touches a few rows by an
# index; one that takes longer than this waits for something that is not right. The keep-alives are
# for a client whose machine is gone: it holds its locks until the server notices.
SESSION = {
    "statement_timeout": "10s",
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}


def make_engine(url: URL, *, durable: bool, threads: int) -> Engine:
    """Return the engine for a URL of `url.parse`; does not connect yet.

    `durable`: a commit survives a power cut. `threads`: how many may use it at the same time; a
    further one waits for PATIENCE_SECONDS.
    """
    make = _sqlite if url.get_backend_name() == "sqlite" else _postgresql
    return make(url, durable=durable, threads=threads)


def reading(engine: Engine) -> Engine:
    """Return the engine for single statements that change nothing, and need no transaction."""
    if engine.dialect.name == "sqlite":
        return engine  # `begin` below leaves them without one
    # Two round trips less, of four.
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def write_ahead(connection: Connection) -> None:
    """Put a SQLite database into write-ahead mode, where readers and a writer don't wait.

    The mode stays with the file. Only one process at a time may do this, and outside of a
    transaction: of eight at once one in fifty is refused, whatever its busy timeout is.
    """
    if connection.dialect.name == "sqlite":
        mode = connection.exec_driver_sql("PRAGMA journal_mode=WAL").scalar()
        if mode != "wal":  # no shared memory, thus a network file system (sqlite.org/wal.html)
            raise CatalogUnavailable("SQLite cannot keep a write-ahead log on this file system")


def _sqlite(url: URL, *, durable: bool, threads: int) -> Engine:
    engine = create_engine(
        url,
        pool_size=threads,
        max_overflow=0,
        pool_timeout=PATIENCE_SECONDS,
        # isolation_level: the driver begins no transactions of its own; `begin` below does.
        connect_args={"timeout": PATIENCE_SECONDS, "isolation_level": None},
    )
    # NORMAL flushes at checkpoints only: a power cut takes the last commits, never the database.
    synchronous = "FULL" if durable else "NORMAL"

    @event.listens_for(engine, "connect")
    def set_up(connection: DBAPIConnection, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA synchronous={synchronous}")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # IMMEDIATE: a transaction that became a writer half-way could be refused at once, without
        # waiting for its turn. Readers are single statements and need no transaction.
        if connection.get_execution_options().get(WRITES):
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _postgresql(url: URL, *, durable: bool, threads: int) -> Engine:
    # What makes a commit durable is the server's own default and its owner's to choose.
    session = SESSION if durable else SESSION | {"synchronous_commit": "off"}
    options = " ".join(f"-c {name}={value}" for name, value in session.items())
    # Of two settings of one name the server takes the last: the URL's come last.
    query = {**LIBPQ, **url.query, "options": f"{options} {url.query.get('options', '')}"}
    return create_engine(
        url.set(query=query),
        pool_size=threads,
        max_overflow=0,
        pool_timeout=PATIENCE_SECONDS,
        pool_pre_ping=True,  # a server that was restarted meanwhile costs no failed request
    )
