"""From an empty database, or that of an earlier version, to the tables that are declared."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest
import sqlalchemy

from httpd.catalog import migrations
from httpd.catalog.catalog import Catalog
from httpd.catalog.errors import CatalogUnavailable
from httpd.catalog.schema import metadata
from httpd.catalog.url import parse
from tests.catalog.databases import execute
from tests.catalog.samples import a_file, upload
from tests.daemons import PATIENCE

NEWER = ("ALTER TABLE files ADD COLUMN expires_us BIGINT", "CREATE TABLE quotas (size BIGINT)")


def version(url: str) -> list[tuple[object, ...]]:
    return execute(url, "SELECT version FROM schema_version")


def described(table: sqlalchemy.Table, *, comments: bool) -> dict[str, Any]:
    """Write down what matters of a table, whether it was declared or reflected."""
    return {
        "columns": {
            column.name: (str(column.type), column.nullable, column.comment if comments else "")
            for column in table.columns
        },
        "primary key": [column.name for column in table.primary_key],
        "references": {(key.parent.name, key.target_fullname) for key in table.foreign_keys},
        "indexes": {index.name: [c.name for c in index.columns] for index in table.indexes},
    }


def test_the_steps_make_the_tables_that_are_declared(catalog: Catalog, url: str) -> None:
    catalog.check()
    engine = sqlalchemy.create_engine(parse(url))
    made = sqlalchemy.MetaData()
    made.reflect(engine)
    assert set(made.tables) == set(metadata.tables)
    comments = engine.dialect.supports_comments
    for name, table in metadata.tables.items():
        assert all(column.comment for column in table.columns)
        assert described(made.tables[name], comments=comments) == described(
            table, comments=comments
        )
    engine.dispose()


def migrate_in_a_process(url: str) -> None:
    catalog = Catalog.open(url)
    catalog.check()
    catalog.close()


def test_workers_that_start_at_once_migrate_once(url: str, processes: ProcessPoolExecutor) -> None:
    started = [processes.submit(migrate_in_a_process, url) for _ in range(6)]
    for process in started:
        process.result(PATIENCE)
    assert version(url) == [(len(migrations.STEPS),)]


def test_a_database_of_a_newer_version_is_refused(catalog: Catalog, url: str) -> None:
    upload(catalog, a_file())
    execute(url, "UPDATE schema_version SET version = 99")
    newer = Catalog.open(url)
    with pytest.raises(CatalogUnavailable, match=r"version 99.*up to 1"):
        newer.find(a_file().id)
    with pytest.raises(CatalogUnavailable, match="version 99"), newer.locked("00"):
        pass
    assert version(url) == [(99,)]


def test_an_older_database_is_brought_up_to_date_with_what_is_in_it(
    catalog: Catalog, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(catalog, a_file())
    monkeypatch.setattr(migrations, "STEPS", (*migrations.STEPS, NEWER))
    newer = Catalog.open(url)
    assert newer.find(a_file().id) == a_file()
    assert execute(url, "SELECT expires_us FROM files") == [(None,)]
    assert version(url) == [(2,)]
    newer.close()


def test_a_step_that_fails_leaves_the_database_as_it_was(
    catalog: Catalog, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(catalog, a_file())
    broken = (*NEWER, "CREATE TABLE quotas (size BIGINT)")
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "STEPS", (*migrations.STEPS, broken))
        newer = Catalog.open(url)
        with pytest.raises(CatalogUnavailable, match="already exists"):
            newer.check()
        newer.close()
    assert version(url) == [(1,)]
    monkeypatch.setattr(migrations, "STEPS", (*migrations.STEPS, NEWER))
    newer = Catalog.open(url)
    assert newer.find(a_file().id) == a_file()
    newer.close()
