"""Uploads by hash as `multipart/form-data`, from browsers and `curl -F`."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest

from httpd.app.form import Form
from httpd.exchange import Fields, Refusal, Request
from tests import raw
from tests.daemons import Daemon, until
from tests.raw import BOUNDARY, FILE, form, part
from tests.service import Service

CLOSING = f"--{BOUNDARY}--".encode()
KIND = f"Content-Type: multipart/form-data; boundary={BOUNDARY}"


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def send(service: Service, request: bytes) -> raw.Answer:
    return raw.ask(service.daemon.connect(), request)


def test_several_files_in_their_order(service: Service, content: bytes) -> None:
    contents = [content + bytes([number]) for number in range(20)]
    files = [("file", (f"{number}.bin", each)) for number, each in enumerate(contents)]
    answer = service.post("/", files=files)
    assert (answer.status_code, answer.text.split("\n")) == (200, [md5(each) for each in contents])
    assert not {"ETag", "Location"} & answer.headers.keys()
    assert [service.get_file(md5(each)).content for each in contents] == contents


def test_several_files_as_json(service: Service, content: bytes) -> None:
    files = [("a", ("1.bin", content)), ("b", ("2.bin", content)), ("c", ("3.bin", b""))]
    answer = service.post("/", files=files, headers={"Accept": "application/json"})
    rows = [(md5(content), len(content), True), (md5(content), len(content), False)]
    assert [(row["file_hash"], row["size"], row["created"]) for row in answer.json()[:2]] == rows
    assert (answer.json()[2]["file_hash"], answer.json()[2]["size"]) == (md5(b""), 0)


def test_files_beside_other_fields(service: Service, content: bytes) -> None:
    fields = {"token": "x" * 100_000, "submit": "Store"}
    answer = service.post("/", data=fields, files={"file": ("a.txt", content)})
    assert (answer.status_code, answer.text) == (200, md5(content))


NO_FILE = 'name="token"'
# Each is what a browser or a program sends; all of them have one file, whose bytes are CONTENT.
CONTENT = b"one\r\n--frontie\r\n-\r\n--front--\r\n--frontie\r\n\r\n--\r"
GOOD_FORMS = {
    "one file": form(part(FILE, CONTENT)),
    "without the last line end": form(part(FILE, CONTENT), closing=CLOSING),
    "with an empty line before": form(b"\r\n", part(FILE, CONTENT)),
    "nothing chosen in another": form(part('name="b"; filename=""', b""), part(FILE, CONTENT)),
    "text before and after": form(b"hi\r\n", part(FILE, CONTENT), closing=CLOSING + b"\r\nbye"),
    "field without a name": form(part("x=y", b""), part(FILE, CONTENT)),
    "fields around": form(part(NO_FILE, b"x"), part(FILE, CONTENT), part(NO_FILE, b"")),
    "boundary in quotes": form(part(FILE, CONTENT)).replace(b"=frontier", b'="frontier"'),
    "kind in capitals": form(part(FILE, CONTENT)).replace(b"multipart/form", b"Multipart/FORM"),
}


@pytest.mark.parametrize("request_", GOOD_FORMS.values(), ids=GOOD_FORMS)
def test_form_with_one_file(request_: bytes, service: Service) -> None:
    answer = send(service, request_)
    assert (answer.status, answer.content.decode()) == (200, md5(CONTENT))
    assert answer.fields["location"] == f"/?file_hash={md5(CONTENT)}&name=a.txt"


# Only a form that is good to its end is stored: each begins with a file that is complete.
SECRET = b"never to be stored"
BEGIN = part(FILE, SECRET)
BAD_FORMS = {
    "empty": (form(closing=b""), 400, "malformed form"),
    "no part": (form(), 400, "the form has no file"),
    "no file": (form(part(NO_FILE, b"x")), 400, "the form has no file"),
    "nothing chosen": (form(part('name="b"; filename=""', b"")), 400, "the form has no file"),
    "no end": (form(BEGIN, closing=b""), 400, "malformed form"),
    "half an end": (form(BEGIN, closing=CLOSING[:-2]), 400, "malformed form"),
    "end within a head": (form(BEGIN, b"--frontier\r\nContent-", closing=b""), 400, "malformed"),
    "bytes after a boundary": (form(BEGIN, b"--frontier!\r\n"), 400, "malformed form"),
    "part without a head": (form(BEGIN, b"--frontier\r\n\r\nx\r\n"), 400, "malformed form"),
    "bare line feed": (form(BEGIN, b"--frontier\nContent-Disp"), 400, "malformed form"),
    "no colon": (form(BEGIN, b"--frontier\r\nhello\r\n\r\n"), 400, "malformed form"),
    "name that is not UTF-8": (form(BEGIN, part(FILE, b"").replace(b"a", b"\xff")), 400, "malfor"),
    "no boundary": (raw.post(BEGIN, "Content-Type: multipart/form-data"), 400, "malformed form"),
    "empty boundary": (raw.post(BEGIN, KIND.replace(BOUNDARY, '""')), 400, "malformed form"),
    "other boundary": (raw.post(BEGIN + CLOSING, KIND + "s"), 400, "malformed form"),
    "long boundary": (raw.post(BEGIN, KIND + "s" * 1100), 400, "malformed form"),
    "long head": (form(BEGIN, part(f'name="{"x" * 9000}"', b"")), 413, "form too large"),
    "many heads": (form(BEGIN, part(FILE + "\r\nA: b" * 9, b"")), 413, "form too large"),
    "many parts": (form(BEGIN, *[part(NO_FILE, b"")] * 1000), 413, "form too large"),
    "large fields": (form(BEGIN, *[part(NO_FILE, b"x" * 600_000)] * 2), 413, "the form's fields"),
}  # fmt: skip


@pytest.mark.parametrize(("request_", "status", "reason"), BAD_FORMS.values(), ids=BAD_FORMS)
def test_bad_form_stores_nothing(
    request_: bytes, status: int, reason: str, service: Service
) -> None:
    answer = send(service, request_)
    assert answer.status == status
    assert answer.content.decode().startswith(reason)
    assert service.get_file(md5(SECRET)).status_code == 404


def outcome(kind: str, pieces: list[bytes]) -> tuple[int, bytes]:
    """Read a form that comes in these pieces: the status it leads to, and the bytes of files."""

    async def content() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    async def read() -> tuple[int, bytes]:
        fields = Fields([("content-type", kind)])
        request = Request("POST", "/", (), fields, content(), "peer")  # type: ignore[arg-type]
        found = b""
        try:
            async for event in Form(request, content()):
                found += event if isinstance(event, bytes) else b"|"
        except Refusal as refusal:
            return refusal.status, b""
        return 200, found

    return asyncio.run(read())


@pytest.mark.parametrize("name", [*GOOD_FORMS, *BAD_FORMS])
def test_outcome_does_not_depend_on_how_the_bytes_are_split(name: str) -> None:
    whole = GOOD_FORMS[name] if name in GOOD_FORMS else BAD_FORMS[name][0]
    head, _, content = whole.partition(b"\r\n\r\n")
    kind = head.decode().partition("Content-Type: ")[2]
    content = content[:500]  # what is larger is so to exceed a limit
    expected = outcome(kind, [content] if content else [])
    assert outcome(kind, [content[at : at + 1] for at in range(len(content))]) == expected
    for at in range(1, len(content)):
        assert outcome(kind, [content[:at], content[at:]]) == expected, at


@pytest.mark.parametrize(
    ("filename", "kept"),
    [
        ('filename="photo.jpg"', "photo.jpg"),
        ("filename=photo.jpg", "photo.jpg"),
        ('filename="Öl.pdf"', "Öl.pdf"),
        ('filename="say %22hi%22.txt"', 'say "hi".txt'),
        (r'filename="say \"hi\".txt"', 'say "hi".txt'),
        ('filename="a%0D%0Ab.txt"', "ab.txt"),
        (r'filename="C:\photos\me.jpg"', "me.jpg"),
        ('filename="../../etc/passwd"', "passwd"),
        ('filename=".."', None),
        ('filename="/"', None),
        (f'filename="{"x" * 300}.txt"', f"{'x' * 251}.txt"),
    ],
)
def test_name_in_a_form(filename: str, kept: str | None, service: Service) -> None:
    answer = send(service, form(part(f'name="file"; {filename}', CONTENT)))
    assert answer.status == 200
    name = "" if kept is None else f"&name={quote(kept)}"
    assert answer.fields["location"] == f"/?file_hash={md5(CONTENT)}{name}"


def test_as_many_files_as_there_may_be(service: Service) -> None:
    contents = [f"file {number} of many".encode() for number in range(1000)]
    answer = send(service, form(*[part(FILE, each) for each in contents]))
    assert (answer.status, answer.content.decode().split("\n")) == (200, list(map(md5, contents)))


def test_large_form_of_many_files_is_not_held_in_memory(daemon: Daemon) -> None:
    daemon.start("--workers=1")
    until(daemon.loaded)
    before = daemon.memory(anew=True)
    size = 120 * 1024  # less than what one file hands over while it arrives
    contents = [number.to_bytes(4) * (size // 4) for number in range(400)]
    answer = raw.ask(daemon.connect(), form(*[part(FILE, each) for each in contents]))
    assert (answer.status, answer.content.decode().split("\n")) == (200, list(map(md5, contents)))
    assert daemon.memory() - before < 16 << 20
