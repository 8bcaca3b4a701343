"""What a browser, or a person in front of a terminal, cannot be tricked with."""

from __future__ import annotations

import json
from stat import S_IMODE
from subprocess import run

import pytest

from httpd.app.download import POLICY, POLICY_OF_PLAYED
from httpd.app.media_types import INERT
from tests import raw
from tests.daemons import Daemon
from tests.service import Service

MARKUP = b"<!doctype html><script>alert(document.domain)</script>"
UNKNOWN = "0" * 32

# Every kind of answer, by the request for it; DIGEST and ID stand for what is stored.
ANSWERS = {
    "page": raw.head("GET /", "Accept: text/html"),
    "usage": raw.head("GET /"),
    "receipt": raw.post(MARKUP),
    "receipt as JSON": raw.post(MARKUP, "Accept: application/json"),
    "receipt of an id": raw.post(MARKUP, target="/files/a.html"),
    "content": raw.head("GET /?file_hash=DIGEST"),
    "content with a name": raw.head("GET /?file_hash=DIGEST&name=a.html"),
    "content by id": raw.head("GET /files/ID/"),
    "range": raw.head("GET /?file_hash=DIGEST", "Range: bytes=1-2"),
    "ranges": raw.head("GET /?file_hash=DIGEST", "Range: bytes=1-2,4-5"),
    "not modified": raw.head("GET /?file_hash=DIGEST", "If-None-Match: *"),
    "no range": raw.head("GET /?file_hash=DIGEST", "Range: bytes=999-"),
    "what is known": raw.head("GET /?file_hash=DIGEST&stat"),
    "list": raw.head("GET /files/"),
    "health": raw.head("GET /healthz"),
    "deletion": raw.head(f"DELETE /?file_hash={UNKNOWN}"),
    "unknown": raw.head("GET /nowhere"),
    "unknown as JSON": raw.head("GET /nowhere", "Accept: application/json"),
    "method": raw.head("BREW /"),
    "no HTTP": b"<script>\r\n\r\n",
    "no content": raw.head("POST /"),
}


@pytest.fixture
def file_id(service: Service) -> str:
    return service.post("/files/a.html", data=MARKUP).text


@pytest.fixture
def markup(service: Service) -> str:
    return service.post("/", data=MARKUP).text


@pytest.mark.parametrize("request_", ANSWERS.values(), ids=ANSWERS)
def test_every_answer_is_taken_for_what_it_is(
    request_: bytes, service: Service, markup: str, file_id: str
) -> None:
    wanted = request_.replace(b"DIGEST", markup.encode()).replace(b"ID", file_id.encode())
    with service.daemon.connect() as client:
        client.sendall(wanted)
        client.shutdown(1)
        answer = raw.answer_in(raw.receive_all(client))
    assert answer.fields["x-content-type-options"] == "nosniff"
    assert answer.fields["server"] == "filestored"  # and no version of anything
    assert (answer.fields.get("cache-control") == "no-store") == (
        answer.status >= 400 or b"/healthz" in wanted
    )
    assert (
        not {"x-powered-by", "via", "set-cookie", "access-control-allow-origin"}
        & answer.fields.keys()
    )
    if answer.content:
        kind = answer.fields["content-type"].partition(";")[0]
        policy = answer.fields.get("content-security-policy", "")
        # Of what a browser would run, only the daemon's own page comes without being a download.
        assert kind in INERT | {"application/problem+json"} or "default-src 'none'" in policy
        assert policy or MARKUP not in answer.content


HANDED_OVER = [
    "a.html",
    "a.svg",
    "a.xml",
    "a.xhtml",
    "a.js",
    "a.pdf",
    "a.swf",
    "a.hta",
    "a",
    "a.txt.gz",
]
SHOWN = ["a.txt", "a.png", "a.jpg", "a.json", "a.csv", "a.mp4", "a.ogg"]
PLAYED = ["a.mp4", "a.ogg"]


