"""`GET /files/`: the list, its pages, and its filter by name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from threading import Event
from urllib.parse import quote
from uuid import uuid4

import pytest

from tests.app.samples import upload
from tests.service import Service


@pytest.fixture
def word() -> str:
    """A word that is in no other test's names."""
    return uuid4().hex


def pages(service: Service, query: str) -> Iterator[list[str]]:
    """Yield the ids of each page, as the links lead on."""
    target: str | None = f"/files/?{query}"
    while target is not None:
        answer = service.get(target)
        assert answer.status_code == 200, answer.text
        yield [row["id"] for row in answer.json()]
        target = answer.links.get("next", {}).get("url")


def listed(service: Service, query: str) -> list[str]:
    return [file_id for page in pages(service, query) for file_id in page]


def test_row_is_what_the_receipt_told(service: Service, content: bytes, word: str) -> None:
    accept = {"Accept": "application/json"}
    told = service.post(f"/files/{word}.txt", data=content, headers=accept).json()
    del told["created"]
    answer = service.get(f"/files/?name={word}")
    assert (answer.status_code, answer.json()) == (200, [told])
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-cache"
    assert "Link" not in answer.headers


@pytest.mark.parametrize("path", ["/files", "/files/"])
def test_newest_first(path: str, service: Service, content: bytes, word: str) -> None:
    ids = [upload(service, content, f"{word} {number}") for number in range(5)]
    rows = service.get(f"{path}?name={word}").json()
    assert [row["id"] for row in rows] == ids[::-1]
    times = [datetime.fromisoformat(row["created_at"]) for row in rows]
    assert times == sorted(times, reverse=True)


def test_nothing_found_is_an_empty_list(service: Service, word: str) -> None:
    assert service.get(f"/files/?name={word}").json() == []


def test_page_unless_told_otherwise(service: Service, word: str) -> None:
    ids = [upload(service, b"", word) for _ in range(21)]
    assert list(pages(service, f"name={word}")) == [ids[:0:-1], ids[:1]]


@pytest.mark.parametrize("limit", [1, 2, 4, 5, 6, 1000])
def test_pages_lead_from_one_to_the_next(
    limit: int, service: Service, content: bytes, word: str
) -> None:
    ids = [upload(service, content, word) for _ in range(5)][::-1]
    expected = [ids[at : at + limit] for at in range(0, 5, limit)]
    assert list(pages(service, f"name={word}&limit={limit}")) == expected


@pytest.mark.parametrize(
    ("query", "told"),
    [
        *((f"limit={limit}", "limit is a number from 1 to 1000") for limit in (
            "0", "-1", "+1", "1001", "99999999999999999999", "00000100000000", "1.0", "1e2",
            "x", "", "%201", "%D9%A1", "0x10")),
        ("limit=1&limit=2", "limit is given more than once"),
        ("after=", "this is no cursor of a list of files"),
        ("after=nonsense", "this is no cursor of a list of files"),
        ("after=%C3%B6", "this is no cursor of a list of files"),
        (f"after={'A' * 31}", "this is no cursor of a list of files"),
        (f"after={'A' * 36}", "this is no cursor of a list of files"),
        (f"after={'A' * 32}&after={'A' * 32}", "after is given more than once"),
        ("name=a&name=b", "name is given more than once"),
    ],
)  # fmt: skip
def test_query_that_is_refused(query: str, told: str, service: Service) -> None:
    answer = service.get(f"/files/?{query}")
    assert (answer.status_code, answer.text) == (400, f"{told}\n")


@pytest.mark.parametrize("query", ["limit=1", "limit=01", f"after={'A' * 32}", "name=", "more=x"])
def test_query_that_is_taken(query: str, service: Service) -> None:
    assert service.get(f"/files/?{query}").status_code == 200


# Of a name with {} for a word of its own: what finds it, and what does not.
FOUND = [
    ("{}.txt", "{}"),
    ("{}.txt", ".txt{}", False),
    ("{}.TXT", "{}.txt"),
    ("Straße {}", "STRASSE {}"),
    ("ÄÖ {}", "äö {}"),
    ("A\u0308 {}", "ä {}"),
    ("A {}", "ä {}", False),
    ("100% {}", "100% {}"),
    ("100 {}", "10% {}", False),
    ("a_b {}", "a_b {}"),
    ("axb {}", "a_b {}", False),
    ("a\\b {}", "\\b {}", False),  # a folder of another system's, and gone
    ("a+b&c=d#e {}", "a+b&c=d#e {}"),
    ("油{}", "油{}"),
]


@pytest.mark.parametrize("row", FOUND, ids=lambda row: " ".join(row[:2]))
def test_filter_by_name(row: tuple[str, str, bool], service: Service, word: str) -> None:
    name, asked, *found = row
    ids = [upload(service, b"", name.format(word)) for _ in range(2)][::-1]
    expected = [] if found == [False] else ids
    assert listed(service, f"limit=1&name={quote(asked.format(word))}") == expected


def test_cursor_of_a_file_that_is_deleted(service: Service, word: str) -> None:
    ids = [upload(service, b"", word) for _ in range(4)][::-1]
    first = service.get(f"/files/?name={word}&limit=2")
    for file_id in ids[1:3]:
        assert service.delete(f"/files/{file_id}/").status_code == 200
    following = service.get(first.links["next"]["url"])
    assert [row["id"] for row in following.json()] == ids[3:]


def come_and_go(service: Service, word: str, over: Event) -> int:
    """Store and delete files with that word until it is over; return how many."""
    turns = 0
    with Service(service.daemon) as own:
        while not over.is_set():
            ids = [upload(own, b"", f"{word} passing") for _ in range(3)]
            for file_id in ids:
                assert own.delete(f"/files/{file_id}/").status_code == 200
            turns += 1
    return turns


def test_walk_meets_all_that_stays_exactly_once(service: Service, word: str) -> None:
    over = Event()
    with ThreadPoolExecutor() as pool:
        passing = [pool.submit(come_and_go, service, word, over) for _ in range(3)]
        try:
            staying = [upload(service, b"", f"{word} staying") for _ in range(40)][::-1]
            for _ in range(5):
                walked = listed(service, f"name={word}&limit=3")
                assert len(walked) == len(set(walked))
                assert [file_id for file_id in walked if file_id in staying] == staying
        finally:
            over.set()
        assert all(each.result() for each in passing)
    assert listed(service, f"name={word}&limit=3") == staying


def test_link_is_a_target_of_visible_ascii(service: Service) -> None:
    name = 'a"b>;c=d, \u6cb9'
    for _ in range(2):
        upload(service, b"", name)
    link = service.get(f"/files/?limit=1&name={quote(name)}").headers["Link"]
    found = re.fullmatch(r'<(/files/\?[!$-;=?-Z_a-z~]+)>; rel="next"', link)
    assert found, link
    assert [row["name"] for row in service.get(found[1]).json()] == [name]
