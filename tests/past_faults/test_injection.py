"""Input that became something else at other Python servers: a field, a line, a path, a page."""

from __future__ import annotations

import json

import pytest

from tests import raw
from tests.daemons import Daemon, until
from tests.past_faults.attacks import answers
from tests.service import Service

ESCAPES = ["%1B[2J", "%0D%0A127.0.0.1%20-%20-%20forged", "%C2%9B2J", "%00", "%7F"]


@pytest.mark.parametrize("escape", ESCAPES)
def test_cve_2020_7694_escape_sequences_in_the_log(escape: str, service: Service) -> None:
    """uvicorn: targets were logged decoded, and drove the terminal that showed them."""
    mark = f"/{escape}cve-2020-7694"
    answers(service.daemon, raw.head(f'GET {mark}"', "User-Agent: \x9b2J\xad"))
    log = service.daemon.logs / "access.log"
    until(lambda: mark in log.read_text(), "the request is not logged")
    line = next(line for line in log.read_text().splitlines() if mark in line)
    assert line.isprintable()
    assert line.isascii()
    assert line.startswith("127.0.0.1 - - [")
    assert f'"GET {mark}\\x22 HTTP/1.1" 4' in line  # and the quotes are not its own


SPLITS = ["%0D%0AX-Evil:%20yes", "%0AX-Evil:%20yes", "%0DX-Evil:%20yes", "%0D%0A%0D%0Aevil"]


@pytest.mark.parametrize("split", SPLITS)
def test_cve_2020_7695_response_splitting(split: str, service: Service) -> None:
    """uvicorn: line ends in a value of a response's field were sent as they were."""
    digest = service.post("/", data=b"to be split").text
    for target in (f"/?file_hash={digest}&name={split}", f"/files/{split}", f"/{split}"):
        for request in (raw.head(f"GET {target}"), raw.post(b"x", target=target)):
            (answer,) = answers(service.daemon, request)
            assert "x-evil" not in answer.fields
            assert answer.status in (400, 404)


@pytest.mark.parametrize("split", SPLITS)
def test_cve_2025_67724_reason_phrase(split: str, service: Service) -> None:
    """Tornado, and GHSA-mwh4-6h8g-pg8w aiohttp: the reason phrase could be the client's words."""
    with service.daemon.connect() as client:
        client.sendall(raw.head(f"GET /?file_hash={split}", "Connection: close"))
        received = raw.receive_all(client)
    assert received.startswith(b"HTTP/1.1 400 Bad Request\r\n")


OPEN_REDIRECTS = ["//evil.example/", "//evil.example/..", "/\\evil.example", "///evil.example//",
                  "//evil.example/files", "/.//evil.example/"]  # fmt: skip


@pytest.mark.parametrize("target", OPEN_REDIRECTS)
def test_cve_2021_21330_open_redirect(target: str, service: Service) -> None:
    """aiohttp, CVE-2023-28370 Tornado, CVE-2021-28861 CPython: `//host` redirected to that host."""
    (answer,) = answers(service.daemon, raw.head(f"GET {target}"))
    assert answer.status in (400, 404)
    assert "location" not in answer.fields


TRAVERSALS = ["../../../../etc/passwd", "..%2f..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd",
              "....//....//etc/passwd", "..\\..\\etc\\passwd", "/etc/passwd", ".tmp", ".catalog.db",
              ".deletions", "%2e%2e%5c%2e%2e%5cetc%5cpasswd"]  # fmt: skip


@pytest.mark.parametrize("path", TRAVERSALS)
def test_cve_2024_23334_path_traversal(path: str, service: Service) -> None:
    """aiohttp, and CVE-2025-69226: a path left the folder of what was served."""
    for target in (f"/{path}", f"/files/{path}", f"/files/{path}/", f"/?file_hash={path}"):
        (answer,) = answers(service.daemon, raw.head(f"GET {target}"))
        assert answer.status in (400, 404)
        assert b"root:" not in answer.content
        assert not answer.content.startswith(b"SQLite")


