"""Which kind of database a URL means, as far as it can be told without SQLAlchemy."""

from __future__ import annotations

from pathlib import Path

SQLITE = "sqlite+pysqlite"

# Schemes that users have from elsewhere, asynchronous drivers included, mean the same here.
DRIVERS = {
    "sqlite": SQLITE,
    "sqlite+aiosqlite": SQLITE,
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "postgresql+asyncpg": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}


def driver(url: str) -> str:
    """Return SQLAlchemy's name of the database and its driver. Raises ValueError."""
    found = DRIVERS.get(url.partition("://")[0])
    if found is None or "://" not in url:
        raise ValueError(f"a database URL begins with one of {', '.join(DRIVERS)} and ://")
    return found


def sqlite_file(url: str) -> str:
    """Return the absolute path of SQLite's file: what follows `sqlite:///` as it is.

    Raises ValueError.
    """
    rest = url.partition("://")[2]
    if rest in ("", "/", "/:memory:", ":memory:"):
        raise ValueError(
            "a SQLite database in memory cannot be shared by several workers: give it a file, "
            "sqlite:///path"
        )
    if not rest.startswith("/"):
        raise ValueError("the path of a SQLite database follows three slashes: sqlite:///path")
    return str(Path(rest[1:]).absolute())
