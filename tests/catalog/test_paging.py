"""The list of files: pages, cursors, the name filter, and the indexes that carry them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from uuid import UUID

import pytest
import sqlalchemy

from httpd.catalog.catalog import Catalog
from httpd.catalog.rows import File
from httpd.catalog.schema import blobs, files
from httpd.catalog.url import parse
from tests.catalog.databases import execute
from tests.catalog.samples import DIGEST, START, a_file, upload

# Several files of one moment are in the order of their ids.
FILES = [a_file(number, f"{number}.txt", second=number // 4) for number in range(1, 14)]
NEWEST_FIRST = FILES[::-1]


def pages(catalog: Catalog, limit: int, name: str | None = None) -> Iterator[tuple[File, ...]]:
    page = catalog.list(limit, name=name)
    yield page.files
    while page.next is not None:
        page = catalog.list(limit, page.next, name)
        yield page.files


@pytest.mark.parametrize("limit", [1, 2, 5, 12, 13, 14])
def test_pages_are_full_but_for_the_last(catalog: Catalog, limit: int) -> None:
    upload(catalog, *FILES[::2], *FILES[1::2])
    expected = [tuple(NEWEST_FIRST[at : at + limit]) for at in range(0, 13, limit)]
    assert list(pages(catalog, limit)) == expected


def test_an_empty_catalog_has_one_empty_page(catalog: Catalog) -> None:
    assert catalog.list(10) == ((), None)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_page_without_room_is_refused(catalog: Catalog, limit: int) -> None:
    with pytest.raises(ValueError, match="page"):
        catalog.list(limit)


def test_a_malformed_cursor_is_refused(catalog: Catalog) -> None:
    with pytest.raises(ValueError, match="cursor"):
        catalog.list(1, "nonsense")


def test_pages_go_on_where_the_file_of_their_cursor_is_gone(catalog: Catalog) -> None:
    upload(catalog, *FILES)
    page = catalog.list(5)
    for file in [*page.files, NEWEST_FIRST[5]]:
        catalog.remove(file.id)
    assert catalog.list(5, page.next).files == tuple(NEWEST_FIRST[6:11])


def test_pages_miss_and_repeat_nothing_while_others_add_and_remove(catalog: Catalog) -> None:
    upload(catalog, *FILES)
    enough = Event()

    def disturb() -> int:
        round_ = 0
        while not enough.is_set() or round_ == 0:
            round_ += 1
            others = [a_file(1000 * round_ + n, "other", second=n) for n in range(5)]
            upload(catalog, *others)
            for other in others[::2]:
                catalog.remove(other.id)
        return round_

    with ThreadPoolExecutor(1) as pool:
        rounds = pool.submit(disturb)
        try:
            for limit in (1, 2, 3) * 3:
                listed = [file for page in pages(catalog, limit) for file in page]
                assert [file for file in listed if file.name != "other"] == NEWEST_FIRST
                assert len(set(listed)) == len(listed)
        finally:
            enough.set()
        assert rounds.result() > 0


FILTERED = [
    ("Report.PDF", ["report.pdf", "PDF", "rT", ".", ""], ["report_pdf", "repo.t", "pdfx", " "]),
    ("100%.txt", ["%", "0%."], ["1%0", "%%"]),
    ("a_b", ["_", "A_B"], ["__", "a__b"]),
    ("a/b", ["/", "a/b"], ["//", "a//b"]),
    ("back\\slash", ["\\", "K\\S"], ["\\\\", "back\\\\slash"]),
    ("[x]*?.txt", ["[x]", "*?"], ["[a-z]", "?x"]),
    ("ÜBERGRÖSSE", ["übergrösse", "Größe", "ß"], ["ubergrosse"]),
    ("weiß", ["WEISS", "ẞ", "ss"], ["weis s"]),
    ("ΣΊΣΥΦΟΣ", ["σίσυφος", "Σίσυφος"], ["σισυφος"]),
    ("e\u0301te\u0301", ["été", "ÉTÉ", "e\u0301"], ["ete", "e"]),
    ("İstanbul", ["i\u0307STANBUL", "İ"], ["istanbul"]),
    ("Жук.txt", ["жУК"], ["zhuk"]),
    ("日本🦊", ["本🦊", "🦊"], ["🐺"]),
    ("quote'\"", ["'", "'\""], ["''"]),
]


@pytest.mark.parametrize(("name", "matching", "others"), FILTERED)
def test_a_filter_finds_a_part_of_a_name_in_any_case(
    catalog: Catalog, name: str, matching: list[str], others: list[str]
) -> None:
    file = a_file(name=name)
    upload(catalog, file)
    assert [catalog.list(1, name=text).files for text in matching] == [(file,)] * len(matching)
    assert [catalog.list(1, name=text).files for text in others] == [()] * len(others)


@pytest.mark.parametrize("limit", [1, 2, 3, 4])
def test_a_filter_goes_on_through_the_pages(catalog: Catalog, limit: int) -> None:
    upload(catalog, *FILES)
    matching = [file for file in NEWEST_FIRST if "1" in file.name]
    assert len(matching) == 5
    expected = [tuple(matching[at : at + limit]) for at in range(0, 5, limit)]
    assert list(pages(catalog, limit, "1")) == expected


INDEXED: dict[str, Callable[[Catalog], object]] = {
    "find": lambda catalog: catalog.find(a_file(77).id),
    "remove": lambda catalog: catalog.remove(a_file(77).id),
    "references": lambda catalog: catalog.references(f"{77:032x}"),
    "first page": lambda catalog: catalog.list(10),
    "next page": lambda catalog: catalog.list(10, catalog.list(10).next),
    "note": lambda catalog: catalog.note(f"{77:032x}", "md5", 5, None),
    "mark": lambda catalog: catalog.mark_stored_by_hash(f"{77:032x}"),
    "forget": lambda catalog: catalog.forget(DIGEST),
}
# How the plans call it when a whole table is read or sorted.
SLOW = ("SCAN files", "SCAN blobs", "TEMP B-TREE", "Seq Scan", "Sort")
FAST = "SCAN files USING INDEX files_newest"  # in its order, until the page is full


def fill(url: str, count: int) -> None:
    """Add files the fast way, past the catalog."""
    us = int(START.timestamp()) * 1_000_000
    digests = [f"{n:032x}" for n in range(count)]
    blob = {"algorithm": "md5", "size": 1, "stored_by_hash": False, "token": None, "noted_us": us}
    file = {"name": "", "folded_name": "", "type": None}
    engine = sqlalchemy.create_engine(parse(url))
    with engine.begin() as connection:
        connection.execute(sqlalchemy.insert(blobs), [blob | {"digest": d} for d in digests])
        connection.execute(
            sqlalchemy.insert(files),
            [
                file | {"id": str(UUID(int=n)), "digest": d, "created_us": us + n % 1000}
                for n, d in enumerate(digests)
            ],
        )
    engine.dispose()


def plan_of(url: str, statement: str, values: object) -> str:
    engine = sqlalchemy.create_engine(parse(url))
    explain = "EXPLAIN" if engine.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN"
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(f"{explain} {statement}", values).all()  # type: ignore[arg-type]
    engine.dispose()
    return "\n".join(str(row[-1]) for row in rows)


@contextmanager
def statements() -> Iterator[list[tuple[str, object]]]:
    """Collect what is executed meanwhile, whichever engine does: statements and their values."""
    seen: list[tuple[str, object]] = []

    def note(*event: object) -> None:
        _, _, statement, values, *_ = event
        seen.append((" ".join(str(statement).split()), values))

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", note)
    yield seen
    sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", note)


def test_ten_thousand_files_are_found_by_the_indexes(catalog: Catalog, url: str) -> None:
    catalog.check()
    fill(url, 10_000)
    execute(url, "ANALYZE blobs", "ANALYZE files")
    for name, act in INDEXED.items():
        with statements() as seen:
            act(catalog)
        searching = [each for each in seen if " WHERE " in each[0] or " ORDER BY " in each[0]]
        assert searching, name
        for statement, values in searching:
            plan = plan_of(url, statement, values)
            assert not any(word in plan.replace(FAST, "") for word in SLOW), f"{name}: {plan}"
