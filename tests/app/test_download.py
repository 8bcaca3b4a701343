"""`GET /?file_hash=…`: whole, in ranges, on conditions, with a name, or what is known of it."""

from __future__ import annotations

import os
import re
from datetime import datetime, timezone
from email.utils import formatdate

import pytest

from httpd.app.download import POLICY
from tests import raw
from tests.service import Service, path_in

STORED_AT = 1_700_000_000  # Tue, 14 Nov 2023 22:13:20 GMT
BEFORE, THEN, AFTER = (formatdate(STORED_AT + more, usegmt=True) for more in (-1, 0, 1))
# More than what is read into memory at once, and no two places alike.
LARGE = b"".join(number.to_bytes(4) for number in range(50_000))
SMALL = b"0123456789"


@pytest.fixture(scope="module", params=[SMALL, LARGE], ids=["small", "large"])
def file(request: pytest.FixtureRequest) -> bytes:
    content: bytes = request.param
    return content


@pytest.fixture
def digest(service: Service, file: bytes) -> str:
    """The digest of a file that was stored at a known time."""
    digest = service.post("/", data=file).text
    os.utime(path_in(service.daemon.store, digest), (STORED_AT, STORED_AT))
    return digest


def test_whole_file(service: Service, file: bytes, digest: str) -> None:
    answer = service.get_file(digest)
    assert (answer.status_code, answer.content) == (200, file)
    expected = {
        "Content-Type": "application/octet-stream",
        "Content-Length": str(len(file)),
        "ETag": f'"{digest}"',
        "Last-Modified": THEN,
        "Accept-Ranges": "bytes",
        "Cache-Control": "public, max-age=31536000, immutable",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": POLICY,
        "Content-Disposition": "attachment",
    }
    assert {key: answer.headers.get(key) for key in expected} == expected


def test_digest_in_capitals_and_with_its_algorithm(service: Service, digest: str) -> None:
    for text in (digest.upper(), f"md5:{digest}"):
        answer = service.get_file(text)
        assert (answer.status_code, answer.headers["ETag"]) == (200, f'"{digest}"')


# Of 10 bytes, or of as many that its first ones can be told.
RANGES = [
    ("bytes=0-0", 0, 1),
    ("bytes=2-4", 2, 3),
    ("bytes=-3", -3, 3),
    ("bytes=7-", 7, None),
    ("bytes=5-999999999999", 5, None),
    ("bytes=-999999999999", 0, None),
    ("BYTES= 1-1 , ", 1, 1),
]


@pytest.mark.parametrize(("value", "offset", "length"), RANGES)
def test_range(
    value: str, offset: int, length: int | None, service: Service, file: bytes, digest: str
) -> None:
    offset %= len(file)
    expected = file[offset:][:length]
    answer = service.get_file(digest, Range=value)
    assert (answer.status_code, answer.content) == (206, expected)
    where = f"bytes {offset}-{offset + len(expected) - 1}/{len(file)}"
    assert answer.headers["Content-Range"] == where
    assert answer.headers["Content-Length"] == str(len(expected))
    assert answer.headers["ETag"] == f'"{digest}"'


def test_several_ranges(service: Service, file: bytes, digest: str) -> None:
    wanted = [(1, 3), (5, len(file) - 1), (0, 0)]
    asked = "bytes=1-3, 5-, 0-0, 999999999-"  # the last one is nowhere, and left out
    answer = service.get_file(digest, "&name=a.txt", Range=asked)
    kind = answer.headers["Content-Type"]
    found = re.fullmatch("multipart/byteranges; boundary=([0-9a-f]+)", kind)
    assert answer.status_code == 206
    assert found, kind
    parts = [
        b"\r\n--%b\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Content-Range: bytes %d-%d/%d\r\n\r\n%b"
        % (found[1].encode(), first, last, len(file), file[first : last + 1])
        for first, last in wanted
    ]
    assert answer.content == b"".join(parts) + b"\r\n--%b--\r\n" % found[1].encode()
    assert answer.headers["Content-Length"] == str(len(answer.content))
    assert "Content-Range" not in answer.headers


@pytest.mark.parametrize(
    "value", ["bytes=3-2", "bytes=x", "lines=1-2", "bytes=", "bytes=0-,0-", "0-1", "bytes=1-2-3"]
)
def test_range_that_is_ignored(value: str, service: Service, file: bytes, digest: str) -> None:
    answer = service.get_file(digest, Range=value)
    assert (answer.status_code, answer.content) == (200, file)


