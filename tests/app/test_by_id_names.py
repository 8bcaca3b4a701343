"""Names of files by id: whatever comes in, what goes out is safe, and right where it can be."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

import pytest

from tests import raw
from tests.app.samples import JSON, upload
from tests.service import Service

# RFC 6266 section 4.1 and RFC 8187 section 3.2.1, and of the quoted string only what nobody reads
# differently: no escape, no control character, nothing beyond ASCII.
DISPOSITION = re.compile(
    r'(inline|attachment); filename="([ !#$&-\[\]-~]*)"'
    r"(?:; filename\*=UTF-8''((?:%[0-9A-F]{2}|[!#$&+\-.^_`|~0-9A-Za-z])+))?"
)
LONG = "x" * 300

# What the sender calls it -> what it is called from then on; None: by its id.
NAMES: dict[str, str | None] = {
    "photo.jpg": "photo.jpg",
    "a b.txt": "a b.txt",
    " a.txt ": "a.txt",
    'say "cheese".jpg': 'say "cheese".jpg',
    "a;b=c,d.txt": "a;b=c,d.txt",
    "a'b.txt": "a'b.txt",
    "100%.txt": "100%.txt",
    "%41%0A.txt": "%41%0A.txt",
    "a+b&c=d?e#f.txt": "a+b&c=d?e#f.txt",
    "<script>.html": "<script>.html",
    "Öl ~ 油 😀.pdf": "Öl ~ 油 😀.pdf",
    "e\u0301.txt": "e\u0301.txt",  # stays as composed as it was
    "..": None,
    ".": None,
    "...": "...",
    ".profile": ".profile",
    "C:\\photos\\me.jpg": "me.jpg",
    "\\": None,
    "gpj.\u202eexe": "gpj.exe",  # would be shown as gpj.exe read backwards
    "a\u2028b.txt": "ab.txt",
    f"{LONG}.txt": f"{LONG[:251]}.txt",
    LONG: LONG[:255],
    "油" * 100 + ".txt": "油" * 83 + ".txt",
    f"a.{LONG}": f"a.{LONG[:253]}",
    "": None,
}
# The same for what a path cannot say: it is refused there.
PATHS_AND_CONTROLS: dict[str, str | None] = {
    "../../etc/passwd": "passwd",
    "/etc/passwd": "passwd",
    "a/": None,
    "/": None,
    "a\nb.txt": "ab.txt",
    "a\r\nSet-Cookie: x=y.txt": "aSet-Cookie: x=y.txt",
    "a\0.txt": "a.txt",
    "\x7f\x1b[31m.txt": "[31m.txt",
    "\n": None,
}


def extended(name: str) -> str:
    return f"Content-Disposition: attachment; filename*=UTF-8''{quote(name, safe='')}"


def quoted(name: str) -> str:
    """Return a name as raw UTF-8 in a quoted string, with quoted pairs (RFC 9110 5.6.4)."""
    plain = re.sub(r'(["\\])', r"\\\1", name).encode().decode("latin-1")
    return f'Content-Disposition: attachment; filename="{plain}"'


def send(service: Service, content: bytes, *fields: str, target: str = "/files/") -> raw.Answer:
    request = raw.post(content, *fields, "Accept: application/json", target=target)
    return raw.ask(service.daemon.connect(), request)


def assert_named(service: Service, receipt: raw.Answer, kept: str | None) -> None:
    """Check a file's name wherever it is shown."""
    assert receipt.status == 201, receipt
    row = service.get("/files/?limit=1").json()[0]
    name = kept or row["id"]
    assert receipt.fields["location"] == f"/files/{row['id']}/"
    assert row["name"] == name
    field = service.get(f"/files/{row['id']}/").headers["Content-Disposition"]
    found = DISPOSITION.fullmatch(field)
    assert found, field
    _, plain, exact = found.groups()
    assert (unquote(exact, errors="strict") if exact else plain) == name
    assert plain == re.sub(r'[^ -~]|["\\%]', "_", name)


@pytest.mark.parametrize(("name", "kept"), [*NAMES.items(), *PATHS_AND_CONTROLS.items()])
def test_name_in_an_extended_value(
    name: str, kept: str | None, service: Service, content: bytes
) -> None:
    assert_named(service, send(service, content, extended(name)), kept)


@pytest.mark.parametrize(("name", "kept"), NAMES.items())
def test_name_in_a_quoted_string(
    name: str, kept: str | None, service: Service, content: bytes
) -> None:
    assert_named(service, send(service, content, quoted(name)), kept)


