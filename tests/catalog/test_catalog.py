"""What holds for the catalog over either database."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import pytest

from httpd.catalog.catalog import Catalog
from httpd.catalog.rows import BlobRow
from tests.catalog.databases import execute
from tests.catalog.samples import DIGEST, OTHER_DIGEST, START, a_file, upload
from tests.daemons import PATIENCE, until

NAMES = [
    "a.txt",
    "",
    " two  spaces ",
    "quote\"apostrophe'semicolon;comma,",
    "'; DROP TABLE files; --",
    "100%_\\/[x]*?",
    "line\nfeed\r\ttab\x01\x7f",
    "übergröße ÅÄÖ žluťoučký",
    "e\u0301 decomposed stays decomposed",
    "日本語の名前.txt",
    "مرحبا\u202e",
    "👩‍👩‍👧‍👦🏳️‍🌈.png",
    "\U0010ffff\uffff",
    "x" * 300,
    "🦊" * 300,
    ":name %(name)s {name} $1",
]
# What neither database keeps, or only one.
UNSTORABLE = ["a\0b", "half of a pair \ud83d"]


def blob_of(catalog: Catalog, digest: str = DIGEST) -> BlobRow:
    row = catalog.blob(digest)
    assert row is not None
    return row


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("media_type", ["image/png", None], ids=["typed", "untyped"])
def test_a_file_comes_back_as_it_was_added(
    catalog: Catalog, name: str, media_type: str | None
) -> None:
    file = a_file(name=name)._replace(type=media_type)
    upload(catalog, file)
    assert catalog.find(file.id) == file
    assert catalog.list(1, name=name).files == (file,)
    assert catalog.remove(file.id) == file
    assert catalog.find(file.id) is None
    assert catalog.remove(file.id) is None


@pytest.mark.parametrize(
    "created_at",
    [
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC),
        datetime(2024, 6, 1, 12, 0, 0, 1, timezone(timedelta(hours=2))),
        datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC),
    ],
    ids=str,
)
def test_a_moment_is_kept_to_the_microsecond(catalog: Catalog, created_at: datetime) -> None:
    upload(catalog, a_file()._replace(created_at=created_at))
    found = catalog.find(a_file().id)
    assert found is not None
    assert found.created_at == created_at
    assert found.created_at.tzinfo is UTC


@pytest.mark.parametrize("text", UNSTORABLE, ids=ascii)
def test_text_that_not_every_database_keeps_is_refused(catalog: Catalog, text: str) -> None:
    upload(catalog, a_file(1))
    bad = a_file(2)
    for file in [bad._replace(name=text), bad._replace(type=text)]:
        with pytest.raises(ValueError, match=r"NUL|surrogates"):
            catalog.add(file, stored_by_hash=None)
    with pytest.raises(ValueError, match=r"NUL|surrogates"):
        catalog.list(1, name=text)
    assert list(catalog.files()) == [a_file(1)]


@pytest.mark.parametrize(
    "file_id",
    [
        "",
        "x",
        "a\0",
        "0123456789abcdef0123456789abcdef",
        "01234567-89AB-CDEF-0123-456789ABCDEF",
        "{01234567-89ab-cdef-0123-456789abcdef}",
        "01234567-89ab-cdef-0123-456789abcdef\n",
        "01234567-89ab-cdef-0123-456789abcde\N{ARABIC-INDIC DIGIT ONE}",
    ],
    ids=ascii,
)
def test_an_id_in_any_other_form_is_nobodys(catalog: Catalog, file_id: str) -> None:
    upload(catalog, a_file())
    assert catalog.find(file_id) is None
    assert catalog.remove(file_id) is None
    with pytest.raises(ValueError, match="canonical"):
        catalog.add(a_file()._replace(id=file_id), stored_by_hash=None)


REFUSED: dict[str, Callable[[Catalog], object]] = {
    "an id that is taken": lambda catalog: catalog.add(a_file(1), stored_by_hash=True),
    "content not noted": lambda catalog: catalog.add(
        a_file(2, digest=OTHER_DIGEST), stored_by_hash=True
    ),
    "forgetting content in use": lambda catalog: catalog.forget(DIGEST),
}


@pytest.mark.parametrize("act", REFUSED.values(), ids=REFUSED)
def test_what_would_break_a_reference_is_refused_whole(
    catalog: Catalog, act: Callable[[Catalog], object]
) -> None:
    upload(catalog, a_file(1))
    with pytest.raises(ValueError, match="refuses"):
        act(catalog)
    assert list(catalog.files()) == [a_file(1)]
    assert [row.stored_by_hash for row in catalog.blobs()] == [False]


def test_only_the_first_note_makes_the_row(catalog: Catalog) -> None:
    before = datetime.now(UTC)
    assert catalog.note(DIGEST, "md5", 1 << 40, "first") is True
    row = blob_of(catalog)
    assert row[:-1] == (DIGEST, "md5", 1 << 40, False, "first")
    assert before <= row.noted_at <= datetime.now(UTC)
    assert catalog.note(DIGEST, "md5", 6, None) is False


def test_a_row_that_an_upload_has_left_over_tells_of_the_next_one(catalog: Catalog) -> None:
    catalog.note(DIGEST, "md5", 5, "first")
    left_over = blob_of(catalog)
    assert catalog.note(DIGEST, "md4", 6, "second") is False
    row = blob_of(catalog)
    assert row[:-1] == (DIGEST, "md4", 6, False, "second")
    assert row.noted_at >= left_over.noted_at


@pytest.mark.parametrize("reason", ["a file", "stored by hash"])
def test_a_row_that_is_referred_to_stays_as_it_is(catalog: Catalog, reason: str) -> None:
    catalog.note(DIGEST, "md5", 5, "first")
    if reason == "a file":
        catalog.add(a_file(), stored_by_hash=None)
    else:
        catalog.mark_stored_by_hash(DIGEST)
    row = blob_of(catalog)
    assert catalog.note(DIGEST, "md5", 6, "second") is False
    assert blob_of(catalog) == row


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("then", [None, False, True])
def test_adding_says_whether_content_was_stored_by_hash(
    catalog: Catalog, *, first: bool, then: bool | None
) -> None:
    catalog.note(DIGEST, "md5", 5, None)
    catalog.add(a_file(1), stored_by_hash=first)
    catalog.add(a_file(2), stored_by_hash=then)
    assert blob_of(catalog).stored_by_hash is (first if then is None else then)


def test_content_is_marked_stored_by_hash_where_it_has_a_row(catalog: Catalog) -> None:
    upload(catalog, a_file(1), a_file(2, digest=OTHER_DIGEST))
    assert catalog.mark_stored_by_hash(DIGEST) is True
    assert catalog.mark_stored_by_hash(DIGEST) is True
    assert catalog.mark_stored_by_hash("00") is False
    assert [row.stored_by_hash for row in catalog.blobs()] == [True, False]


def test_references_are_counted_for_each_digest(catalog: Catalog) -> None:
    upload(catalog, a_file(1), a_file(2), a_file(3, digest=OTHER_DIGEST))
    counts = [catalog.references(digest) for digest in (DIGEST, OTHER_DIGEST, "00")]
    assert counts == [2, 1, 0]
    catalog.remove(a_file(1).id)
    assert catalog.references(DIGEST) == 1


def test_content_without_references_can_be_forgotten(catalog: Catalog) -> None:
    upload(catalog, a_file())
    catalog.remove(a_file().id)
    catalog.forget(DIGEST)
    catalog.forget(DIGEST)
    assert catalog.blob(DIGEST) is None
    assert catalog.note(DIGEST, "md5", 5, None) is True


def test_an_orphan_has_no_file_and_was_not_stored_by_hash(catalog: Catalog) -> None:
    upload(catalog, a_file(1), a_file(2, digest="02"), a_file(3, digest="03"))
    catalog.mark_stored_by_hash("02")
    for number in (2, 3):
        catalog.remove(a_file(number).id)
    catalog.note("04", "sha1", 9, "never published")
    assert [row.digest for row in catalog.unreferenced()] == ["03", "04"]
    assert [row.digest for row in catalog.blobs()] == ["02", "03", "04", DIGEST]


@pytest.mark.parametrize("count", [0, 1, 5, 6, 7, 12])
def test_iterators_cross_their_batches_while_rows_are_taken_away(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr("httpd.catalog.catalog.BATCH", 6)
    digests = [f"{number:032x}" for number in range(count)]
    upload(catalog, *(a_file(n, digest=digest) for n, digest in enumerate(digests)))
    assert [row.digest for row in catalog.blobs()] == digests
    removed = [catalog.remove(file.id) for file in catalog.files()]
    assert [file.digest for file in removed if file] == digests[::-1]
    forgotten = []
    for row in catalog.unreferenced():
        catalog.forget(row.digest)
        forgotten.append(row.digest)
    assert forgotten == digests
    assert list(catalog.blobs()) == []


def test_another_catalog_sees_what_one_has_done(catalog: Catalog, url: str) -> None:
    upload(catalog, a_file(1))
    other = Catalog.open(url, durable=False)
    assert other.find(a_file(1).id) == a_file(1)
    other.remove(a_file(1).id)
    assert catalog.find(a_file(1).id) is None
    other.close()


@pytest.mark.parametrize(
    ("durable", "expected"),
    [(True, {"sqlite": 2, "postgresql": "on"}), (False, {"sqlite": 1, "postgresql": "off"})],
    ids=["durable", "scratch"],
)
def test_a_commit_is_flushed_where_it_must_be_durable(
    url: str, expected: dict[str, object], *, durable: bool
) -> None:
    catalog = Catalog.open(url, durable=durable)
    ask = {"sqlite": "PRAGMA synchronous", "postgresql": "SHOW synchronous_commit"}
    with catalog._writing() as connection:
        kind = connection.dialect.name
        assert connection.exec_driver_sql(ask[kind]).scalar() == expected[kind]
    catalog.close()


def test_of_two_who_remove_a_file_one_has_removed_it(postgresql_url: str) -> None:
    catalog = Catalog.open(postgresql_url)
    upload(catalog, a_file())
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'transactionid'"
    with ThreadPoolExecutor(1) as pool:
        with catalog._writing() as connection:
            connection.exec_driver_sql("DELETE FROM files")
            late = pool.submit(catalog.remove, a_file().id)
            until(lambda: execute(postgresql_url, waiting), "it waits for the first")
        assert late.result(PATIENCE) is None
    catalog.close()


def test_a_catalog_refuses_to_cross_a_fork(catalog: Catalog) -> None:
    catalog.check()
    child = os.fork()
    if child == 0:
        refusals = 0
        for act in (catalog.check, catalog.locked(DIGEST).__enter__):
            try:
                act()
            except RuntimeError:
                refusals += 1
        os._exit(refusals)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    catalog.check()


def test_a_naive_moment_is_a_mistake(catalog: Catalog) -> None:
    catalog.note(DIGEST, "md5", 5, None)
    with pytest.raises(TypeError):
        catalog.add(a_file()._replace(created_at=START.replace(tzinfo=None)), stored_by_hash=None)
