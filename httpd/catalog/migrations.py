"""From a database of any earlier version, or an empty one, to the tables of `schema`.

A list of steps and the number of those applied is all it takes, so there is no Alembic here: its
scripts, environment and command line are for schemas that several branches change at once.
A step is never edited once it is released, only followed by another; therefore steps are SQL text,
understood by both databases, and do not follow the changes of `schema`.
"""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, inspect, select
from sqlalchemy.schema import SetColumnComment

from httpd.catalog.errors import CatalogUnavailable
from httpd.catalog.schema import metadata, schema_version

STEPS: tuple[tuple[str, ...], ...] = (
    # 1: names, and the content that they refer to.
    (
        "CREATE TABLE schema_version (version INTEGER NOT NULL)",
        """
        CREATE TABLE blobs (
            digest TEXT NOT NULL PRIMARY KEY,
            algorithm TEXT NOT NULL,
            size BIGINT NOT NULL,
            stored_by_hash BOOLEAN NOT NULL,
            token TEXT,
            noted_us BIGINT NOT NULL
        )
        """,
        """
        CREATE TABLE files (
            id TEXT NOT NULL PRIMARY KEY,
            digest TEXT NOT NULL REFERENCES blobs (digest),
            name TEXT NOT NULL,
            folded_name TEXT NOT NULL,
            type TEXT,
            created_us BIGINT NOT NULL
        )
        """,
        "CREATE INDEX files_newest ON files (created_us, id)",
        "CREATE INDEX files_digest ON files (digest)",
    ),
)


def version_of(connection: Connection) -> int:
    """Return how many steps the database has seen, 0 for an empty one.

    Raises CatalogUnavailable if they are more than this program knows.
    """
    if not inspect(connection).has_table(schema_version.name):
        return 0
    version: int = connection.scalars(select(schema_version.c.version)).one()
    if version > len(STEPS):
        raise CatalogUnavailable(
            f"the database has schema version {version}, made by a newer filestored; "
            f"this one knows versions up to {len(STEPS)}"
        )
    return version


def migrate(connection: Connection, version: int) -> None:
    """Apply the steps that follow `version`, in the transaction that `connection` is in.

    The caller keeps others out meanwhile.
    """
    for step in STEPS[version:]:
        for statement in step:
            connection.exec_driver_sql(statement)
    connection.execute(delete(schema_version))
    connection.execute(insert(schema_version).values(version=len(STEPS)))
    if connection.dialect.supports_comments:
        for table in metadata.sorted_tables:
            for column in table.columns:
                connection.execute(SetColumnComment(column))
