from __future__ import annotations

import json
import re
from datetime import datetime

import pytest

from httpd import log
from httpd.exchange import Fields
from httpd.protocol.head import Head
from httpd.server.accesslog import AccessLog
from httpd.server.clock import Clock
from httpd.server.connection import Handler
from tests.served import request
from tests.server.conftest import Serve


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    batches: list[str] = []
    monkeypatch.setattr(log, "access_wanted", lambda: True)
    monkeypatch.setattr(log, "access", batches.append)
    return batches


def head(target: str = "/", **fields: str) -> Head:
    lines = [(name.replace("_", "-"), value) for name, value in fields.items()]
    return Head("GET", target, (1, 1), Fields(lines))


def note(
    access: AccessLog, peer: str, head: Head | None, status: int, size: int, seconds: float
) -> None:
    access.add(peer, access.describe(head, status, size), seconds, "abc")


def test_a_line_is_in_the_combined_format_with_the_seconds_behind(batches: list[str]) -> None:
    access = AccessLog(Clock())
    note(access, "10.0.0.9", head("/x?y", user_agent="curl/8", referer="http://a/"), 206, 17, 0.25)
    access.flush()
    assert re.fullmatch(
        r"10\.0\.0\.9 - - \[\d\d/[A-Z][a-z]{2}/\d{4}(:\d\d){3} [+-]\d{4}] "
        r'"GET /x\?y HTTP/1\.1" 206 17 "http://a/" "curl/8" 0\.250000 abc\n',
        batches[0],
    )


def test_what_could_not_be_read_is_a_dash(batches: list[str]) -> None:
    access = AccessLog(Clock())
    note(access, "unix:", None, 400, 0, 0)
    access.flush()
    assert '] "-" 400 0 "-" "-" 0.000000 abc\n' in batches[0]


@pytest.mark.parametrize(
    ("sent", "written"),
    [
        ('" 200 0 "', r"\x22 200 0 \x22"),
        ("a\r\nb", r"a\x0d\x0ab"),
        ("\x1b[2J\x07\x00", r"\x1b[2J\x07\x00"),
        ("caf\xe9\x85\xa0\x7f", r"caf\xe9\x85\xa0\x7f"),
        (r"\x22", r"\x5cx22"),  # or it would pass for an escaped quote
    ],
)
def test_no_client_can_forge_a_line(batches: list[str], sent: str, written: str) -> None:
    access = AccessLog(Clock())
    note(access, "::1", head(f"/{sent}", referer=sent, user_agent=sent), 200, 0, 0)
    access.flush()
    assert f'"GET /{written} HTTP/1.1" 200 0 "{written}" "{written}" ' in batches[0]
    assert batches[0].count("\n") == 1
    assert batches[0].isascii()


def test_a_line_may_be_an_object(batches: list[str]) -> None:
    access = AccessLog(Clock(), "json")
    before = datetime.now().astimezone().replace(microsecond=0)
    note(access, "10.0.0.9", head("/x?y", user_agent='a"\n\\\x1b\xe9'), 206, 17, 0.25)
    note(access, "unix:", None, 400, 0, 0)
    access.flush()
    read, unread = map(json.loads, batches[0].splitlines())
    assert before <= datetime.fromisoformat(read.pop("time")) <= datetime.now().astimezone()
    assert read == {
        "peer": "10.0.0.9", "method": "GET", "target": "/x?y", "protocol": "HTTP/1.1",
        "status": 206, "bytes": 17, "referer": None, "agent": 'a"\n\\\x1b\xe9', "seconds": 0.25,
        "request_id": "abc",
    }  # fmt: skip
    assert (unread["peer"], unread["method"], unread["target"]) == ("unix:", None, None)
    assert batches[0].isascii()


def test_no_format_is_no_line(batches: list[str]) -> None:
    access = AccessLog(Clock(), "none")
    note(access, "a", None, 400, 0, 0)
    access.flush()
    assert batches == []


def test_lines_are_written_together_and_once(batches: list[str]) -> None:
    access = AccessLog(Clock())
    access.flush()
    assert batches == []
    note(access, "a", None, 400, 0, 0)
    note(access, "b", None, 400, 0, 0)
    access.flush()
    access.flush()
    assert [batch.count("\n") for batch in batches] == [2]


def test_nothing_is_noted_where_the_level_is_too_high(
    batches: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "access_wanted", lambda: False)
    access = AccessLog(Clock())
    note(access, "a", None, 400, 0, 0)
    access.flush()
    assert batches == []


def test_requests_of_one_turn_make_one_write(serve: Serve, echo: Handler) -> None:
    served = serve(echo)
    client = served.connect()
    client.send(request("/first") + request("/second"))
    client.read_reply()
    client.read_reply()
    served.catch_up()
    assert len(served.batches) == 1
    assert [line.split()[6] for line in served.lines] == ["/first", "/second"]


def test_the_size_is_that_of_the_content_without_the_head(serve: Serve, echo: Handler) -> None:
    served = serve(echo)
    served.ask(request("/x"))
    served.catch_up()
    assert '"GET /x HTTP/1.1" 200 7 "-" "-" ' in served.lines[0]