@pytest.mark.parametrize(("name", "kept"), NAMES.items())
def test_name_in_the_path(name: str, kept: str | None, service: Service, content: bytes) -> None:
    target = f"/files/{quote(name, safe='')}"
    assert_named(service, send(service, content, target=target), kept)


@pytest.mark.parametrize("name", PATHS_AND_CONTROLS)
def test_name_that_no_path_can_have(name: str, service: Service, content: bytes) -> None:
    answer = send(service, content, target=f"/files/{quote(name, safe='')}")
    assert answer.status == 400
    assert b"slash" in answer.content or b"control" in answer.content


@pytest.mark.parametrize(
    ("disposition", "kept"),
    [
        ('form-data; name="file"; filename="a.txt"', "a.txt"),
        ("attachment; filename=a.txt; filename*=UTF-8''%C3%B6.txt", "ö.txt"),
        ("attachment; filename=a.txt; filename*=UTF-8''%FF", "a.txt"),
        ('attachment; filename="caf\xe9.txt"', "café.txt"),
        ("attachment", None),
        ('attachment; filename="a.txt', None),
        ("attachment; filename=a b.txt", None),
        ("attachment filename=a.txt", None),
        ("attachment; filename=a.txt; filename=b.txt", None),
        ("; filename=a.txt", None),
        ("", None),
    ],
)
def test_disposition(disposition: str, kept: str | None, service: Service, content: bytes) -> None:
    assert_named(service, send(service, content, f"Content-Disposition: {disposition}"), kept)


def test_path_wins_over_the_disposition(service: Service, content: bytes) -> None:
    receipt = send(service, content, extended("other.txt"), target="/files/path.txt")
    assert_named(service, receipt, "path.txt")


FORM_NAMES = ["photo.jpg", "a b;c.txt", "Öl.pdf", "../../etc/passwd", f"{LONG}.txt", "..", "a/"]


@pytest.mark.parametrize("name", FORM_NAMES)
def test_name_in_a_form(name: str, service: Service, content: bytes) -> None:
    part = raw.part(f'name="file"; filename="{name}"', content)
    receipt = raw.ask(
        service.daemon.connect(), raw.form(part).replace(b"POST / ", b"POST /files/ ", 1)
    )
    assert_named(service, receipt, {**NAMES, **PATHS_AND_CONTROLS}.get(name, name))


# ---- the type: as stated, or else as the name says

TYPES = [
    (None, "a.jpg", "image/jpeg", "inline"),
    (None, "a.html", "text/html; charset=utf-8", "attachment"),
    (None, "a.tar.gz", "application/octet-stream", "attachment"),
    (None, "README", "application/octet-stream", "attachment"),
    ("image/png", "a.jpg", "image/png", "inline"),
    ("IMAGE/PNG", "a", "image/png", "inline"),
    ("application/x-thing; v=1", "a.jpg", "application/x-thing", "attachment"),
    ("text/plain", "a", "text/plain; charset=utf-8", "inline"),
    ("text/html", "a.txt", "text/html; charset=utf-8", "attachment"),
    ("image/svg+xml", "a.png", "image/svg+xml", "attachment"),
    ("application/octet-stream", "a.png", "image/png", "inline"),
    ("application/x-www-form-urlencoded", "a.txt", "text/plain; charset=utf-8", "inline"),
    ("nonsense", "a.txt", "text/plain; charset=utf-8", "inline"),
    ("", "a.txt", "text/plain; charset=utf-8", "inline"),
    ("image/png, text/html", "a.txt", "text/plain; charset=utf-8", "inline"),
]  # fmt: skip


@pytest.mark.parametrize(("stated", "name", "kind", "disposition"), TYPES)
def test_type(
    stated: str | None, name: str, kind: str, disposition: str, service: Service, content: bytes
) -> None:
    fields = [] if stated is None else [f"Content-Type: {stated}"]
    of_a_part = "".join(f"\r\n{field}" for field in fields)
    form = raw.form(raw.part(f'name="file"; filename="{name}"{of_a_part}', content))
    receipts = [
        send(service, content, *fields, target=f"/files/{name}"),
        raw.ask(service.daemon.connect(), form.replace(b"POST / ", b"POST /files/ ", 1)),
    ]
    for receipt in receipts:
        assert receipt.status == 201, receipt
        answer = service.get(receipt.fields["location"])
        assert answer.headers["Content-Type"] == kind
        assert answer.headers["Content-Disposition"] == f'{disposition}; filename="{name}"'


def test_type_in_the_list_is_without_parameters(service: Service, content: bytes) -> None:
    upload(service, content, "a.txt")
    assert service.get("/files/?limit=1", headers=JSON).json()[0]["type"] == "text/plain"
