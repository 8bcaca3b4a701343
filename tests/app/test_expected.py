"""Uploads whose sender says what the digest is: it is checked before anything is stored."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from pathlib import Path

import pytest

from tests import raw
from tests.daemons import Daemon
from tests.raw import BOUNDARY, FILE, form, part
from tests.service import Service, blobs_in

OTHER = b"other content"


def hexed(algorithm: str, content: bytes) -> str:
    return hashlib.new(algorithm, content).hexdigest()


def encoded(algorithm: str, content: bytes) -> str:
    return b64encode(hashlib.new(algorithm, content).digest()).decode()


def md5_field(content: bytes) -> str:
    return f"Content-MD5: {encoded('md5', content)}"


def digest_field(content: bytes, name: str = "Content-Digest", algorithm: str = "sha-256") -> str:
    return f"{name}: {algorithm}=:{encoded(algorithm.replace('-', ''), content)}:"


# What the sender says of C, which it sends: (query of the target, header fields), and the status.
C = b"what is sent"
M, S = hexed("md5", C), hexed("sha256", C)
STATEMENTS = {
    "query": (f"?file_hash={M}", [], 200),
    "query, capitals": (f"?file_hash={M.upper()}", [], 200),
    "query, algorithm": (f"?file_hash=md5:{M}", [], 200),
    "query, other algorithm": (f"?file_hash={S}", [], 200),
    "query, blake2b": (f"?file_hash=blake2b:{hexed('blake2b', C)}", [], 200),
    "query, sha512": (f"?file_hash={hexed('sha512', C)}", [], 200),
    "query, mismatch": (f"?file_hash={hexed('md5', OTHER)}", [], 400),
    "query, other algorithm, mismatch": (f"?file_hash={hexed('sha1', OTHER)}", [], 400),
    "query, empty": ("?file_hash=", [], 400),
    "query, malformed": (f"?file_hash={M[:-1]}", [], 400),
    "query, wrong algorithm": (f"?file_hash=sha1:{M}", [], 400),
    "query, unknown algorithm": (f"?file_hash=crc32:{M}", [], 400),
    "query, repeated": (f"?file_hash={M}&file_hash={M}", [], 400),
    "Content-MD5": ("", [md5_field(C)], 200),
    "Content-MD5, mismatch": ("", [md5_field(OTHER)], 400),
    "Content-MD5, hex": ("", [f"Content-MD5: {M}"], 400),
    "Content-MD5, not base64": ("", ["Content-MD5: !!!!"], 400),
    "Content-MD5, empty": ("", ["Content-MD5:"], 400),
    "Content-MD5, repeated": ("", [md5_field(C)] * 2, 400),
    "Content-Digest": ("", [digest_field(C)], 200),
    "Content-Digest, md5": ("", [digest_field(C, algorithm="md5")], 200),
    "Content-Digest, sha-512": ("", [digest_field(C, algorithm="sha-512")], 200),
    "Content-Digest, mismatch": ("", [digest_field(OTHER)], 400),
    "Content-Digest, malformed": ("", ["Content-Digest: sha-256"], 400),
    "Content-Digest, too short": ("", ["Content-Digest: sha-256=:AAAA:"], 400),
    "Content-Digest, unknown": ("", ["Content-Digest: crc32c=:AAAAAA==:"], 200),
    "Content-Digest, two": ("", [digest_field(C), digest_field(C, algorithm="sha-512")], 200),
    "one of two": ("", [digest_field(C), digest_field(OTHER, "Repr-Digest")], 400),
    "Repr-Digest": ("", [digest_field(C, "Repr-Digest")], 200),
    "Repr-Digest, mismatch": ("", [digest_field(OTHER, "Repr-Digest")], 400),
    "all": (f"?file_hash={M}", [md5_field(C), digest_field(C, "Repr-Digest")], 200),
    "one of all": (f"?file_hash={M}", [md5_field(C), digest_field(OTHER, "Repr-Digest")], 400),
    "the other one": (f"?file_hash={hexed('md5', OTHER)}", [md5_field(C)], 400),
}  # fmt: skip


@pytest.fixture
def fresh(service: Service) -> Service:
    """A service that C is not stored at, when the test begins and when it ends."""
    service.delete(f"/?file_hash={M}")
    return service


@pytest.mark.parametrize(("query", "fields", "status"), STATEMENTS.values(), ids=STATEMENTS)
def test_stated_digest(query: str, fields: list[str], status: int, fresh: Service) -> None:
    answer = raw.ask(fresh.daemon.connect(), raw.post(C, *fields, target=f"/{query}"))
    assert answer.status == status, answer
    if status == 200:
        assert answer.content.decode() == M
    assert fresh.get_file(M).status_code == (200 if status == 200 else 404)


def test_mismatch_is_explained(fresh: Service) -> None:
    other = hexed("md5", OTHER)
    answer = fresh.post(f"/?file_hash={other}", data=C)
    assert (answer.status_code, answer.headers["Content-Type"]) == (
        400,
        "text/plain; charset=utf-8",
    )
    assert M in answer.text
    assert other in answer.text


# The fields speak of the form as it is sent, the query of the one file in it.
WHOLE = form(part(FILE, C)).partition(b"\r\n\r\n")[2]
TWO = form(part(FILE, C), part(FILE, OTHER)).partition(b"\r\n\r\n")[2]
FORM_STATEMENTS = {
    "query": (WHOLE, f"?file_hash={M}", [], 200),
    "query, other algorithm": (WHOLE, f"?file_hash={S}", [], 200),
    "query, mismatch": (WHOLE, f"?file_hash={hexed('md5', WHOLE)}", [], 400),
    "query, two files": (TWO, f"?file_hash={M}", [], 400),
    "Content-MD5": (WHOLE, "", [md5_field(WHOLE)], 200),
    "Content-MD5, two files": (TWO, "", [md5_field(TWO)], 200),
    "Content-MD5, of the file": (WHOLE, "", [md5_field(C)], 400),
    "Content-Digest": (WHOLE, "", [digest_field(WHOLE)], 200),
    "Content-Digest, of the file": (WHOLE, "", [digest_field(C)], 400),
    "Repr-Digest": (WHOLE, "", [digest_field(WHOLE, "Repr-Digest")], 200),
}


@pytest.mark.parametrize(
    ("content", "query", "fields", "status"), FORM_STATEMENTS.values(), ids=FORM_STATEMENTS
)
def test_stated_digest_of_a_form(
    content: bytes, query: str, fields: list[str], status: int, fresh: Service
) -> None:
    kind = f"Content-Type: multipart/form-data; boundary={BOUNDARY}"
    request = raw.post(content, kind, *fields, target=f"/{query}")
    assert raw.ask(fresh.daemon.connect(), request).status == status
    assert fresh.get_file(M).status_code == (200 if status == 200 else 404)


def test_mismatch_of_a_large_file_leaves_nothing(daemon: Daemon, tmp_path: Path) -> None:
    daemon.start()
    large = bytes(3 << 20)
    with Service(daemon) as service:
        assert service.post(f"/?file_hash={M}", data=large).status_code == 400
        assert service.post("/", data=large, headers={"Content-MD5": "AAAA"}).status_code == 400
    assert (blobs_in(daemon.store), daemon.staged()) == (set(), [])


# A client that holds its content back until it is asked for it.

EXPECT = "Expect: 100-continue"
HELD_BACK = {
    "query": (f"?file_hash={M}", []),
    "Content-MD5": ("", [md5_field(C)]),
    "Content-Digest": ("", [digest_field(C, algorithm="md5")]),
}


@pytest.mark.parametrize(("query", "fields"), HELD_BACK.values(), ids=HELD_BACK)
def test_content_that_is_there_need_not_be_sent(
    query: str, fields: list[str], fresh: Service
) -> None:
    head = raw.post(C, EXPECT, *fields, target=f"/photo.jpg{query}").removesuffix(C)
    with fresh.daemon.connect() as client:  # not there: it is asked for
        client.sendall(head)
        assert client.recv(1 << 16) == b"HTTP/1.1 100 Continue\r\n\r\n"
        answer = raw.ask(client, C)
    assert (answer.status, answer.content.decode()) == (200, M)
    with fresh.daemon.connect() as client:  # there: the answer comes at once
        client.sendall(head)
        answer = raw.answer_in(raw.receive_all(client))
    assert (answer.status, answer.content.decode()) == (200, M)
    assert answer.fields["location"] == f"/?file_hash={M}&name=photo.jpg"
    assert answer.fields["connection"] == "close"  # nobody knows whether the content comes


def test_content_that_comes_without_being_asked_for(fresh: Service) -> None:
    request = raw.post(C, EXPECT, target=f"/?file_hash={M}")
    for _ in range(2):  # not there, then there: never a 100 (RFC 9110 section 10.1.1)
        answer = raw.ask(fresh.daemon.connect(), request)
        assert (answer.status, answer.content.decode()) == (200, M)


@pytest.mark.parametrize(
    ("request_", "fields"),
    [
        ("POST /", []),
        (f"POST /?file_hash={M}", [md5_field(C)]),
        ("POST /", [md5_field(C), f"Content-Type: multipart/form-data; boundary={BOUNDARY}"]),
    ],
    ids=["no digest stated", "several stated", "of a form"],
)
def test_content_that_has_to_be_sent(request_: str, fields: list[str], fresh: Service) -> None:
    assert fresh.post("/", data=C).text == M
    head = raw.head(request_, EXPECT, f"Content-Length: {len(C)}", *fields)
    with fresh.daemon.connect() as client:
        client.sendall(head)
        assert client.recv(1 << 16) == b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.parametrize(
    ("line", "fields", "status"),
    [
        ("POST /a/b", [], 404),
        ("PUT /", [], 405),
        ("POST /?file_hash=12", [], 400),
        ("POST /", ["Content-Encoding: br"], 415),
    ],
)
def test_content_that_would_be_refused_is_not_asked_for(
    line: str, fields: list[str], status: int, service: Service
) -> None:
    with service.daemon.connect() as client:
        client.sendall(raw.head(line, EXPECT, f"Content-Length: {len(C)}", *fields))
        assert raw.answer_in(raw.receive_all(client)).status == status
