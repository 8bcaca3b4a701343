"""The names of an older store: a table `file(id, name)` in a database of its own, only read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from sqlalchemy import (
    URL,
    Engine,
    column,
    create_engine,
    event,
    func,
    select,
    table,
)
from sqlalchemy.engine.interfaces import DBAPIConnection

from httpd.catalog import url as urls
from httpd.catalog.failures import answering

BATCH = 500
"""Rows that are held at once; no transaction lasts longer than it takes to read them."""

_FILE = table("file", column("id"), column("name"))


class OlderNames:
    """Yields pairs of an id and a name, each as text. Raises CatalogUnavailable."""

    def __init__(self, url: str) -> None:
        """Take the URL of the database (forms: `url.parse`). Raises ValueError."""
        self._engine = _engine(urls.parse(url))

    def __len__(self) -> int:
        """Return how many there are."""
        with answering(), self._engine.connect() as connection:
            return connection.scalars(select(func.count()).select_from(_FILE)).one()

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Yield all of them, in the order of their ids."""
        query = select(_FILE.c.id, _FILE.c.name).order_by(_FILE.c.id).limit(BATCH)
        rest = query
        while rows := self._rows(rest):
            for file_id, name in rows:
                # No character of a name means NUL, and the catalog cannot keep it.
                yield str(file_id), str(name or "").replace("\0", "\N{REPLACEMENT CHARACTER}")
            rest = query.where(_FILE.c.id > rows[-1].id)

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def _rows(self, query: Any) -> list[Any]:
        with answering(), self._engine.connect() as connection:
            return list(connection.execute(query))


def _engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        return create_engine(url)
    # Opened as a URI, so that it is not written to, and not made (sqlite.org/uri.html).
    file = URL.create(
        url.drivername, database=f"file:{quote(url.database or '')}",
        query={"mode": "ro", "uri": "true"},
    )  # fmt: skip
    engine = create_engine(file)

    @event.listens_for(engine, "connect")
    def set_up(connection: DBAPIConnection, _record: object) -> None:
        # A name in another encoding is taken with marks where it cannot be read.
        connection.text_factory = lambda raw: raw.decode(errors="replace")

    return engine