@pytest.mark.parametrize("name", [*HANDED_OVER, *SHOWN])
def test_only_what_is_inert_is_shown_in_place(name: str, service: Service, markup: str) -> None:
    file_id = service.post(f"/files/{name}", data=MARKUP).text
    expected = "inline" if name in SHOWN else "attachment"
    for answer in (
        service.get_file(markup, f"&name={name}"),
        service.get_file(markup, f"&name={name}", Range="bytes=0-9"),
        service.get_file(markup, f"&name={name}", Range="bytes=0-9,12-13"),
        service.get(f"/files/{file_id}/"),
    ):
        disposition = answer.headers["Content-Disposition"]
        assert (answer.ok, disposition) == (True, f'{expected}; filename="{name}"')
        policy = POLICY_OF_PLAYED if name in PLAYED else POLICY
        assert answer.headers["Content-Security-Policy"] == policy
        assert "allow-scripts" not in policy


STATED = ["text/html", "TEXT/HTML", "image/svg+xml", "application/xhtml+xml", "text/xml",
          "application/javascript", "multipart/x-mixed-replace", "text/html;charset=utf-7",
          "message/rfc822", "x/y"]  # fmt: skip


@pytest.mark.parametrize("kind", STATED)
def test_a_stated_type_makes_nothing_inert(kind: str, service: Service) -> None:
    request = {"data": MARKUP, "headers": {"Content-Type": kind}}
    file_id = service.post("/files/picture.png", **request).text
    answer = service.get(f"/files/{file_id}/")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="picture.png"'
    assert "utf-7" not in answer.headers["Content-Type"]


SPLITTERS = ["%0D%0ASet-Cookie:%20a=b", "%0ASet-Cookie:%20a=b", "%0D%0A%0D%0A%3Cscript%3E", "%00",
             "%E5%98%8A%E5%98%8DSet-Cookie:%20a=b"]  # fmt: skip


@pytest.mark.parametrize("place", ["/files/{}", "/{}", "/?file_hash=DIGEST&name={}",
                                   "/files/?name={}", "/files/?after={}"])  # fmt: skip
@pytest.mark.parametrize("splitter", SPLITTERS)
def test_no_input_becomes_a_field(splitter: str, place: str, service: Service, markup: str) -> None:
    target = place.format(splitter).replace("DIGEST", markup)
    for request in (raw.head(f"GET {target}"), raw.post(b"split", target=target)):
        answer = raw.ask(service.daemon.connect(), request)
        assert "set-cookie" not in answer.fields
        assert not answer.content.startswith(b"<script>")


DRIVERS = ["%C2%9B2J", "%E2%80%AEgpj.exe", "%E2%80%A8next", "%C2%85next"]


@pytest.mark.parametrize("driver", DRIVERS)
def test_an_error_drives_no_terminal(driver: str, service: Service) -> None:
    for fields in ([], ["Accept: application/json"]):
        answer = raw.ask(service.daemon.connect(), raw.head(f"GET /files/{driver}/", *fields))
        assert answer.status == 404
        text = answer.content.decode()
        assert "\\u" in (json.loads(text)["detail"] if fields else text)
        assert text.removesuffix("\n").isprintable()


def test_nothing_is_open_to_others_whatever_the_umask(daemon: Daemon) -> None:
    start = ["sh", "-c", 'umask 0; exec "$@"', "-", *daemon.line("start")]
    done = run(start, cwd=daemon.folder, env=daemon.env, check=True, capture_output=True, text=True)
    daemon.note(done.stdout)
    with Service(daemon) as service:
        service.post("/", data=b"hello")
        service.post("/files/a.txt", data=b"named")
    made = set(daemon.folder.rglob("*"))
    assert {daemon.store, daemon.logs / "access.log", daemon.store / ".catalog.db"} <= made
    made.remove(daemon.pidfile)  # a number that everybody can see in /proc as well
    for path in made:
        assert S_IMODE(path.stat().st_mode) & 0o027 == 0, path
    assert S_IMODE(daemon.pidfile.stat().st_mode) & 0o022 == 0