NAMES = ["../../escaped", "/escaped", "..\\escaped", "C:\\escaped", "a/../../escaped",
         "//host/escaped", ".tmp/escaped"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_cve_2026_24486_name_of_an_upload(name: str, service: Service) -> None:
    """python-multipart, and CVE-2024-49766 Werkzeug: a file's name was a path to write to."""
    quoted = name.replace("\\", "\\\\")
    part = raw.part(f'name="file"; filename="{quoted}"', b"escaped?")
    sent = raw.form(part).replace(b"POST / ", b"POST /files/ ")
    (answer,) = answers(service.daemon, sent)
    assert answer.status == 201
    assert not list(service.daemon.folder.parent.rglob("*escaped*"))
    row = next(row for row in service.get("/files/").json() if row["id"] == answer.content.decode())
    assert row["name"] == "escaped"


def test_cve_2024_27306_markup_in_the_list(service: Service) -> None:
    """aiohttp: names of files were markup on the index page."""
    part = raw.part('name="file"; filename="<img src=x onerror=alert(1)>.txt"', b"marked up")
    answers(service.daemon, raw.form(part).replace(b"POST / ", b"POST /files/ "))
    (answer,) = answers(service.daemon, raw.head("GET /files/", "Accept: text/html"))
    assert answer.fields["content-type"] == "application/json"
    assert answer.fields["x-content-type-options"] == "nosniff"
    assert json.loads(answer.content)
    (page,) = answers(service.daemon, raw.head("GET /", "Accept: text/html"))
    assert b"onerror" not in page.content


@pytest.mark.parametrize("kind", ["a/b\rX: y", "a/b\nX: y", "text/plain\x1eX: y", "a/b\x0bX: y"])
def test_cve_2026_34514_type_with_a_line_end(kind: str, service: Service) -> None:
    """aiohttp, and CVE-2026-50269: a type from outside ended the line in the head of a part."""
    request = raw.post(b"0123456789", f"Content-Type: {kind}", target="/files/")
    assert [answer.status for answer in answers(service.daemon, request)] == [400]


@pytest.mark.parametrize("kind", ["a/b\x85X: y", "a/b X: y", "a/b;X: y", 'a/"b"', "a/b\xa0"])
def test_cve_2026_34514_type_of_a_part(kind: str, service: Service) -> None:
    """The same, with what is no line end to HTTP but may be one to others."""
    request = raw.post(b"0123456789", f"Content-Type: {kind}", target="/files/")
    (receipt,) = answers(service.daemon, request)
    request = raw.head(f"GET /files/{receipt.content.decode()}/", "Range: bytes=0-1,4-5")
    (answer,) = answers(service.daemon, request)
    assert answer.status == 206
    assert b"X:" not in answer.content
    assert answer.content.count(b"\r\nContent-Type: ") == 2


@pytest.mark.parametrize("value", ["bytes=\xb2-", "bytes=\u0661-\u0662", "bytes=-\uff15"])
def test_cve_2025_69225_range_in_other_digits(value: str, service: Service) -> None:
    """aiohttp: a range was read with the digits of all alphabets."""
    digest = service.post("/", data=b"0123456789").text
    sent = raw.head(f"GET /?file_hash={digest}", "Range: VALUE").replace(b"VALUE", value.encode())
    (answer,) = answers(service.daemon, sent)
    assert (answer.status, answer.content) == (200, b"0123456789")


def test_cve_2023_49082_method_of_any_bytes(daemon: Daemon) -> None:
    """aiohttp: a method was passed on with the line ends in it."""
    daemon.start()
    for method in ("GET\r\nX: y", "GE\tT", "GET /\r\nHost: a\r\n\r\nGET"):
        found = answers(daemon, f"{method} /healthz HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert [answer.status for answer in found] == [400]
