"""What is refused, with which status, and in which words."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from errno import EACCES, EDQUOT, EIO, EMFILE, ENOMEM, ENOSPC

import pytest

from httpd.app.errors import refusal_of
from tests import raw
from tests.daemons import Daemon
from tests.service import Service, blobs_in

MD5 = "0" * 32


@pytest.mark.parametrize("path", ["/", "/photo.jpg", "/healthz", "/nowhere/at/all", f"/{MD5}"])
@pytest.mark.parametrize("method", ["PUT", "OPTIONS", "PATCH", "TRACE", "FOO", "get", "POST2"])
def test_other_methods(method: str, path: str, service: Service) -> None:
    answer = raw.ask(service.daemon.connect(), raw.head(f"{method} {path}"))
    assert (answer.status, answer.fields["allow"]) == (405, "GET, POST, DELETE")


@pytest.mark.parametrize("target", ["/", f"/?file_hash={MD5}", "/healthz"])
def test_head_is_not_served_and_has_no_content(target: str, service: Service) -> None:
    with service.daemon.connect() as client:
        client.sendall(raw.head(f"HEAD {target}", "Connection: close"))
        answer = raw.answer_in(raw.receive_all(client))
    assert (answer.status, answer.fields["allow"]) == (405, "GET, POST, DELETE")
    assert answer.content == b""


@pytest.mark.parametrize("line", ["OPTIONS *", "CONNECT test:80"])
def test_targets_of_other_methods(line: str, service: Service) -> None:
    assert raw.ask(service.daemon.connect(), raw.head(line)).status == 405


@pytest.mark.parametrize("method", ["POST", "DELETE"])
@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_methods_of_a_probe(path: str, method: str, service: Service) -> None:
    answer = service.request(method, path)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("path", ["/nowhere", "/nowhere/", "/healthz/", "//", "/.tmp", "/../etc"])
def test_unknown_path(path: str, method: str, service: Service) -> None:
    answer = raw.ask(service.daemon.connect(), raw.head(f"{method} {path}"))
    assert answer.status == 404


DIGESTS = {
    "none": "?file_has=1",
    "no value": "?file_hash",
    "empty": "?file_hash=",
    "twice": f"?file_hash={MD5}&file_hash={MD5}",
    "a digit less": f"?file_hash={MD5[1:]}",
    "a digit more": f"?file_hash={MD5}0",
    "no hex": f"?file_hash={MD5[1:]}g",
    "space before": f"?file_hash=+{MD5}",
    "line end after": f"?file_hash={MD5}%0A",
    "NUL after": f"?file_hash={MD5}%00",
    "other digits": "?file_hash=" + "%D9%A0" * 32,  # ARABIC-INDIC DIGIT ZERO
    "wide digits": "?file_hash=" + "%EF%BC%91" * 32,  # FULLWIDTH DIGIT ONE
    "not UTF-8": f"?file_hash={MD5[1:]}%FF",
    "broken escape": f"?file_hash={MD5[1:]}%F",
    "path": "?file_hash=../../../../etc/passwd",
    "path of that length": "?file_hash=" + "../" * 10 + "xx",
    "encoded path": "?file_hash=..%2F..%2Fetc%2Fpasswd",
    "path of a blob": f"?file_hash={MD5[:2]}/{MD5}",
    "staging": "?file_hash=.tmp",
    "unknown algorithm": f"?file_hash=md6:{MD5}",
    "other algorithm": f"?file_hash=sha1:{MD5}",
    "no algorithm": f"?file_hash=:{MD5}",
    "sign": f"?file_hash=-{MD5[1:]}",
    "prefix": f"?file_hash=0x{MD5[2:]}",
}


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("query", DIGESTS.values(), ids=DIGESTS)
def test_malformed_digest(query: str, method: str, service: Service) -> None:
    answer = raw.ask(service.daemon.connect(), raw.head(f"{method} /{query}"))
    assert answer.status == 400, answer


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("digest", [MD5, "0" * 40, "0" * 64, "0" * 128, f"blake2b:{'0' * 128}"])
def test_unknown_digest(digest: str, method: str, service: Service) -> None:
    answer = service.request(method, f"/?file_hash={digest}")
    assert answer.status_code == 404


LENGTH = "Content-Length: 5"
CHUNKED = "Transfer-Encoding: chunked"
# One of each kind; what the grammar refuses in all its variants is told by tests/protocol.
PROTOCOL = {
    "no framing": (raw.head("POST /"), 411),
    "length and chunks": (raw.head("POST /", LENGTH, CHUNKED) + b"0\r\n\r\n", 400),
    "two lengths": (raw.head("POST /", LENGTH, "Content-Length: 6") + b"hello", 400),
    "length with a sign": (raw.head("POST /", "Content-Length: +5") + b"hello", 400),
    "unknown coding": (raw.head("POST /", "Transfer-Encoding: gzip, chunked"), 501),
    "bad chunk size": (raw.head("POST /", CHUNKED) + b"5g\r\nhello\r\n0\r\n\r\n", 400),
    "chunk too long": (raw.head("POST /", CHUNKED) + b"5\r\nhello!\r\n0\r\n\r\n", 400),
    "end within the content": (raw.head("POST /", LENGTH) + b"hell", 400),
    "end within the chunks": (raw.head("POST /", CHUNKED) + b"5\r\nhello\r\n", 400),
    "end within the head": (b"POST / HTTP/1.1\r\nHost: te", 400),
    "unknown expectation": (raw.head("POST /", LENGTH, "Expect: more"), 417),
    "no host": (raw.head("GET /healthz", host=""), 400),
    "two hosts": (raw.head("GET /healthz", "Host: other"), 400),
    "folded line": (raw.head("GET /healthz", "A: b", " c"), 400),
    "space before the colon": (raw.head("GET /healthz", "A : b"), 400),
    "bare line feed": (b"GET /healthz HTTP/1.1\nHost: test\n\n", 400),
    "NUL": (raw.head("GET /healthz", "A: \0"), 400),
    "not HTTP": (b"\x16\x03\x01\x02\x00\x01\x00", 400),
    "long target": (raw.head(f"GET /{'x' * 8200}"), 414),
    "large head": (raw.head("GET /", f"A: {'x' * 16_400}"), 431),
    "many fields": (raw.head("GET /", *[f"A{number}: b" for number in range(101)]), 431),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
}


@pytest.mark.parametrize(("request_", "status"), PROTOCOL.values(), ids=PROTOCOL)
def test_what_is_not_http(request_: bytes, status: int, service: Service) -> None:
    answer = raw.ask(service.daemon.connect(), request_)
    assert (answer.status, answer.fields["connection"]) == (status, "close")
    hello = hashlib.md5(b"hello").hexdigest()
    assert service.get_file(hello).status_code == 404


def test_http_10_is_served(service: Service, content: bytes, stored: str) -> None:
    request = f"GET /?file_hash={stored} HTTP/1.0\r\n\r\n".encode()
    answer = raw.ask(service.daemon.connect(), request)
    assert (answer.status, answer.content) == (200, content)


ERRORS = [
    ("GET /?file_hash=12", 400, "Bad Request"),
    (f"GET /?file_hash={MD5}", 404, "Not Found"),
    ("PUT /", 405, "Method Not Allowed"),
    ("POST /", 411, "Length Required"),
    (f"GET /{'x' * 8200}", 414, "URI Too Long"),
]


@pytest.mark.parametrize(("line", "status", "title"), ERRORS)
def test_words_of_an_error(line: str, status: int, title: str, service: Service) -> None:
    answer = raw.ask(service.daemon.connect(), raw.head(line))
    assert (answer.status, answer.fields["content-type"]) == (status, "text/plain; charset=utf-8")
    assert answer.content.count(b"\n") == 1
    assert answer.content.endswith(b"\n")
    request = raw.head(line, "Accept: application/json")
    if status != 414:  # nobody reads the fields of that one
        problem = raw.ask(service.daemon.connect(), request)
        assert problem.fields["content-type"] == "application/problem+json"
        detail = answer.content.decode().removesuffix("\n")
        expected = {
            "type": "about:blank", "title": title, "status": status, "detail": detail,
            "request_id": problem.fields["x-request-id"],
        }  # fmt: skip
        assert json.loads(problem.content) == expected


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that takes 1000 bytes at most."""
    daemon = Daemon(tmp_path_factory.mktemp("strict"))
    daemon.start("--max-body=1000")
    yield daemon
    daemon.end()


