"""Which database: a URL as users write it, read into the one form that the engine takes."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

# Schemes that users have from elsewhere, asynchronous drivers included, mean the same here.
DRIVERS = {
    "sqlite": "sqlite+pysqlite",
    "sqlite+aiosqlite": "sqlite+pysqlite",
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "postgresql+asyncpg": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}


def parse(text: str) -> URL:
    """Read the URL of a database. Raises ValueError, which never repeats the URL.

    SQLite: what follows `sqlite:///` is the path of the file as it is, with no quoting and no
    options. PostgreSQL: as libpq's (section 34.1.1.2 of its manual), with its options as query.
    """
    scheme, _, rest = text.partition("://")
    driver = DRIVERS.get(scheme)
    if driver is None:
        raise ValueError(f"a database URL begins with one of {', '.join(DRIVERS)} and ://")
    return _sqlite(driver, rest) if driver.startswith("sqlite") else _postgresql(driver, text)


def describe(url: URL) -> str:
    """Write a URL for a person: no user, no password, no options."""
    shown = URL.create(url.get_backend_name(), host=url.host, port=url.port, database=url.database)
    return shown.render_as_string()


def _sqlite(driver: str, rest: str) -> URL:
    if rest in ("", "/", "/:memory:", ":memory:"):
        raise ValueError(
            "a SQLite database in memory cannot be shared by several workers: give it a file, "
            "sqlite:///path"
        )
    if not rest.startswith("/"):
        raise ValueError("the path of a SQLite database follows three slashes: sqlite:///path")
    return URL.create(driver, database=str(Path(rest[1:]).absolute()))


def _postgresql(driver: str, text: str) -> URL:
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ValueError(
            "a PostgreSQL URL has the form postgresql://user:password@host:port/database"
        ) from None
    if "@" in (url.host or ""):
        # The rest of the password would be taken for the host, and shown in messages.
        raise ValueError("an @ in the password of a database URL is written %40")
    return url.set(drivername=driver)
