"""Which database: a URL as users write it, read into the one form that the engine takes."""

from __future__ import annotations

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from httpd.catalog import scheme


def parse(text: str) -> URL:
    """Read the URL of a database. Raises ValueError, which never repeats the URL.

    SQLite: what follows `sqlite:///` is the path of the file as it is, with no quoting and no
    options. PostgreSQL: as libpq's (section 34.1.1.2 of its manual), with its options as query.
    """
    driver = scheme.driver(text)
    if driver == scheme.SQLITE:
        return URL.create(driver, database=scheme.sqlite_file(text))
    return _postgresql(driver, text)


def describe(url: URL) -> str:
    """Write a URL for a person: no user, no password, no options."""
    shown = URL.create(url.get_backend_name(), host=url.host, port=url.port, database=url.database)
    return shown.render_as_string()


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