LIMIT = {
    "length": raw.post,
    "chunks": raw.chunked,
    "form": lambda content: raw.form(raw.part(raw.FILE, content)),
}


@pytest.mark.parametrize("request_of", LIMIT.values(), ids=LIMIT)
@pytest.mark.parametrize(("size", "status"), [(800, 200), (1001, 413), (5_000_000, 413)])
def test_limit_of_the_content(size: int, status: int, request_of: object, strict: Daemon) -> None:
    content = os.urandom(size)
    answer = raw.ask(strict.connect(), request_of(content))  # type: ignore[operator]
    assert answer.status == status
    assert (hashlib.md5(content).hexdigest() in blobs_in(strict.store)) == (status == 200)


def test_content_that_is_too_large_is_not_asked_for(strict: Daemon) -> None:
    with strict.connect() as client:
        client.sendall(raw.head("POST /", "Content-Length: 1001", "Expect: 100-continue"))
        assert raw.answer_in(raw.receive_all(client)).status == 413


@pytest.mark.parametrize(
    ("number", "status"),
    [(ENOSPC, 507), (EDQUOT, 507), (EMFILE, 503), (ENOMEM, 503), (EIO, 500), (EACCES, 500)],
)
def test_errors_of_the_system(number: int, status: int) -> None:
    refusal = refusal_of(OSError(number, os.strerror(number), "/secret/path"))
    assert refusal.status == status
    assert "secret" not in refusal.reason