@pytest.mark.parametrize("value", ["bytes=999999999-", "bytes=-0"])
def test_range_that_is_nowhere(value: str, service: Service, file: bytes, digest: str) -> None:
    answer = service.get_file(digest, Range=value)
    assert (answer.status_code, answer.headers["Content-Range"]) == (416, f"bytes */{len(file)}")


# Each is what a client says of its copy, with E for the entity-tag, and the status it leads to.
CONDITIONS = [
    ({"If_None_Match": '"E"'}, 304),
    ({"If_None_Match": '"x", W/"E"'}, 304),
    ({"If_None_Match": "*"}, 304),
    ({"If_None_Match": '"x"'}, 200),
    ({"If_None_Match": "E"}, 200),
    ({"If_None_Match": '"x"', "If_Modified_Since": AFTER}, 200),
    ({"If_Modified_Since": THEN}, 304),
    ({"If_Modified_Since": AFTER}, 304),
    ({"If_Modified_Since": BEFORE}, 200),
    ({"If_Modified_Since": "yesterday"}, 200),
    ({"If_Match": '"E"'}, 200),
    ({"If_Match": "*"}, 200),
    ({"If_Match": 'W/"E"'}, 412),
    ({"If_Match": '"x"'}, 412),
    ({"If_Match": '"E"', "If_Unmodified_Since": BEFORE}, 200),
    ({"If_Unmodified_Since": THEN}, 200),
    ({"If_Unmodified_Since": BEFORE}, 412),
    ({"If_Match": '"E"', "If_None_Match": '"E"'}, 304),
    ({"Range": "bytes=1-2", "If_Range": '"E"'}, 206),
    ({"Range": "bytes=1-2", "If_Range": THEN}, 206),
    ({"Range": "bytes=1-2", "If_Range": '"x"'}, 200),
    ({"Range": "bytes=1-2", "If_Range": 'W/"E"'}, 200),
    ({"Range": "bytes=1-2", "If_Range": AFTER}, 200),
    ({"Range": "bytes=1-2", "If_Range": BEFORE}, 200),
    ({"Range": "bytes=999999999-", "If_Range": '"x"'}, 200),
    ({"Range": "bytes=1-2", "If_None_Match": '"E"'}, 304),
    ({"Range": "bytes=1-2", "If_Match": '"x"'}, 412),
]


@pytest.mark.parametrize(("fields", "status"), CONDITIONS)
def test_condition(
    fields: dict[str, str], status: int, service: Service, file: bytes, digest: str
) -> None:
    said = {name: re.sub(r"\bE\b", digest, value) for name, value in fields.items()}
    answer = service.get_file(digest, **said)
    assert answer.status_code == status
    if status == 304:
        assert answer.content == b""
        assert answer.headers["ETag"] == f'"{digest}"'
        assert {"Last-Modified", "Cache-Control"} <= answer.headers.keys()
        assert not {"Content-Length", "Content-Type"} & answer.headers.keys()
    elif status != 412:
        assert answer.content == (file if status == 200 else file[1:3])


DOWNLOAD_NAMES = [
    ("photo.jpg", "image/jpeg", 'inline; filename="photo.jpg"'),
    ("notes.txt", "text/plain; charset=utf-8", 'inline; filename="notes.txt"'),
    ("page.html", "text/html; charset=utf-8", 'attachment; filename="page.html"'),
    ("logo.svg", "image/svg+xml", 'attachment; filename="logo.svg"'),
    ("photo.WEBP", "image/webp", 'inline; filename="photo.WEBP"'),
    ("song.ogg", "audio/ogg", 'inline; filename="song.ogg"'),
    ("code.js", "text/javascript; charset=utf-8", 'attachment; filename="code.js"'),
    ("notes.txt.gz", "application/octet-stream", 'attachment; filename="notes.txt.gz"'),
    ("README", "application/octet-stream", 'attachment; filename="README"'),
    ("%22;x=%22.txt", "text/plain; charset=utf-8",
     "inline; filename=\"_;x=_.txt\"; filename*=UTF-8''%22%3Bx%3D%22.txt"),
    ("%C3%96l.pdf", "application/pdf",
     "attachment; filename=\"_l.pdf\"; filename*=UTF-8''%C3%96l.pdf"),
    ("../../etc/passwd", "application/octet-stream", 'attachment; filename="passwd"'),
    ("C:%5Cphotos%5Cme.jpg", "image/jpeg", 'inline; filename="me.jpg"'),
    ("x" * 300 + ".txt", "text/plain; charset=utf-8", f'inline; filename="{"x" * 251}.txt"'),
    ("", "application/octet-stream", "attachment"),
    ("..", "application/octet-stream", "attachment"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "kind", "disposition"), DOWNLOAD_NAMES)
