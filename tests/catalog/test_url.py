from __future__ import annotations

import sys
from pathlib import Path

import pytest

from httpd.catalog.catalog import Catalog
from httpd.catalog.url import describe, parse

# What is written: driver, host, port and database that are meant, and what is shown of it.
UNDERSTOOD = {
    "sqlite:////var/lib/a.db": ("sqlite+pysqlite", None, None, "/var/lib/a.db"),
    "sqlite+aiosqlite:////var/lib/a.db": ("sqlite+pysqlite", None, None, "/var/lib/a.db"),
    "sqlite:////a b/100%25?x=1#y": ("sqlite+pysqlite", None, None, "/a b/100%25?x=1#y"),
    "sqlite:///a.db": ("sqlite+pysqlite", None, None, str(Path("a.db").absolute())),
    "postgresql://h/d": ("postgresql+psycopg", "h", None, "d"),
    "postgres://u:hunter2@h:1/d": ("postgresql+psycopg", "h", 1, "d"),
    "postgresql+asyncpg://u:hunter2@h:1/d": ("postgresql+psycopg", "h", 1, "d"),
    "postgresql+psycopg://u:hunter2@[::1]:1/d": ("postgresql+psycopg", "::1", 1, "d"),
    "postgresql:///d?host=/run&password=hunter2": ("postgresql+psycopg", None, None, "d"),
}


@pytest.mark.parametrize("text", UNDERSTOOD)
def test_each_form_is_one_of_two_drivers(text: str) -> None:
    url = parse(text)
    assert (url.drivername, url.host, url.port, url.database) == UNDERSTOOD[text]


@pytest.mark.parametrize("text", UNDERSTOOD)
def test_a_catalog_shows_where_its_rows_are_and_no_password(text: str) -> None:
    catalog = Catalog.open(text)
    assert describe(parse(text)) in repr(catalog)
    assert "hunter2" not in repr(catalog)


def test_a_password_may_hold_any_character() -> None:
    assert parse("postgresql://u:%40%2F%3A%25%C3%A9@h/d").password == "@/:%é"


REFUSED = {
    "": "begins with",
    "catalog.db": "begins with",
    "/var/lib/catalog.db": "begins with",
    "mysql://u:hunter2@h/d": "begins with",
    "postgresql+psycopg2://u:hunter2@h/d": "begins with",
    "SQLITE:///a.db": "begins with",
    "sqlite://": "several workers",
    "sqlite:///": "several workers",
    "sqlite:///:memory:": "several workers",
    "sqlite+aiosqlite:///:memory:": "several workers",
    "sqlite://:memory:": "several workers",
    "sqlite://a.db": "three slashes",
    "sqlite:a.db": "begins with",
    "postgresql://u:hunter2@h:port/d": "form",
    "postgresql://u:hun@ter2@h/d": "%40",
    "postgresql://u:hunter2@h1:1,h2:2/d": "form",
}


@pytest.mark.parametrize("text", REFUSED)
def test_any_other_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match=REFUSED[text]) as refusal:
        Catalog.open(text)
    assert "ter2" not in str(refusal.value)


@pytest.mark.parametrize("text", UNDERSTOOD)
def test_a_driver_can_be_loaded_beforehand(text: str) -> None:
    Catalog.prepare(text)


def test_a_driver_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)  # what makes its import fail
    with pytest.raises(ValueError, match=r"not installed.*psycopg"):
        Catalog.prepare("postgresql://u:hunter2@h/d")
