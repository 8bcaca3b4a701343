"""Raw uploads by hash: `POST /` and `POST /<name>`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from requests import Response

from tests import raw
from tests.service import Service, path_in
from tests.storage.samples import COLLIDING, COLLIDING_DIGEST

Send = Callable[[Service, bytes], Response]


def pieces(content: bytes, size: int = 10_007) -> Iterator[bytes]:
    return (content[start : start + size] for start in range(0, len(content), size))


SENDERS: dict[str, Send] = {
    "raw": lambda service, content: service.post("/", data=content),
    "chunked": lambda service, content: service.post("/", data=pieces(content)),
    "to a name": lambda service, content: service.post("/photo.jpg", data=content),
    "form": lambda service, content: service.post("/", files={"file": ("photo.jpg", content)}),
    "as curl": lambda service, content: service.post(
        "/", data=content, headers={"Content-Type": "application/x-www-form-urlencoded"}
    ),
}
# On both sides of what is worked off at once: a piece of the pool's work, one receive of the body.
SIZES = [0, 1, 4096, *(base + more for base in (1 << 17, 1 << 18, 1 << 20) for more in (-1, 0, 1))]


@pytest.mark.parametrize("send", SENDERS.values(), ids=SENDERS)
@pytest.mark.parametrize("size", SIZES)
def test_what_goes_up_comes_down(size: int, send: Send, service: Service) -> None:
    content = (hashlib.sha256(str(size).encode()).digest() * (size // 32 + 1))[:size]
    digest = hashlib.md5(content).hexdigest()
    answer = send(service, content)
    assert (answer.status_code, answer.text) == (200, digest)
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["ETag"] == f'"{digest}"'
    assert answer.headers["Location"].startswith(f"/?file_hash={digest}")
    assert path_in(service.daemon.store, digest).read_bytes() == content
    assert service.get_file(digest).content == content


def test_content_that_is_there_is_stored_once(
    service: Service, content: bytes, digest: str
) -> None:
    json_please = {"Accept": "application/json"}
    answers = [service.post("/", data=content, headers=json_please) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert [answer.json() for answer in answers] == [
        {"file_hash": digest, "size": len(content), "algorithm": "md5", "created": created}
        for created in (True, False)
    ]
    assert answers[0].headers["Content-Type"] == "application/json"
    assert path_in(service.daemon.store, digest).read_bytes() == content


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "text/plain; charset=utf-8"),
        ("text/plain, application/json;q=0.5", "text/plain; charset=utf-8"),
        ("text/html, application/xhtml+xml, */*;q=0.8", "text/plain; charset=utf-8"),
        ("application/json;q=0", "text/plain; charset=utf-8"),
        ("application/json, text/plain, */*", "text/plain; charset=utf-8"),
        ("application/json", "application/json"),
        ("text/plain;q=0.1, application/*", "application/json"),
        ("APPLICATION/JSON", "application/json"),
    ],
)
def test_shape_of_the_receipt(accept: str, kind: str, service: Service, content: bytes) -> None:
    answer = service.post("/", data=content, headers={"Accept": accept})
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, kind)


LONG = "x" * 300
NAMES = {  # as the sender has it -> as it is kept; None: not at all
    "photo.jpg": "photo.jpg",
    "a b+c&d=e?f#g%h.txt": "a b+c&d=e?f#g%h.txt",
    'say "cheese".jpg': 'say "cheese".jpg',
    "Öl, 油.pdf": "Öl, 油.pdf",
    "..": None,
    ".": None,
    "C:\\photos\\me.jpg": "me.jpg",
    "gpj.\u202eexe": "gpj.exe",
    f"{LONG}.txt": f"{LONG[:251]}.txt",
    "油" * 100 + ".txt": "油" * 83 + ".txt",
}


@pytest.mark.parametrize(("name", "kept"), NAMES.items())
def test_name_of_an_upload(
    name: str, kept: str | None, service: Service, content: bytes, digest: str
) -> None:
    requests = [
        raw.post(content, target=f"/{quote(name, safe='')}"),
        raw.post(content, f"Content-Disposition: attachment; filename*=UTF-8''{quote(name)}"),
    ]
    for request in requests:
        answer = raw.ask(service.daemon.connect(), request)
        assert answer.status == 200, answer
        location = urlsplit(answer.fields["location"])
        query = parse_qs(location.query, keep_blank_values=True)
        assert (location.path, query.pop("file_hash")) == ("/", [digest])
        assert query == ({} if kept is None else {"name": [kept]})
        assert service.get(answer.fields["location"]).content == content


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/a%0Ab", 400),
        ("/a%0D%0ASet-Cookie:%20x=y", 400),
        ("/a%00b", 400),
        ("/a%2Fb", 400),
        ("/%FF", 400),
        ("/100%", 400),
        ("/a/b", 404),
        ("/../x", 404),
        ("//", 404),
        ("/a/", 404),
        ("/healthz", 405),
        ("/readyz", 405),
    ],
)
def test_target_that_takes_no_upload(
    target: str, status: int, service: Service, content: bytes, digest: str
) -> None:
    answer = raw.ask(service.daemon.connect(), raw.post(content, target=target))
    assert answer.status == status
    assert service.get_file(digest).status_code == 404


@pytest.mark.parametrize(
    ("field", "status"),
    [
        ("Content-Encoding: gzip", 415),
        ("Content-Encoding: identity, br", 415),
        ("Content-Encoding: Identity", 200),
        ("Content-Range: bytes 0-9/20", 400),
    ],
)
def test_content_that_is_something_else_than_it_seems(
    field: str, status: int, service: Service, content: bytes, digest: str
) -> None:
    answer = raw.ask(service.daemon.connect(), raw.post(content, field))
    assert answer.status == status
    assert answer.fields.get("accept-encoding") == ("identity" if status == 415 else None)
    assert service.get_file(digest).status_code == (200 if status == 200 else 404)


def test_collision_is_told_and_changes_nothing(service: Service) -> None:
    first, second = COLLIDING
    digest = COLLIDING_DIGEST.hex
    assert service.post("/", data=first).text == digest
    path = path_in(service.daemon.store, digest)
    before = path.stat()
    for data, files in [(second, None), (None, {"file": second})]:
        answer = service.post("/", data=data, files=files)
        assert answer.status_code == 409
        assert digest in answer.text
    after = path.stat()
    assert service.get_file(digest).content == path.read_bytes() == first
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert service.post("/", data=first, headers={"Accept": "application/json"}).json() == {
        "file_hash": digest, "size": len(first), "algorithm": "md5", "created": False
    }  # fmt: skip


def test_json_keeps_to_the_field_of_one_file(service: Service, content: bytes) -> None:
    answer = service.post("/photo.jpg", data=content, headers={"Accept": "application/json"})
    row = json.loads(answer.text)
    assert answer.headers["ETag"] == f'"{row["file_hash"]}"'
    assert answer.headers["Location"] == f"/?file_hash={row['file_hash']}&name=photo.jpg"