def test_name_of_a_download(
    name: str, kind: str, disposition: str, service: Service, file: bytes, digest: str
) -> None:
    answer = service.get_file(digest, f"&name={name}")
    assert (answer.status_code, answer.content) == (200, file)
    assert answer.headers["Content-Type"] == kind
    assert answer.headers.get("Content-Disposition") == disposition


@pytest.mark.parametrize("name", ["a%0D%0AX-Evil:%20yes", "a%00", "%FF", "100%"])
def test_name_that_is_refused(name: str, service: Service, digest: str) -> None:
    request = raw.head(f"GET /?file_hash={digest}&name={name}")
    answer = raw.ask(service.daemon.connect(), request)
    assert (answer.status, "x-evil" in answer.fields) == (400, False)


def test_stat(service: Service, file: bytes, digest: str) -> None:
    answer = service.get_file(digest, "&stat")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    row = answer.json()
    stored_at = datetime.fromisoformat(row.pop("stored_at"))
    assert stored_at == datetime.fromtimestamp(STORED_AT, timezone.utc)  # noqa: UP017
    assert row == {"file_hash": digest, "size": len(file), "algorithm": "md5"}


def test_stat_of_what_is_not_there(service: Service) -> None:
    assert service.get_file("0" * 32, "&stat").status_code == 404


def test_empty_file(service: Service) -> None:
    digest = service.post("/", data=b"").text
    for fields in ({}, {"Range": "bytes=-5"}):
        answer = service.get_file(digest, **fields)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["Content-Length"] == "0"
    assert service.get_file(digest, Range="bytes=0-").status_code == 416
    assert service.get_file(digest, "&stat").json()["size"] == 0


# Given again: the second time its head is remembered, the third time all of it where it is small.


@pytest.mark.parametrize("fields", [{}, {"Range": "bytes=2-4"}], ids=["whole", "range"])
def test_the_same_is_given_again(service: Service, digest: str, fields: dict[str, str]) -> None:
    answers = [service.get_file(digest, **fields) for _ in range(4)]
    told = [(answer.status_code, answer.content) for answer in answers]
    assert told == [told[0]] * 4
    for answer in answers:
        for changing in "Date", "X-Request-Id":
            del answer.headers[changing]
    assert [answer.headers for answer in answers] == [answers[0].headers] * 4


@pytest.mark.parametrize("times", [1, 2])
def test_what_was_deleted_is_not_given_again(service: Service, digest: str, times: int) -> None:
    for _ in range(times):
        assert service.get_file(digest).ok
    assert service.delete(f"/?file_hash={digest}").ok
    assert service.get_file(digest).status_code == 404


def test_a_large_file_that_a_hand_has_changed_is_not_given_with_its_old_head(
    service: Service,
) -> None:
    digest = service.post("/", data=LARGE + b"changed").text
    assert service.get_file(digest).ok
    path = path_in(service.daemon.store, digest)
    path.write_bytes(b"shorter")
    os.utime(path, (STORED_AT, STORED_AT))
    answer = service.get_file(digest)
    assert (answer.content, answer.headers["Last-Modified"]) == (b"shorter", THEN)
    path.unlink()
    assert service.get_file(digest).status_code == 404


def test_nor_with_its_old_time(service: Service) -> None:
    digest = service.post("/", data=LARGE + b"touched").text
    assert service.get_file(digest).headers["Last-Modified"] != THEN
    os.utime(path_in(service.daemon.store, digest), (STORED_AT, STORED_AT))
    assert service.get_file(digest).headers["Last-Modified"] == THEN


def test_nor_with_its_old_length(service: Service) -> None:
    digest = service.post("/", data=LARGE + b"cut").text
    assert service.get_file(digest).ok
    path = path_in(service.daemon.store, digest)
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.write_bytes(b"cut")
    os.utime(path, ns=times)
    assert service.get_file(digest).content == b"cut"
