"""The front door by id, `/files/`: every row of its table, on SQLite and on PostgreSQL."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
import requests

from httpd.app.download import POLICY
from tests import raw
from tests.app.samples import JSON, expecting, form_body, upload
from tests.catalog.conftest import postgresql  # noqa: F401 - the fixture, for the second database
from tests.daemons import Daemon, until
from tests.service import Service, blobs_in, path_in
from tests.storage.samples import COLLIDING

UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def daemon_by_database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    """A daemon with two workers, on each kind of database in turn."""
    flags = []
    if request.param == "postgresql":
        flags = [f"--database-url={request.getfixturevalue('postgresql').new_schema()}"]
    daemon = Daemon(tmp_path_factory.mktemp(request.param))
    daemon.start(*flags)
    yield daemon
    daemon.end()


@pytest.fixture
def service(daemon_by_database: Daemon) -> Iterator[Service]:
    """Requests, each on a connection of its own, so that now one worker answers, now the other."""
    with Service(daemon_by_database) as service:
        service.headers["Connection"] = "close"
        yield service
    until(lambda: not daemon_by_database.staged(), "something stays staged")


@pytest.fixture
def digest(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


# ---- POST

NAMED = {"Content-Disposition": 'attachment; filename="photo.jpg"'}
SENDERS: dict[str, Callable[[Service, bytes], requests.Response]] = {
    "raw": lambda service, content: service.post("/files/", data=content, headers=NAMED),
    "chunked": lambda service, content: service.post(
        "/files/", data=(content[at : at + 7] for at in range(0, len(content), 7)), headers=NAMED
    ),
    "to a name": lambda service, content: service.post("/files/photo.jpg", data=content),
    "form": lambda service, content: service.post(
        "/files/", files={"file": ("photo.jpg", content)}
    ),
    "without the slash": lambda service, content: service.post(
        "/files", data=content, headers=NAMED
    ),
}


@pytest.mark.parametrize("send", SENDERS.values(), ids=SENDERS)
def test_what_goes_up_comes_down_under_its_name(
    send: Callable[[Service, bytes], requests.Response],
    service: Service,
    content: bytes,
    digest: str,
) -> None:
    receipt = send(service, content)
    assert (receipt.status_code, receipt.headers["Content-Type"]) == (
        201,
        "text/plain; charset=utf-8",
    )
    assert UUID(receipt.text).version == 4
    assert str(UUID(receipt.text)) == receipt.text
    assert receipt.headers["Location"] == f"/files/{receipt.text}/"
    answer = service.get(receipt.headers["Location"])
    assert (answer.status_code, answer.content) == (200, content)
    expected = {
        "Content-Type": "image/jpeg",
        "Content-Disposition": 'inline; filename="photo.jpg"',
        "Content-Length": str(len(content)),
        "ETag": f'"{digest}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": "no-cache",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": POLICY,
    }
    assert {key: answer.headers.get(key) for key in expected} == expected
    assert path_in(service.daemon.store, digest).read_bytes() == content
    assert service.get_file(digest).content == content


def test_receipt_as_json(service: Service, content: bytes, digest: str) -> None:
    receipts = [service.post(f"/files/{name}", data=content, headers=JSON) for name in ("a", "b.x")]
    assert [receipt.status_code for receipt in receipts] == [201, 201]
    rows = [receipt.json() for receipt in receipts]
    for receipt, row in zip(receipts, rows, strict=True):
        assert receipt.headers["Location"] == f"/files/{row['id']}/"
        age = datetime.now(UTC) - datetime.fromisoformat(row.pop("created_at"))
        assert timedelta(0) <= age < timedelta(minutes=5)
    same = {
        "type": "application/octet-stream",
        "size": len(content),
        "file_hash": digest,
        "algorithm": "md5",
    }
    ids = [row.pop("id") for row in rows]
    assert len(set(ids)) == 2
    assert rows == [
        {"name": "a", **same, "created": True},
        {"name": "b.x", **same, "created": False},
    ]


@pytest.mark.parametrize("headers", [{}, JSON], ids=["text", "JSON"])
def test_several_files_of_a_form(headers: dict[str, str], service: Service, content: bytes) -> None:
    sent = [(f"{number}.txt", content + bytes([number % 3])) for number in range(5)]
    files = [("file", each) for each in sent]
    receipt = service.post("/files/", files=files, headers=headers)
    assert receipt.status_code == 201
    assert "Location" not in receipt.headers
    ids = [row["id"] for row in receipt.json()] if headers else receipt.text.split("\n")
    assert len(set(ids)) == 5
    for file_id, (name, expected) in zip(ids, sent, strict=True):
        answer = service.get(f"/files/{file_id}/")
        assert answer.content == expected
        assert answer.headers["Content-Disposition"] == f'inline; filename="{name}"'


def test_empty_file(service: Service) -> None:
    answer = service.get(f"/files/{upload(service, b'', 'empty.txt')}/")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["Content-Length"] == "0"


def test_large_file(service: Service) -> None:
    content = b"".join(number.to_bytes(4) for number in range(700_000))
    assert service.get(f"/files/{upload(service, content)}/").content == content


STATEMENTS: dict[str, tuple[str, dict[str, str], int]] = {  # of D, of any other content is 400
    "query": ("?file_hash={digest}", {}, 201),
    "Content-MD5": ("", {"Content-MD5": "{base64}"}, 201),
    "Content-Digest": ("", {"Content-Digest": "md5=:{base64}:"}, 201),
    "Repr-Digest": ("", {"Repr-Digest": "md5=:{base64}:"}, 201),
    "malformed": ("?file_hash=12", {}, 400),
    "repeated": ("?file_hash={digest}&file_hash={digest}", {}, 400),
}


@pytest.mark.parametrize(("query", "fields", "status"), STATEMENTS.values(), ids=STATEMENTS)
def test_stated_digest(
    query: str, fields: dict[str, str], status: int, service: Service, content: bytes
) -> None:
    for sent, expected in [(content, status), (b"other than " + content, 400)]:
        answer = service.post(
            f"/files/a.txt{expecting(query, content)}",
            data=sent,
            headers={key: expecting(value, content) for key, value in fields.items()},
        )
        assert answer.status_code == expected
        stored = hashlib.md5(sent).hexdigest() in blobs_in(service.daemon.store)
        assert stored == (expected == 201)


def test_content_that_is_there_need_not_be_sent(service: Service, content: bytes) -> None:
    head = raw.head(
        f"POST /files/b.txt{expecting('?file_hash={digest}', content)}",
        f"Content-Length: {len(content)}",
        "Expect: 100-continue",
    )
    with service.daemon.connect() as client:  # not there: it is asked for
        client.sendall(head)
        assert client.recv(1 << 16) == b"HTTP/1.1 100 Continue\r\n\r\n"
        first = raw.ask(client, content)
    with service.daemon.connect() as client:  # there: the answer comes at once
        client.sendall(head)
        second = raw.answer_in(raw.receive_all(client))
    ids = [answer.content.decode() for answer in (first, second)]
    assert ([first.status, second.status], len(set(ids))) == ([201, 201], 2)
    assert second.fields["connection"] == "close"  # nobody knows whether the content comes
    for file_id in ids:  # each of them is a name in its own right
        answer = service.get(f"/files/{file_id}/")
        assert answer.content == content
        assert answer.headers["Content-Disposition"] == 'inline; filename="b.txt"'
        assert service.delete(f"/files/{file_id}/").status_code == 200
    assert service.get_file(hashlib.md5(content).hexdigest()).status_code == 404


def test_collision_is_told_and_names_nothing(service: Service) -> None:
    first, second = COLLIDING
    kept = upload(service, first, "collision.1")
    answers = [
        service.post("/files/collision.2", data=second),
        service.post("/files/", files={"file": ("collision.2", second)}),
    ]
    assert [answer.status_code for answer in answers] == [409, 409]
    assert service.get(f"/files/{kept}/").content == first
    names = [row["name"] for row in service.get("/files/?name=collision").json()]
    assert names == ["collision.1"]


UNSTORABLE = {
    "no framing": (raw.head("POST /files/"), 411),
    "content coding": (raw.post(b"x", "Content-Encoding: gzip", target="/files/"), 415),
    "part of a file": (raw.post(b"x", "Content-Range: bytes 0-0/2", target="/files/a"), 400),
    "form without a file": (raw.post(*form_body(b""), target="/files/"), 400),
    "form without an end": (
        raw.post(*form_body(raw.part(raw.FILE, b"x"), closing=b""), target="/files/"),
        400,
    ),
    "a path and not a name": (raw.post(b"x", target="/files/a/b"), 404),
    "a name with a slash behind": (raw.post(b"x", target="/files/a/"), 404),
    "an id with a slash behind": (raw.post(b"x", target=f"/files/{UNKNOWN}/"), 404),
}


@pytest.mark.parametrize(("request_", "status"), UNSTORABLE.values(), ids=UNSTORABLE)
def test_upload_that_is_refused(request_: bytes, status: int, service: Service) -> None:
    before = service.get("/files/").json()
    assert raw.ask(service.daemon.connect(), request_).status == status
    assert service.get("/files/").json() == before


# ---- GET

IDS: dict[str, Callable[[str], str]] = {
    "as it is": lambda file_id: f"/files/{file_id}/",
    "no slash": lambda file_id: f"/files/{file_id}",
    "capitals": lambda file_id: f"/files/{file_id.upper()}/",
    "escaped": lambda file_id: f"/files/%{ord(file_id[0]):x}{file_id[1:]}",
    "with a query": lambda file_id: f"/files/{file_id}/?name=other.html",
}


@pytest.mark.parametrize("target_of", IDS.values(), ids=IDS)
def test_ways_to_write_an_id(
    target_of: Callable[[str], str], service: Service, content: bytes
) -> None:
    target = target_of(upload(service, content, "a.txt"))
    answer = service.get(target)
    assert (answer.status_code, answer.content) == (200, content)
    assert answer.headers["Content-Disposition"] == 'inline; filename="a.txt"'
    assert service.delete(target).status_code == 200
    assert service.get(target).status_code == 404


# What is asked for, with E for the entity-tag, and what it leads to: the whole table is by hash.
CONDITIONS: list[tuple[dict[str, str], int, slice]] = [
    ({"Range": "bytes=1-3"}, 206, slice(1, 4)),
    ({"Range": "bytes=-4"}, 206, slice(-4, None)),
    ({"Range": "bytes=999999-"}, 416, slice(0)),
    ({"Range": "bytes=1-3", "If-Range": '"E"'}, 206, slice(1, 4)),
    ({"Range": "bytes=1-3", "If-Range": '"x"'}, 200, slice(None)),
    ({"If-None-Match": '"E"'}, 304, slice(0)),
    ({"If-None-Match": '"x"'}, 200, slice(None)),
    ({"If-Match": '"x"'}, 412, slice(0)),
    ({"If-Modified-Since": "Fri, 31 Dec 2100 00:00:00 GMT"}, 304, slice(0)),
    ({"If-Unmodified-Since": "Sat, 01 Jan 2000 00:00:00 GMT"}, 412, slice(0)),
]


@pytest.mark.parametrize(("fields", "status", "part"), CONDITIONS)
def test_ranges_and_conditions(
    fields: dict[str, str], status: int, part: slice, service: Service, content: bytes, digest: str
) -> None:
    file_id = upload(service, content, "a.txt")
    headers = {key: value.replace("E", digest) for key, value in fields.items()}
    answer = service.get(f"/files/{file_id}/", headers=headers)
    assert answer.status_code == status
    if status < 400:
        assert answer.content == content[part]
        assert (answer.headers["ETag"], answer.headers["Cache-Control"]) == (
            f'"{digest}"',
            "no-cache",
        )


def test_several_ranges(service: Service, content: bytes) -> None:
    file_id = upload(service, content, "a.txt")
    answer = service.get(f"/files/{file_id}/", headers={"Range": "bytes=0-0,2-3"})
    assert answer.status_code == 206
    assert answer.content.count(b"Content-Type: text/plain; charset=utf-8\r\n") == 2
    assert b"\r\n\r\n%b\r\n--" % content[2:4] in answer.content


# ---- DELETE, and what is not there


def test_deleted_is_gone_with_its_content(service: Service, content: bytes, digest: str) -> None:
    file_id = upload(service, content)
    answer = service.delete(f"/files/{file_id}/")
    assert (answer.status_code, answer.content) == (200, b"")
    for method in ("GET", "DELETE"):
        assert service.request(method, f"/files/{file_id}/").status_code == 404
    assert service.get_file(digest).status_code == 404
    assert not path_in(service.daemon.store, digest).parent.exists()


NO_IDS = [
    UNKNOWN, UNKNOWN[1:], f"{UNKNOWN}0", UNKNOWN.replace("-", ""), f"{{{UNKNOWN}}}",
    f"urn:uuid:{UNKNOWN}", f"{UNKNOWN}//", f"/{UNKNOWN}", f"{UNKNOWN}/x", f"%20{UNKNOWN}",
    UNKNOWN.replace("0", "%D9%A0", 1), "0", "photo.jpg", "..", "..;", "%25", "' OR 1=1 --",
]  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("file_id", NO_IDS)
def test_unknown_and_malformed_id(file_id: str, method: str, service: Service) -> None:
    line = f"{method} /files/{file_id.replace(' ', '%20')}"
    assert raw.ask(service.daemon.connect(), raw.head(line)).status == 404


def test_unknown_id_is_explained(service: Service) -> None:
    answer = service.get(f"/files/{UNKNOWN}/")
    assert answer.text == f"there is no file with the id {UNKNOWN}\n"


METHODS = [
    *((method, path, "GET, POST, DELETE")
      for method in ("PUT", "OPTIONS", "PATCH", "FOO", "get")
      for path in ("/files", "/files/", f"/files/{UNKNOWN}/", "/files/a/b")),
    ("DELETE", "/files", "GET, POST"),
    ("DELETE", "/files/", "GET, POST"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "allowed"), METHODS)
def test_other_methods(method: str, path: str, allowed: str, service: Service) -> None:
    answer = raw.ask(service.daemon.connect(), raw.head(f"{method} {path}"))
    assert (answer.status, answer.fields["allow"]) == (405, allowed)


@pytest.mark.parametrize("path", ["/files", "/files/", f"/files/{UNKNOWN}/"])
def test_head_is_not_served_and_has_no_content(path: str, service: Service) -> None:
    with service.daemon.connect() as client:
        client.sendall(raw.head(f"HEAD {path}", "Connection: close"))
        answer = raw.answer_in(raw.receive_all(client))
    assert (answer.status, answer.fields["allow"]) == (405, "GET, POST, DELETE")
    assert answer.content == b""


# ---- the other door, and curl


def test_content_is_deleted_by_hash_only_when_no_name_is_left(
    service: Service, content: bytes, digest: str
) -> None:
    assert service.post("/", data=content).text == digest
    ids = [upload(service, content) for _ in range(2)]
    for count, file_id in zip(("2 named files use", "a named file uses"), ids, strict=True):
        refused = service.delete(f"/?file_hash={digest}")
        assert refused.status_code == 409
        assert refused.text == f"{count} the content with the hash {digest}\n"
        assert service.get(f"/files/{file_id}/").content == content
        assert service.delete(f"/files/{file_id}/").status_code == 200
    assert service.get_file(digest).content == content  # it was also stored by hash
    assert service.delete(f"/?file_hash={digest}").status_code == 200
    assert service.get_file(digest).status_code == 404


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("name", ["photo.jpg", "my photo; 1,2 (3).jpg", "no ending"])
def test_round_with_curl(name: str, service: Service, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    (tmp_path / "down").mkdir()

    def curl(*arguments: str, cwd: Path = tmp_path) -> str:
        command = ["curl", "-fsS", "--noproxy", "*", *arguments]
        done = subprocess.run(command, cwd=cwd, capture_output=True, check=False, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    file_id = curl("-X", "POST", "-T", name, f"{service.daemon.url}/files/")
    curl("-OJ", f"{service.daemon.url}/files/{file_id}/", cwd=tmp_path / "down")
    assert {file.name: file.read_bytes() for file in (tmp_path / "down").iterdir()} == {
        name: content
    }
